"""The audit log's claims (issue 6): each item is a module of its own, ``tests/prove/audit_*.py``."""

from tests.bench import audit as bench
from tests.prove import (
    audit_coverage,
    audit_drill,
    audit_fail_closed,
    audit_kills,
    audit_live_drill,
    audit_mutations,
    audit_oracle,
    audit_pack,
)
from tests.prove.proof import Proof
from tests.prove.running import FOLDER


def prove(*, full: bool, only: list[str]) -> int:
    proof = Proof("audit")
    steps = {
        "1": lambda: audit_drill.prove(proof, full=full),
        "2": lambda: two_of_everything(proof, full=full),
        "3": lambda: audit_kills.kills(proof, full=full),
        "4": lambda: audit_fail_closed.prove_fail_closed(proof, full=full),
        "5": lambda: bounds(proof),
        "6": lambda: audit_pack.pack_item(proof),
        "7": lambda: audit_coverage.prove(proof),
        "8": lambda: audit_live_drill.prove(proof),
    }
    return proof.run(steps, only, FOLDER)


def two_of_everything(proof: Proof, *, full: bool) -> None:
    """Item 2: a second implementation of the tree, and a second verifier."""
    audit_oracle.prove(proof, full=full)
    audit_mutations.campaign(proof, count=audit_mutations.CASES[full])


def bounds(proof: Proof) -> None:
    """Item 5: the figures of ``python -m tests.bench.audit``."""
    figures = bench.measured(100_000, 5.0)
    for name, (sign, bound) in bench.BOUNDS.items():
        proof.check("5", name, f"{figures[name]:,.1f}", f"{sign} {bound:,}", bench.holds(name, figures[name]))
