"""The claims of personalised learning: as good as its peers, correct under masks, honest about benefit."""

from tests.prove.harmful_federation import prove_harmful
from tests.prove.personalised_anchors import anchors, many_sites
from tests.prove.proof import Proof
from tests.prove.real_runs import real_runs, same_as_simulated
from tests.prove.running import FOLDER
from tests.prove.secure_aggregation import outcome_of, pytest

CONFORMANCE = {
    "what leaves, resume, load of what was saved, eval": ("test_conformance.py",),
    "masked against plain": ("test_conformance_masked.py",),
    "limit cases equal FedAvg or local-only": ("test_limit_cases.py",),
    "formulas against naive code": ("test_formulas.py",),
    "golden figures on cytology": ("test_golden.py",),
    "every model in a whole run": ("test_models.py", "test_model_runs.py"),
    "differential privacy: accountant, noise, ledger, refusals": (
        "test_privacy_numbers.py",
        "test_privacy_ledger.py",
        "test_privacy_runs.py",
        "test_privacy_sites.py",
        "test_privacy_steps.py",
        "test_privacy_cytology.py",
    ),
}


def prove(*, full: bool, only: list[str]) -> int:
    proof = Proof("personalised-learning")
    steps = {
        "1": lambda: anchors(proof, full=full),
        "2": lambda: many_sites(proof, full=full),
        "3": lambda: conformance(proof),
        "4": lambda: real_runs(proof, full=full),
        "5": lambda: same_as_simulated(proof),
        "6": lambda: prove_harmful(proof, full=full),
    }
    return proof.run(steps, only, FOLDER)


def conformance(proof: Proof) -> None:
    """The suites over the whole catalog, one line each."""
    for claim, files in CONFORMANCE.items():
        done = pytest(*(f"tests/fl_jobs/{name}" for name in files), "--timeout=1200")
        proof.check("3", claim, outcome_of(done), "0 failed", done.returncode == 0)
