"""What a site has taken part in, over all its jobs: the same question is not answered for two near cohorts.

Two sums that differ by one site's input give that input away exactly, however well each sum was masked.
The ledger is the site's own and covers every job, epoch and run; a server cannot make it forget by starting
the run again.
"""

import os
from collections.abc import Iterable
from typing import Final, Self

from secure_agg.errors import SecureAggregationError
from secure_agg.keys import HASH_BYTES, digest, u16, u64
from secure_agg.plan import Plan
from secure_agg.state import RandomBytes, seal, unseal
from secure_agg.wire import Reader, Writer, refuse

ENTRIES_MAX: Final = 20_000  # the oldest go first; 680 kB on disk
MARKS_MAX: Final = 1_000
_START: Final = b"FLSA-1/ledger\x01"
_RECORD_BYTES: Final = HASH_BYTES + 2


def query_id(plan: Plan, model_hash: bytes, data_version: bytes) -> bytes:
    """What is asked of which data: two orders with one id ask for the same numbers.

    Ring, clip, deadlines and cohort sizes are left out on purpose. They do not change the question, and a
    server could vary them to ask it twice.
    """
    fields = [
        digest(
            "field", item.name.encode(), item.dtype.encode(), bytes([item.weighting]), *map(u64, item.shape)
        )
        for item in plan.fields
    ]
    statistics = digest("statistics", *(name.encode() for name in plan.statistics))
    parts = (bytes([plan.purpose]), digest("fields", *fields), statistics, plan.context)
    return digest("query", *parts, model_hash, data_version)


class Ledger:
    """Pairs of a question and the cohort whose sum was signed, oldest first, and the rounds begun per job."""

    def __init__(self) -> None:
        self._entries: dict[tuple[bytes, tuple[str, ...]], None] = {}
        self._marks: dict[bytes, int] = {}

    def check_and_note(self, query: bytes, survivors: Iterable[str], cohort_min: int) -> None:
        """Note that ``query`` is answered for ``survivors``.

        Raises E_DIFFERENCING when an earlier answer for other sites differs by fewer than ``cohort_min``
        sites in either direction; then nothing is noted.
        """
        cohort = tuple(sorted(survivors))
        for earlier_query, earlier in self._entries:
            if earlier_query != query:
                continue
            gone, new = set(earlier) - set(cohort), set(cohort) - set(earlier)
            isolated = [len(group) for group in (gone, new) if 0 < len(group) < cohort_min]
            if isolated:
                raise SecureAggregationError(
                    "E_DIFFERENCING",
                    have=min(isolated),
                    need=cohort_min,
                    missing=", ".join(sorted(gone)) or "the same sites",
                    cohort=", ".join(earlier),
                )
        self._entries[query, cohort] = None
        while len(self._entries) > ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]

    def __len__(self) -> int:
        return len(self._entries)

    def mark(self, job_ctx: bytes, next_round: int) -> None:
        """Note that the rounds of ``job_ctx`` below ``next_round`` are used."""
        self._marks.pop(job_ctx, None)  # to the end: the jobs that run are the last to be forgotten
        self._marks[job_ctx] = next_round
        while len(self._marks) > MARKS_MAX:
            del self._marks[next(iter(self._marks))]

    def marked(self, job_ctx: bytes) -> int:
        return self._marks.get(job_ctx, 0)

    def encode(self) -> bytes:
        cohorts: dict[tuple[str, ...], int] = {}
        records = []
        for query, cohort in self._entries:
            records.append(query + u16(cohorts.setdefault(cohort, len(cohorts))))
        writer = Writer(_START)
        writer.count("cohorts", len(cohorts), ENTRIES_MAX)
        for cohort in cohorts:
            writer.count("cohort", len(cohort))
            for name in cohort:
                writer.text("site name", name, 63)
        writer.blob("entries", b"".join(records), ENTRIES_MAX * _RECORD_BYTES)
        writer.count("marks", len(self._marks), MARKS_MAX)
        for job_ctx, next_round in self._marks.items():
            writer.fixed("marks", job_ctx, HASH_BYTES)
            writer.u64("marks", next_round)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader, ledger = Reader(data), cls()
        if reader.fixed("ledger version", len(_START)) != _START:
            refuse("ledger version")
        cohorts = [
            tuple(reader.text("site name", 63) for _ in range(reader.count("cohort", 4)))
            for _ in range(reader.count("cohorts", 2, ENTRIES_MAX))
        ]
        records = reader.blob("entries", ENTRIES_MAX * _RECORD_BYTES)
        for at in range(0, len(records), _RECORD_BYTES):
            number = int.from_bytes(records[at + HASH_BYTES : at + _RECORD_BYTES], "little")
            if number >= len(cohorts) or at + _RECORD_BYTES > len(records):
                refuse("entries")
            ledger._entries[records[at : at + HASH_BYTES], cohorts[number]] = None
        for _ in range(reader.count("marks", HASH_BYTES + 8, MARKS_MAX)):
            job_ctx = reader.fixed("marks", HASH_BYTES)
            ledger._marks[job_ctx] = reader.u64("marks")
        reader.end()
        return ledger


def seal_ledger(key: bytes, ledger: Ledger, random_bytes: RandomBytes = os.urandom) -> bytes:
    return seal(key, "ledger", ledger.encode(), random_bytes)


def open_ledger(key: bytes, sealed: bytes | None) -> Ledger:
    """The ledger, empty before its first entry. Raises E_STATE_ROLLBACK when it cannot be opened."""
    return Ledger() if sealed is None else Ledger.decode(unseal(key, "ledger", sealed))
