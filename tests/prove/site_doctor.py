"""Item 3 of the life of a site: the doctor names the faults that hospitals really have."""

import re

from site_kits.agent.doctor import CHECKS
from tests.prove.proof import Proof
from tests.prove.secure_aggregation import last_line, pytest
from tests.site_kits.doctor_faults import FAULTS

SUITE = "tests/site_kits/test_doctor.py"
LEAST = 24 / 25  # of the faults


def prove_doctor(proof: Proof) -> None:
    """Each fault injected alone into an enrolled site with data; its own check has to name it first."""
    done = pytest(SUITE, "-k", "fault_is_named", "-rA")
    named = set(re.findall(r"^PASSED \S+\[(\w+)\]", done.stdout, re.MULTILINE))
    missed = sorted({fault.__name__.removeprefix("fault_") for fault in FAULTS} - named)
    figure = f"{len(named)} of {len(FAULTS)}" + (f", not {', '.join(missed)}" if missed else "")
    enough = len(FAULTS) >= 25 and len(named) >= LEAST * len(FAULTS)
    proof.check("3", "injected faults named by their own check", figure, "≥ 24 of 25", enough)
    proof.check("3", "checks", len(CHECKS), "≥ 25", len(CHECKS) >= 25)
    done = pytest(SUITE, "-k", "not fault_is_named")
    claim = "healthy site: no finding; JSON; Chinese; bundle without secrets"
    proof.check("3", claim, last_line(done), "0 failed", done.returncode == 0)
