"""The sequencer: gives committed entries their place in the tree and has its heads signed.

One process at a time. Places and tiles of a batch are one transaction; only then the signer is asked, so what
is signed is never rolled back. A crash in between costs nothing: the next head goes on from what was signed.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from django.db import Error, connection, transaction
from django.utils import timezone

from compliance.canonical import CanonicalError
from compliance.envelope import read_envelope
from compliance.merkle import ProofError, leaf_hash
from compliance.note import Checkpoint, NoteError, SignedNote, encode_base64, open_checkpoint
from compliance.signer.core import SignerError, SignsCheckpoints
from compliance.signer.door import SignerAwayError
from compliance.tiles import Edge
from platform_web.audit import selectors, services, storage
from platform_web.audit.errors import AuditError
from platform_web.audit.models import AuditHead, AuditSeq, AuditShard

BATCH = 2000
TICK_S = 0.25  # a batch waits so long for more
SIGN_EVERY_S = 0.7  # with the tick: a head within a second of an entry
LAG_S = 5.0
LOOK_EVERY_S = 2.0
log = logging.getLogger(__name__)


class RewrittenError(AuditError):
    """The tables no longer lead to a head that was signed: nothing more is signed."""


class Sequencer:
    """The leader's work. Every method may be called again after it failed; memory holds alarms only."""

    def __init__(self, signer: SignsCheckpoints) -> None:
        self._signer = signer
        self._alarms: set[str] = set()
        self._refused: set[int] = set()
        self._sign_at = self._look_at = 0.0

    def step(self) -> int:
        """Give the next batch its places: how many entries. Raises AuditError, SignerError, DatabaseError."""
        pending = storage.waiting(BATCH + len(self._refused))
        self._refused &= {entry.number for entry in pending}
        read = [(entry, year) for entry in pending if (year := self._year_of(entry)) is not None]
        if not read:
            return 0
        shard = selectors.current_shard()
        year = shard.year if shard is not None else 0
        batch = []
        for entry, its_year in read:
            if its_year > year:
                break
            batch.append((entry.number, leaf_hash(entry.leaf)))
        if not batch:
            self._open(read[0][1], shard)
            return self.step()
        self._place(year, batch)
        return len(batch)

    def checkpoint(self) -> AuditHead | None:
        """Have the tree signed as it is; None when it is. Raises AuditError, SignerError, DatabaseError.

        The last signed head is computed again from the tables first: nothing is signed above a change.
        """
        shard = selectors.current_shard()
        size = selectors.sequenced_size(shard.year) if shard is not None else 0
        last = selectors.latest_head(shard.year) if shard is not None else None
        if shard is None or size == (last.size if last is not None else 0):
            return None
        with _whole(shard.year):
            if last is not None and selectors.subtree(shard.year, last.size)(0, last.size) != _root(last):
                raise RewrittenError(f"The tables do not lead to the signed head of {last.size} entries.")
            return self._sign(shard, size)

    def run(self, stop: Event) -> None:
        """Work until ``stop``. What fails is logged, becomes an alarm in the log itself and is tried again.

        Raises django.db.Error.
        """
        while not stop.is_set():
            pause = 1.0
            try:
                pause = 0.0 if self._turn() == BATCH else TICK_S
            except SignerAwayError as error:
                self._alarm("away", error)
            except SignerError as error:
                self._alarm("refused", error)
            except AuditError as error:
                self._alarm("rewritten", error)
            stop.wait(pause)

    def _turn(self) -> int:
        placed = self.step()
        now = time.monotonic()
        if now >= self._sign_at:
            self._sign_at = now + SIGN_EVERY_S if self.checkpoint() is not None else now
            self._alarms -= {"away", "refused", "rewritten"}
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._look_at_lag()
        return placed

    def _year_of(self, entry: storage.Waiting) -> int | None:
        """None for bytes that no verifier could read: they stay outside of the tree, and that is said."""
        try:
            envelope = read_envelope(entry.leaf)
        except CanonicalError as error:
            self._leave_out(entry, str(error))
            return None
        if envelope.id != entry.event_id:
            self._leave_out(entry, "The id in the entry is not that of its row.")
            return None
        return envelope.year

    def _leave_out(self, entry: storage.Waiting, reason: str) -> None:
        if entry.number not in self._refused:
            self._refused.add(entry.number)
            self._write_alarm("entry", f"Entry {entry.number} gets no place in the log. {reason}")

    def _place(self, year: int, batch: list[tuple[int, bytes]]) -> None:
        with _whole(year), transaction.atomic():
            start = selectors.sequenced_size(year)
            edge = Edge(start, selectors.row_of(year))
            tiles = edge.extend([digest for _, digest in batch])
            storage.insert_places(year, start, batch)
            storage.insert_tiles(year, tiles)

    def _open(self, year: int, former: AuditShard | None) -> None:
        """Begin the tree of ``year``; the former one is signed to its end first."""
        origin, now = selectors.origin_of(year), timezone.now()
        key = str(self._signer.state(origin).key)
        if former is None:
            AuditShard.objects.create(year=year, origin=origin, key=key, opened=now)
            return
        self.checkpoint()
        last = selectors.latest_head(former.year)
        if last is None:
            raise RewrittenError(f"{former.origin} has no signed head.")
        with transaction.atomic():
            AuditShard.objects.create(year=year, origin=origin, key=key, opened=now)
            closed = {"origin": former.origin, "size": last.size, "root": encode_base64(_root(last))}
            event = services.record(act=storage.SHARD_OPENED, data=closed)
            AuditSeq.objects.create(shard=year, idx=0, event=event, leaf_hash=leaf_hash(bytes(event.leaf)))

    def _sign(self, shard: AuditShard, size: int) -> AuditHead:
        state = self._signer.state(shard.origin)
        if str(state.key) != shard.key:
            raise SignerError(
                f"The signer holds another key than the one {shard.origin} began with.", state.size
            )
        if state.size > size:
            raise RewrittenError(
                f"{state.size} entries of {shard.origin} were signed; the tables have {size}."
            )
        tree = selectors.subtree(shard.year, size)  # one for both: they share its rows
        text = str(Checkpoint(shard.origin, size, tree(0, size)))
        note = self._signer.sign(text, selectors.consistency(tree, state.size))
        try:
            open_checkpoint(str(note), state.key)
        except NoteError as error:
            raise SignerError(f"What the signer gave is no signature. {error}") from error
        return AuditHead.objects.create(shard=shard.year, size=size, note=str(note), created=timezone.now())

    def _look_at_lag(self) -> None:
        oldest = selectors.oldest_waiting()
        lag = (timezone.now() - oldest).total_seconds() if oldest is not None else 0.0
        if lag <= LAG_S:
            self._alarms.discard("lag")
        else:
            self._alarm("lag", f"An entry waits for its place for {int(lag)} s. Is a transaction left open?")

    def _alarm(self, reason: str, sentence: object) -> None:
        """Say it once until it is over."""
        if reason not in self._alarms:
            self._write_alarm(reason, str(sentence))
            self._alarms.add(reason)

    def _write_alarm(self, reason: str, sentence: str) -> None:
        log.error("audit log: %s", sentence)
        with transaction.atomic():
            services.record(act="log.alarm", out="error", data={"reason": reason, "said": sentence[:500]})


@contextmanager
def _whole(year: int) -> Iterator[None]:
    try:
        yield
    except (ProofError, IndexError) as error:
        raise RewrittenError(f"The tables of {selectors.origin_of(year)} have gaps: {error}") from error


def _root(head: AuditHead) -> bytes:
    return Checkpoint.parse(SignedNote.parse(head.note).text).root


def lead(signer: SignsCheckpoints, stop: Event) -> None:
    """Be the sequencer whenever nobody else is, until ``stop``; a database that is away is waited for."""
    while not stop.is_set():
        try:
            with storage.leadership() as held:
                if held:
                    Sequencer(signer).run(stop)
        except Error as error:  # InterfaceError, too: the connection was lost
            log.warning("audit log: the database cannot be used: %s", str(error).splitlines()[0])
            connection.close()
        stop.wait(1)
