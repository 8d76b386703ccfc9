"""The site's own log and the portal's hold each other: each one's heads stand in the other.

At most once a minute, but at once when a run starts and at each of its rounds, and only when something
happened here: the head of the portal that was signed last goes into the site's log, the head of the site's
log goes to the portal, and the receipt is kept until the entry is proven to stand in the portal's log.
"""

import json
import time
from datetime import UTC, datetime

from compliance.merkle import consistency_proof
from compliance.note import Checkpoint, encode_base64, sign, verifier_key
from compliance.sqlite_log import SqliteLog
from compliance.tiles import TiledTree
from fl_jobs.approval import site_log
from fl_jobs.tensor_files import write_bytes
from site_kits.agent import witness_files as files
from site_kits.agent.portal import PortalDoor, PortalRefusedError, Signer
from site_kits.agent.receipts import Receipts
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome, read_state

EVERY_S = 60.0
ROUND_EVERY_S = 5.0  # short rounds share an anchor
ROUND_ACTS = frozenset({"run.started", "update.sent"})
_PATH = "/audit/v1/anchors"
_UNFIT = 422


class Anchoring:
    """One site's anchors. ``anchor_if_grown`` is cheap when there is nothing to do."""

    def __init__(self, home: SiteHome, manifest: KitManifest, door: PortalDoor) -> None:
        self._home, self._manifest, self._door = home, manifest, door
        self._folder = home.root / site_log.FOLDER
        self._last = -EVERY_S
        self._receipts = Receipts(home, door)
        self._seen: tuple[int, int] | None = None  # year and size up to which rounds were looked for
        self._is_round_due = False

    def has_new_round(self) -> bool:
        """Whether a run started or a round's result left since the last anchor, and it is time to say so.

        Raises LogUnavailableError.
        """
        year = datetime.now(UTC).year
        if not (self._folder / f"{year}.sqlite3").exists():
            return False
        log = site_log.open_log(self._home.root, year)
        size = log.size()
        start = self._seen[1] if self._seen and self._seen[0] == year else size if self._seen is None else 0
        self._is_round_due |= any(json.loads(leaf)["act"] in ROUND_ACTS for leaf in log.leaves(start, size))
        self._seen = (year, size)
        return self._is_round_due and time.monotonic() - self._last >= ROUND_EVERY_S

    def demand_inclusion(self, signer: Signer) -> str | None:
        """A sentence when the portal's log gave a receipt and did not keep it. Raises AgentError, OSError."""
        return self._receipts.demand(signer)

    def anchor_if_grown(self, signer: Signer) -> bool:
        """Whether a head was anchored. Raises AgentError, SiteLogError, LogUnavailableError, OSError."""
        year = datetime.now(UTC).year
        pause_s = ROUND_EVERY_S if self._is_round_due else EVERY_S
        if time.monotonic() - self._last < pause_s or not (self._folder / f"{year}.sqlite3").exists():
            return False
        log = site_log.open_log(self._home.root, year)
        origin = f"{self._manifest.federation}/{self._manifest.site}/log/{year}"
        done = read_state(self._folder / "anchored.json").get(origin, 0)
        if log.size() <= done:
            return False
        self._last, self._is_round_due = time.monotonic(), False
        seen = files.memory(self._home, self._manifest.federation)
        if seen is not None and seen.note:
            site_log.record(self._home.root, "portal.checkpoint", obj=seen.origin, note=seen.note)
        self._send(signer, log, origin, int(done))
        return True

    def _send(self, signer: Signer, log: SqliteLog, origin: str, done: int) -> None:
        tree = log.tree()
        key = files.load_or_make_key(self._folder / "key.pem")
        head = Checkpoint(origin, tree.size, tree(0, tree.size))
        note = sign(str(head), origin, key)
        log.add_head(tree.size, str(note))
        receipt = self._accepted(signer, tree, str(note), [done, *log.head_sizes(done, tree.size)])
        self._receipts.keep(receipt, head)
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
