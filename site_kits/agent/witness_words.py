"""What the operator reads when the portal's log does not look as it should, and what to do."""

from pathlib import Path
from typing import Any

from compliance.witness import ForeignError, ForgottenError, OlderError, UnprovenError, WitnessError
from site_kits.translation import _


def contradiction_sentence(evidence: Path) -> str:
    """What a proven contradiction means, where the proof lies, and what to do."""
    return _(
        "THE PORTAL'S LOG CONTRADICTS ITSELF: it signed two histories, so somebody has rewritten it. This "
        "site signs nothing more of it. Keep {file}; it proves this to anybody (verify.py --evidence). Tell "
        "your management and the other sites now. When it has been cleared up: consilium-site witness "
        "trust-again"
    ).format(file=evidence)


def refusal_sentence(refusal: WitnessError) -> str:
    """Why nothing was signed this time."""
    if isinstance(refusal, OlderError):
        return _(
            "The portal shows a log that is SHORTER than what this site has signed; entries are missing. "
            "Nothing was signed. Ask the administrator whether a backup was restored."
        )
    if isinstance(refusal, UnprovenError):
        return _(
            "The portal cannot show that its log only grew since this site signed it. Nothing was signed. "
            "Tell the administrator."
        )
    if isinstance(refusal, ForeignError):
        return _("The portal shows a checkpoint that its log did not sign. Tell the administrator.")
    if isinstance(refusal, ForgottenError):
        return _(
            "This site's witness had signed more than it remembers; was its folder restored from a backup? "
            "Its key is retired and a new one made."
        )
    return str(refusal)


def status_line(status: dict[str, Any]) -> str:
    """The line of ``consilium-site status``."""
    seen = status.get("witness") or {}
    if not seen:
        return _("  witness:          nothing signed yet")
    standing = sum(1 for one in seen.get("others", {}).values() if one.get("size") == seen.get("size"))
    return _(
        "  witness:          {size} entries of the portal's log signed at {time}, {n} other sites too"
    ).format(size=seen.get("size", "?"), time=seen.get("at", "?"), n=standing)
