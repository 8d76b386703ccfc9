"""The site's own log and the portal's hold each other: each one's heads stand in the other.

At most once a minute, and only when something happened here: the head of the portal that was signed last goes
into the site's log, the head of the site's log goes to the portal, and the receipt is kept beside the file.
"""

import json
import time
from datetime import UTC, datetime

from compliance.merkle import consistency_proof
from compliance.note import Checkpoint, NoteError, SignedNote, encode_base64, sign, verifier_key
from compliance.sqlite_log import SqliteLog
from compliance.tiles import TiledTree
from fl_jobs.approval import site_log
from fl_jobs.tensor_files import write_bytes
from site_kits.agent import witness_files as files
from site_kits.agent.portal import PortalDoor, PortalRefusedError, Signer
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome, read_state
from site_kits.translation import _

EVERY_S = 60.0
_PATH = "/audit/v1/anchors"
_UNFIT = 422


class Anchoring:
    """One site's anchors. ``anchor_if_grown`` is cheap when there is nothing to do."""

    def __init__(self, home: SiteHome, manifest: KitManifest, door: PortalDoor) -> None:
        self._home, self._manifest, self._door = home, manifest, door
        self._folder = home.root / site_log.FOLDER
        self._last = -EVERY_S

    def anchor_if_grown(self, signer: Signer) -> bool:
        """Whether a head was anchored. Raises AgentError, SiteLogError, LogUnavailableError, OSError."""
        year = datetime.now(UTC).year
        if time.monotonic() - self._last < EVERY_S or not (self._folder / f"{year}.sqlite3").exists():
            return False
        log = site_log.open_log(self._home.root, year)
        origin = f"{self._manifest.federation}/{self._manifest.site}/log/{year}"
        done = read_state(self._folder / "anchored.json").get(origin, 0)
        if log.size() <= done:
            return False
        self._last = time.monotonic()
        seen = files.memory(self._home, self._manifest.federation)
        if seen is not None and seen.note:
            site_log.record(self._home.root, "portal.checkpoint", obj=seen.origin, note=seen.note)
        self._send(signer, log, origin, int(done))
        return True

    def _send(self, signer: Signer, log: SqliteLog, origin: str, done: int) -> None:
        tree = log.tree()
        key = files.load_or_make_key(self._folder / "key.pem")
        note = sign(str(Checkpoint(origin, tree.size, tree(0, tree.size))), origin, key)
        log.add_head(tree.size, str(note))
        receipt = self._accepted(signer, tree, str(note), [done, *log.head_sizes(done, tree.size)])
        self._check(receipt)
        write_bytes(self._folder / "receipt.txt", receipt)
        write_bytes(self._folder / "log-key.txt", str(verifier_key(origin, key)).encode() + b"\n")
        write_bytes(self._folder / "anchored.json", json.dumps({origin: tree.size}).encode())

    def _accepted(self, signer: Signer, tree: TiledTree, note: str, starts: list[int]) -> bytes:
        """The receipt. When an answer was lost the portal knows a later head than the first."""
        for start in starts:
            proof = consistency_proof(tree, start, tree.size) if start else []
            body = {"checkpoint": note, "consistency": [encode_base64(one) for one in proof]}
            try:
                return self._door.ask(signer, "POST", _PATH, json.dumps(body).encode())
            except PortalRefusedError as exc:
                if exc.status != _UNFIT or start == starts[-1]:
                    raise
        raise AssertionError("starts is never empty")

    def _check(self, receipt: bytes) -> None:
        """A promise of the log that this site knows. Raises AgentError for anything else."""
        known = files.known_log(self._home)
        try:
            note = SignedNote.parse(receipt.decode())
            signed = known is not None and files.is_signed_by(note, known)
        except (NoteError, UnicodeDecodeError):
            signed = False
        if not signed:
            raise AgentError(
                _("The portal gave no receipt of its log for this site's log; it is asked again.")
            )
