"""At each visit the portal hashes a piece of its stored log again, and the site compares with what it signed.

The piece is drawn by the site, so that nobody knows beforehand which rows will be looked at. A piece that is
not as it was is asked for again at every visit until it is, and said loudly meanwhile. What the portal
answered lies in ``state/witness/altered.json`` beside the signed head that it contradicts.
"""

import json
import secrets
import time
from pathlib import Path
from typing import Any, Final

from compliance.merkle import ProofError
from compliance.note import NoteError, decode_base64
from compliance.pieces import PIECE, root_of_piece
from compliance.witness import WitnessState
from site_kits.agent import witness_files as files
from site_kits.agent.portal import PortalDoor, PortalRefusedError, Signer
from site_kits.agent.status import utc_now
from site_kits.site_home import SiteHome, read_state, write_state
from site_kits.translation import _

NO_ANSWER: Final = frozenset({401, 403, 429})  # about this site, not about the log
MOST_SECONDS: Final = 1 << 36  # a time that can be written as a date
MOST_KEPT: Final = 65_536  # characters of an answer
LATE_S: Final = 600.0  # the portal looks every 30 s; clocks may differ by minutes
_PATH = "/audit/v1/recount"


def recount(home: SiteHome, federation: str, door: PortalDoor, signer: Signer) -> str | None:
    """Compare one piece; a sentence when it, or one before it, is not as this site signed it.

    Raises PortalUnreachableError: who is not reached hides nothing yet, OSError.
    """
    state = files.memory(home, federation)
    if state is None or not state.size:
        return None
    known = read_state(_path(home))
    start = PIECE * secrets.randbelow(-(-state.size // PIECE))
    if known.get("origin") == state.origin and isinstance(known.get("start"), int):
        start = known["start"]
    year = state.origin.rpartition("/")[2]
    try:
        text = door.ask(signer, "GET", f"{_PATH}?year={year}&size={state.size}&start={start}").decode()
    except PortalRefusedError as refusal:
        if refusal.status in NO_ANSWER or refusal.status >= 500:
            return altered(home)
        text = json.dumps({"refused": str(refusal)})
    if stands(text, start, state):
        _path(home).unlink(missing_ok=True)
    elif known.get("origin") != state.origin:
        found = {
            "origin": state.origin,
            "start": start,
            "answer": text[:MOST_KEPT],
            "signed": state.note,
            "at": utc_now(),
        }
        write_state(_path(home), found)
    return altered(home)


def stands(text: str, start: int, state: WitnessState) -> bool:
    """Whether the answered hashes of the piece lead to the root that this site signed."""
    end = min(start + PIECE, state.size)
    try:
        answer = json.loads(text)
        nodes, proof = ([decode_base64(str(one)) for one in answer[key]] for key in ("nodes", "proof"))
        return root_of_piece(start, end, state.size, nodes, proof) == state.root
    except (ValueError, KeyError, TypeError, RecursionError, NoteError, ProofError):
        return False


def altered(home: SiteHome) -> str | None:
    """The alarm: what was found and what to do."""
    found = read_state(_path(home))
    if not found:
        return None
    sentence = _(
        "THE PORTAL'S LOG HAS LOST OR CHANGED ENTRIES ({which}): what is stored there no longer leads to the "
        "head that this site signed, first seen {when} UTC. Keep {path}, tell the administrator, and ask "
        "other sites whether they see the same."
    )
    return sentence.format(which=_which(found), when=str(found.get("at", ""))[:16], path=_path(home))


def portals_own_check(said: Any, now: float) -> str | None:
    """What the portal says of its own stored log: a sentence when it finds something, or looks no more.

    A portal of a former version says nothing, and one that was just set up has not looked yet.
    """
    if not isinstance(said, dict):
        return None
    at, findings = said.get("checked"), said.get("findings")
    if not (isinstance(at, int) and isinstance(findings, int) and 0 <= at < MOST_SECONDS):
        return _("The portal's answer about its log is not of this version.")
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))
    if findings:
        sentence = _(
            "THE PORTAL ITSELF SAYS that {n} pieces of its stored log are not as they were signed, last seen "
            "{when} UTC. Tell the administrator, and ask other sites whether they see the same."
        )
        return sentence.format(n=findings, when=when)
    if now - at > LATE_S:
        sentence = _(
            "The portal has not checked its stored log since {when} UTC. Ask the administrator whether its "
            "worker and beat are running."
        )
        return sentence.format(when=when)
    return None


def _which(found: dict[str, Any]) -> str:
    try:
        indices = [str(int(index)) for index in json.loads(str(found.get("answer", "")))["altered"][:5]]
    except (ValueError, KeyError, TypeError, RecursionError):
        indices = []
    return _("number {n}").format(n=", ".join(indices)) if indices else _("it does not say which")


def _path(home: SiteHome) -> Path:
    return home.witness / "altered.json"
