"""One round at the server: uploads are added as they arrive, and opened once the survivors are certified.

The steps are those of ``client_round``. Answers come on several threads; what costs time (hashes, signatures)
is done before the lock is taken.
"""

import hashlib
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_agg import messages
from secure_agg.bundles import bundle_bytes
from secure_agg.encoding import Accumulator, Aggregate
from secure_agg.errors import SecureAggregationError
from secure_agg.headers import check_header, decode_from, freeze_hash, pair_sign
from secure_agg.keys import commit, digest, pair_tag, round_context
from secure_agg.plan import Plan
from secure_agg.recovery import Recovery
from secure_agg.roster import Roster


class ServerRound:
    """Upload, freeze, certificate, reveal, recovery, sum. Adding raises for the site at fault alone."""

    def __init__(
        self, roster: Roster, start: messages.RoundStart, plan: Plan, job_ctx: bytes, needed: int
    ) -> None:
        self._roster, self._start, self._plan, self.threshold = roster, start, plan, needed
        self._context = round_context(job_ctx, start.round, start.users, start.model_hash, start.plan)
        self._lock = threading.Lock()
        self._sum = Accumulator(plan)
        self._headers: dict[int, messages.Header] = {}
        self._bundles: dict[int, dict[int, bytes]] = {}  # sender -> receiver -> bundle
        self._survivors: tuple[int, ...] = ()
        self._freeze_hash = b""
        self._signatures: dict[int, bytes] = {}
        self._own_seeds: dict[int, bytes] = {}
        self._pair_seeds: dict[tuple[int, int], bytes] = {}  # (survivor, dropped)
        self._recovery: Recovery | None = None
        self._recovered: tuple[int, ...] = ()
        self._blamed: set[int] = set()
        self._complaints: dict[int, tuple[int, ...]] = {}
        self._transcript: tuple[bytes, ...] = ()
        self._upload_bytes = 0
        self._aggregate: Aggregate | None = None

    @property
    def start_message(self) -> bytes:
        return self._start.encode()

    @property
    def users(self) -> tuple[str, ...]:
        return self._names(self._start.users)

    @property
    def uploaded(self) -> tuple[str, ...]:
        return self._names(sorted(self._headers))

    @property
    def signed(self) -> tuple[str, ...]:
        return self._names(sorted(self._signatures))

    @property
    def silent(self) -> tuple[str, ...]:
        """Survivors whose seeds are missing."""
        return self._names(self._silent())

    @property
    def recovered(self) -> tuple[str, ...]:
        return self._names(self._recovered)

    def add_upload(self, site: str, message: bytes, vector: NDArray[np.uint8]) -> None:
        """Check what a site committed to and add its vector at once; the vector is not kept.

        That is why tags are compared here: of a pair that disagrees (E_PAIR_TAG) the later one is left out.
        """
        upload, index = decode_from(messages.Upload, site, message), self._user(site)
        check_header(self._roster, upload.header, index, self._context, self._start.users, self._start.round)
        self._check_upload(site, index, upload, vector)
        with self._lock:
            if self._survivors:
                raise SecureAggregationError("E_TIMEOUT", stage="the upload", missing=site)
            if index in self._headers:
                raise SecureAggregationError("E_ROUND_REPLAY", round=self._start.round)
            self._check_tags(index, upload.header)
            self._sum.add(vector)
            self._headers[index] = upload.header
            self._bundles[index] = dict(upload.bundles)
            self._upload_bytes = max(self._upload_bytes, len(message))

    def _check_upload(
        self, site: str, index: int, upload: messages.Upload, vector: NDArray[np.uint8]
    ) -> None:
        users = self._start.users
        length = bundle_bytes(len(users))
        if [peer for peer, _ in upload.bundles] != [peer for peer in users if peer != index] or any(
            len(bundle) != length for _, bundle in upload.bundles
        ):
            raise SecureAggregationError("E_DECODE", site=site, field="bundles")
        if vector.dtype != np.uint8 or vector.shape != (self._plan.vector_bytes,):
            raise SecureAggregationError("E_DECODE", site=site, field="masked vector")
        if hashlib.sha256(np.ascontiguousarray(vector).data).digest() != upload.header.y_hash:
            raise SecureAggregationError("E_DECODE", site=site, field="vector hash")

    def _check_tags(self, index: int, header: messages.Header) -> None:
        tags = dict(header.tags)
        for peer, other in self._headers.items():
            if dict(other.tags)[index] != tags[peer]:
                site, at_odds = self._names((index, peer))
                raise SecureAggregationError("E_PAIR_TAG", site=site, peer=at_odds)

    def freeze(self) -> dict[str, bytes]:
        """Close the uploads; for each survivor the list of all and the bundles addressed to it."""
        with self._lock:
            survivors = tuple(sorted(self._headers))
            if len(survivors) < self.threshold:
                raise SecureAggregationError("E_COHORT_TOO_SMALL", have=len(survivors), need=self.threshold)
            headers = tuple((index, self._headers[index].encode()) for index in survivors)
            self._survivors, self._freeze_hash = survivors, freeze_hash(self._context, survivors, headers)
            return {
                self._roster.names[index]: messages.Freeze(
                    survivors,
                    headers,
                    tuple((peer, self._bundles[peer][index]) for peer in survivors if peer != index),
                ).encode()
                for index in survivors
            }

    def add_signature(self, site: str, message: bytes) -> None:
        """A survivor confirms the list, and says whose bundles it could not open."""
        signature, index = decode_from(messages.FreezeSig, site, message), self._survivor(site)
        self._check_signed(site, signature, signature.freeze_hash)
        with self._lock:
            self._signatures[index] = signature.sig
            self._complaints[index] = signature.complaints

    def certificate(self) -> bytes:
        """The signatures that let honest sites reveal. Raises E_NO_QUORUM; nothing is revealed then."""
        with self._lock:
            self._check_quorum()
            certificate = messages.Cert(tuple(sorted(self._signatures.items()))).encode()
            self._transcript = (certificate,)
            return certificate

    def add_reveal(self, site: str, message: bytes) -> None:
        """Take a survivor's seeds if they are what it committed to, else E_BAD_SHARE, and it is blamed."""
        reveal, index = decode_from(messages.Reveal, site, message), self._survivor(site)
        self._check_signed(site, reveal, reveal.freeze_hash)
        header, seeds = self._headers[index], dict(reveal.seeds)
        right = commit(reveal.b) == header.com_b and sorted(seeds) == self._dropped()
        right = right and all(pair_tag(seed) == dict(header.tags)[peer] for peer, seed in seeds.items())
        with self._lock:
            if not right:
                self._blamed.add(index)
                raise SecureAggregationError("E_BAD_SHARE", site=site)
            self._own_seeds[index] = reveal.b
            self._pair_seeds |= {(index, dropped): seed for dropped, seed in seeds.items()}

    def recover_request(self) -> bytes:
        """Ask for the shares of the silent. Raises E_RECOVERY_FAILED when too few are left to give them."""
        with self._lock:
            silent, left = self._silent(), len(self._own_seeds)
            if left < self.threshold:
                missing = ", ".join(self._names(silent))
                raise SecureAggregationError(
                    "E_RECOVERY_FAILED", site=missing, have=left, need=self.threshold
                )
            self._recovery = Recovery(silent, self._dropped(), self.threshold)
            return messages.RecoverReq(self._freeze_hash, self._recovery.asked).encode()

    def add_recovery(self, site: str, message: bytes) -> None:
        """Take a holder's shares of the survivors that were asked for."""
        shares, index = decode_from(messages.Recover, site, message), self._survivor(site)
        self._check_signed(site, shares, shares.freeze_hash)
        with self._lock:
            if self._recovery is None:
                raise SecureAggregationError("E_NOT_FROZEN", reason="no shares were asked for")
            try:
                self._recovery.add(index, shares)
            except SecureAggregationError as error:
                raise error.about(site=site) from None

    def unmask(self) -> Aggregate:
        """The sum over the survivors. Raises E_RECOVERY_FAILED, E_BAD_SHARE, E_SUM_RANGE: it is not used."""
        with self._lock:
            if self._aggregate is not None:
                raise SecureAggregationError("E_ROUND_REPLAY", round=self._start.round)
            self._check_quorum()
            silent = self._silent()
            recovery = self._recovery or Recovery(silent, self._dropped(), self.threshold)
            for index in silent:
                own, pairs = recovery.open(index, self._headers[index], self._roster.names[index])
                self._own_seeds[index] = own
                self._pair_seeds |= {(index, dropped): seed for dropped, seed in pairs.items()}
                self._recovered = tuple(sorted({*self._recovered, index}))
                self._blamed |= recovery.liars
            self._sum.unmask(
                [(seed, 1) for seed in self._own_seeds.values()]
                + [(seed, pair_sign(*pair)) for pair, seed in self._pair_seeds.items()]
            )
            self._own_seeds, self._pair_seeds, self._recovery = {}, {}, None
            self._aggregate = self._sum.decode()
        self._check_sum(self._aggregate)
        return self._aggregate

    def result(self, aggregate_sha256: bytes) -> bytes:
        """RESULT for the sites, after the sum is on disk."""
        if self._aggregate is None:
            raise SecureAggregationError("E_NOT_FROZEN", reason="the round has no sum yet")
        transcript = digest("transcript", self._freeze_hash, *self._transcript)
        weight = self._aggregate.weight
        named = (self._start.round, self._freeze_hash)
        return messages.Result(*named, aggregate_sha256, weight, transcript).encode()

    def facts(self) -> dict[str, Any]:
        """The receipt of this round; nothing secret and nothing of one site but its presence."""
        clipped = self._aggregate.clipped if self._aggregate else 0
        numbers = sum(item.size for item in self._plan.fields)
        return {
            "round": self._start.round,
            "ring": self._plan.ring,
            "threshold": self.threshold,
            "cohort": list(self._names(self._survivors)),
            "signers": list(self.signed),
            "recovered": list(self.recovered),
            "blamed": list(self._names(sorted(self._blamed))),
            "complaints": {
                self._roster.names[index]: list(self._names(of))
                for index, of in sorted(self._complaints.items())
                if of
            },
            "clipped": clipped,
            "clip_total": numbers * len(self._survivors),
            "freeze_hash": self._freeze_hash.hex(),
            "round_ctx": self._context.hex(),
            "bytes_per_site": self._plan.vector_bytes + self._upload_bytes,
        }

    def _names(self, indices: Iterable[int]) -> tuple[str, ...]:
        return self._roster.names_of(indices)

    def _user(self, site: str) -> int:
        if site not in self.users:
            raise SecureAggregationError("E_CONTEXT_MISMATCH", site=site, round=self._start.round)
        return self._roster.index(site)

    def _survivor(self, site: str) -> int:
        index = self._user(site)
        if index not in self._survivors:
            raise SecureAggregationError("E_DROPPED", round=self._start.round)
        return index

    def _dropped(self) -> list[int]:
        return [index for index in self._start.users if index not in self._survivors]

    def _silent(self) -> list[int]:
        return [index for index in self._survivors if index not in self._own_seeds]

    def _check_quorum(self) -> None:
        if len(self._signatures) < self.threshold:
            raise SecureAggregationError("E_NO_QUORUM", have=len(self._signatures), need=self.threshold)

    def _check_signed(self, site: str, message: messages.Signed, named: bytes) -> None:
        if named != self._freeze_hash:
            raise SecureAggregationError("E_CONTEXT_MISMATCH", site=site, round=self._start.round)
        if not self._roster.is_signed(self._roster.index(site), message.sig, message.signed_body()):
            raise SecureAggregationError("E_HEADER_AUTH", site=site)

    def _check_sum(self, aggregate: Aggregate) -> None:
        count, weight = len(self._survivors), aggregate.weight
        for wrong, reason in (
            (aggregate.participants != count, f"{aggregate.participants} sites counted themselves"),
            (not count <= weight <= count * self._plan.weight_max, f"its total weight is {weight}"),
        ):
            if wrong:
                raise SecureAggregationError("E_SUM_RANGE", round=self._start.round, reason=reason)
