"""The claims of the life of a site: enrol, check, register data, approve, renew, leave."""

from tests.prove.proof import Proof
from tests.prove.running import FOLDER
from tests.prove.site_approval import prove_approval, prove_policy_laws
from tests.prove.site_certificates import prove_certificates
from tests.prove.site_console import prove_console
from tests.prove.site_demo import prove_demo
from tests.prove.site_doctor import prove_doctor
from tests.prove.site_invitation import prove_invitation


def prove(*, full: bool, only: list[str]) -> int:
    proof = Proof("site-life")
    steps = {
        "1": lambda: prove_invitation(proof, full=full),
        "2": lambda: prove_certificates(proof, full=full),
        "3": lambda: prove_doctor(proof),
        "4": lambda: prove_approval(proof, full=full),
        "5": lambda: prove_policy_laws(proof, full=full),
        "6": lambda: prove_console(proof, full=full),
        "7": lambda: prove_demo(proof),
    }
    return proof.run(steps, only, FOLDER)
