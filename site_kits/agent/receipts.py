"""Receipts that the portal's log gave: kept until the entry is proven to stand under a head this site signed.

A log that gives a receipt and leaves the entry out is caught here and nowhere else. The receipts lie in
``state/log/receipts.json``; each one is the log's signed word, which any outsider can hold against it.
"""

import base64
import json
import time
from typing import Any, Final

from compliance.canonical import CanonicalError, parse_canonical
from compliance.merkle import is_included, leaf_hash
from compliance.note import Checkpoint, NoteError, SignedNote, decode_base64
from compliance.witness import WitnessState
from compliance.witness_store import StateDamagedError
from fl_jobs.approval import site_log
from site_kits.agent import witness_files as files
from site_kits.agent.portal import PortalDoor, PortalRefusedError, Signer
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome, read_state, write_state
from site_kits.translation import _

GRACE_S: Final = 60.0  # beside the receipt's own ``within_s``: this site's visits and the head in between
LONGEST_S: Final = 3600.0  # a log that promises less than this promises nothing
MOST: Final = 200  # the oldest are kept: they convict
_PATH = "/audit/v1/inclusion/"


class Receipts:
    """What this site still waits for. ``demand`` is cheap when that is nothing."""

    def __init__(self, home: SiteHome, door: PortalDoor) -> None:
        self._home, self._door = home, door
        self._path = home.root / site_log.FOLDER / "receipts.json"

    def keep(self, receipt: bytes, anchored: Checkpoint) -> None:
        """A receipt for the anchor of ``anchored``. Raises OSError, AgentError unless the log signed it."""
        promise = promise_of(receipt, files.known_log(self._home))
        waiting = self._waiting()
        if promise is None:
            raise AgentError(
                _("The portal gave no receipt of its log for this site's log; it is asked again.")
            )
        if all(one["id"] != promise["id"] for one in waiting) and len(waiting) < MOST:
            one = {"id": promise["id"], "receipt": receipt.decode(), "anchored": str(anchored)}
            within_s = min(float(promise["within_s"]), LONGEST_S)
            waiting.append(one | {"due": time.time() + within_s + GRACE_S})
            write_state(self._path, {"waiting": waiting})

    def demand(self, signer: Signer) -> str | None:
        """Ask for the proofs that are missing; a sentence when one is overdue.

        Raises PortalUnreachableError: who is not reached has not refused, OSError.
        """
        waiting, kept = self._waiting(), []
        for one in waiting:
            if not self._is_proven(signer, one):
                kept.append(one)
        if kept != waiting:
            write_state(self._path, {"waiting": kept})
        return overdue(self._home, time.time())

    def _is_proven(self, signer: Signer, one: dict[str, Any]) -> bool:
        promise = promise_of(str(one["receipt"]).encode(), files.known_log(self._home))
        if promise is None:  # of a log that this site was told to forget
            return True
        for state in self._states():
            path = f"{_PATH}{promise['id']}?year={state.origin.rpartition('/')[2]}&size={state.size}"
            try:
                answer = json.loads(self._door.ask(signer, "GET", path))
                if proves(answer, promise, str(one["anchored"]), state):
                    return True
            except (PortalRefusedError, ValueError):
                continue
        return False

    def _states(self) -> list[WitnessState]:
        """The trees this site signed, newest first: an entry may fall into the next year's."""
        found = []
        for path in sorted(self._home.witness.glob("[0-9][0-9][0-9][0-9].json"), reverse=True)[:2]:
            known = files.known_log(self._home)
            try:
                state = files.store_of(self._home, f"{known.name if known else ''}/{path.stem}").read()
            except StateDamagedError:  # the witness says so
                continue
            if state.size:
                found.append(state)
        return found

    def _waiting(self) -> list[dict[str, Any]]:
        return _read(self._home)


def promise_of(receipt: bytes, known: files.KnownLog | None) -> dict[str, Any] | None:
    """What the log promised; None unless ``known`` signed it and it is a receipt."""
    try:
        note = SignedNote.parse(receipt.decode())
        if known is None or not files.is_signed_by(note, known):
            return None
        promise = parse_canonical(note.text.removesuffix("\n").encode())
    except (NoteError, CanonicalError, UnicodeDecodeError):
        return None
    if not isinstance(promise, dict) or not isinstance(promise.get("within_s"), int):
        return None
    texts = (promise.get(key) for key in ("id", "leaf_hash", "ts"))
    return promise if all(isinstance(text, str) for text in texts) else None


def proves(answer: Any, promise: dict[str, Any], anchored: str, state: WitnessState) -> bool:
    """Whether the promised entry holds this site's head and stands in the tree that this site signed."""
    try:
        leaf = base64.b64decode(answer["entry"], validate=True)
        proof = [decode_base64(str(one)) for one in answer["proof"]]
        index = int(answer["index"])
        entry = json.loads(leaf)
        is_ours = entry["id"] == promise["id"] and SignedNote.parse(entry["data"]["note"]).text == anchored
    except (KeyError, TypeError, ValueError):
        return False
    digest = leaf_hash(leaf)
    is_promised = digest.hex() == promise["leaf_hash"]
    return is_ours and is_promised and is_included(digest, index, state.size, proof, state.root)


def overdue(home: SiteHome, now: float) -> str | None:
    """The alarm: how many promises of the log were not kept, and what to do."""
    late = [one for one in _read(home) if one["due"] < now]
    if not late:
        return None
    sentence = _(
        "THE PORTAL'S LOG HAS NOT KEPT ITS WORD: it signed receipts for {n} entries of this site and has not "
        "shown them in the log in time, the oldest since {when} UTC. Keep {path}, tell the administrator, "
        "and ask other sites whether they see the same."
    )
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(min(one["due"] for one in late)))
    return sentence.format(n=len(late), when=when, path=home.root / site_log.FOLDER / "receipts.json")


def overdue_receipts(home: SiteHome, now: float) -> list[str]:
    """The signed receipts themselves, for the portal's other people."""
    return [str(one["receipt"]) for one in _read(home) if one["due"] < now]


def _read(home: SiteHome) -> list[dict[str, Any]]:
    """A file that was damaged counts as empty; the next receipt begins it anew."""
    waiting = read_state(home.root / site_log.FOLDER / "receipts.json").get("waiting")
    whole = {"id": str, "receipt": str, "anchored": str, "due": float}
    return [
        one
        for one in (waiting if isinstance(waiting, list) else [])
        if isinstance(one, dict) and all(isinstance(one.get(key), kind) for key, kind in whole.items())
    ]
