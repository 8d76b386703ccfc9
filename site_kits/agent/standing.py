"""What it means at the site that its certificate does not count, one loud sentence for each reason."""

from site_kits.agent.portal import PortalRefusedError
from site_kits.translation import _

UNAUTHORIZED = 401


def barred(refusal: PortalRefusedError) -> str | None:
    """Why the site may not take part now; None for a refusal that says nothing about its certificate."""
    if refusal.status != UNAUTHORIZED:
        return None
    sentences = {
        "revoked": _(
            "THE CERTIFICATE OF THIS SITE WAS REVOKED by the federation. Training is stopped. Ask the "
            "administrator why; to take part again unpack a new kit here."
        ),
        "suspended": _(
            "THIS SITE IS SUSPENDED by the federation. Training is stopped and goes on by itself when an "
            "administrator resumes the site; ask there why."
        ),
        "expired": _(
            "THE CERTIFICATE OF THIS SITE HAS EXPIRED. Training is stopped. Ask the administrator for a new "
            "kit and unpack it over this folder."
        ),
        "replaced": _(
            "THE CERTIFICATE OF THIS SITE WAS REPLACED by a newer one. Is a copy of this folder running "
            "elsewhere? Stop it; otherwise ask the administrator for a new kit."
        ),
        "left": _("THIS SITE HAS LEFT THE FEDERATION. To come back, ask the administrator for a new kit."),
    }
    return sentences.get(refusal.code)
