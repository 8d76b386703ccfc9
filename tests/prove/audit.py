"""The audit log's claims (issue 6): each item is a module of its own, ``tests/prove/audit_*.py``."""

from tests.prove import audit_coverage, audit_drill, audit_oracle
from tests.prove.proof import Proof
from tests.prove.running import FOLDER


def prove(*, full: bool, only: list[str]) -> int:
    proof = Proof("audit")
    steps = {
        "1": lambda: audit_drill.prove(proof, full=full),
        "2": lambda: audit_oracle.prove(proof, full=full),
        "7": lambda: audit_coverage.prove(proof),
    }
    return proof.run(steps, only, FOLDER)
