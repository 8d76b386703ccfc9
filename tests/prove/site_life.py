"""The claims of the life of a site: enrol, check, register data, approve, renew, leave."""

from tests.prove.proof import Proof
from tests.prove.running import FOLDER
from tests.prove.site_doctor import prove_doctor


def prove(*, full: bool, only: list[str]) -> int:
    proof = Proof("site-life")
    steps = {"3": lambda: prove_doctor(proof)}
    return proof.run(steps, only, FOLDER)
