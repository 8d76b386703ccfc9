"""One round at the server: uploads are added as they arrive, and opened once the survivors are certified."""

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_agg import messages
from secure_agg.encoding import Accumulator, Aggregate
from secure_agg.errors import SecureAggregationError
from secure_agg.headers import check_header, freeze_hash, pair_sign
from secure_agg.keys import commit, digest, pair_tag, round_context
from secure_agg.plan import Plan
from secure_agg.recovery import reconstruct_checked
from secure_agg.roster import Roster


class ServerRound:
    """Upload, freeze, certificate, reveal, recovery, sum. Adding raises for the site at fault alone."""

    def __init__(
        self, roster: Roster, start: messages.RoundStart, plan: Plan, job_ctx: bytes, needed: int
    ) -> None:
        self._roster, self._start, self._plan, self.threshold = roster, start, plan, needed
        self._context = round_context(job_ctx, start.round, start.users, start.model_hash, start.plan)
        self._lock = threading.Lock()
        self._sum: Accumulator | None = Accumulator(plan)
        self._headers: dict[int, messages.Header] = {}
        self._bundles: dict[int, dict[int, bytes]] = {}  # sender -> receiver -> bundle
        self._survivors: tuple[int, ...] = ()
        self._freeze_hash = b""
        self._signatures: dict[int, bytes] = {}
        self._own_seeds: dict[int, bytes] = {}
        self._pair_seeds: dict[tuple[int, int], bytes] = {}  # (survivor, dropped)
        self._shares: dict[int, dict[int, tuple[bytes, dict[int, bytes]]]] = {}  # silent -> holder -> shares
        self._recovered: tuple[int, ...] = ()
        self._blamed: set[int] = set()
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
        """Check what a site committed to and add its vector at once; the vector is not kept."""
        upload, index = messages.Upload.decode(message), self._index(site)
        check_header(self._roster, upload.header, index, self._context, self._start.users, self._start.round)
        others = [peer for peer in self._start.users if peer != index]
        if [peer for peer, _ in upload.bundles] != others:
            raise SecureAggregationError("E_DECODE", site=site, field="bundles")
        if vector.dtype != np.uint8 or vector.shape != (self._plan.vector_bytes,):
            raise SecureAggregationError("E_DECODE", site=site, field="masked vector")
        if not hmac.compare_digest(
            upload.header.y_hash, hashlib.sha256(np.ascontiguousarray(vector)).digest()
        ):
            raise SecureAggregationError("E_DECODE", site=site, field="vector hash")
        with self._lock:
            if self._survivors or index in self._headers or self._sum is None:
                raise SecureAggregationError("E_ROUND_REPLAY", round=self._start.round)
            self._sum.add(vector)
            self._headers[index] = upload.header
            self._bundles[index] = dict(upload.bundles)

    def freeze(self) -> dict[str, bytes]:
        """Close the uploads; for each survivor the list of all and the bundles addressed to it."""
        with self._lock:
            survivors = tuple(sorted(self._headers))
            if len(survivors) < self.threshold:
                raise SecureAggregationError("E_COHORT_TOO_SMALL", have=len(survivors), need=self.threshold)
            self._check_tags(survivors)
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
        signature, index = messages.FreezeSig.decode(message), self._survivor(site)
        self._check_signed(site, signature, signature.freeze_hash)
        with self._lock:
            self._signatures[index] = signature.sig

    def certificate(self) -> bytes:
        """The signatures that let honest sites reveal. Raises E_NO_QUORUM; nothing is revealed then."""
        with self._lock:
            if len(self._signatures) < self.threshold:
                raise SecureAggregationError("E_NO_QUORUM", have=len(self._signatures), need=self.threshold)
            return messages.Cert(tuple(sorted(self._signatures.items()))).encode()

    def add_reveal(self, site: str, message: bytes) -> None:
        """Take a survivor's seeds if they are the ones it committed to (else E_BAD_SHARE, and it is blamed)."""
        reveal, index = messages.Reveal.decode(message), self._survivor(site)
        self._check_signed(site, reveal, reveal.freeze_hash)
        header, seeds = self._headers[index], dict(reveal.seeds)
        right = commit(reveal.b) == header.com_b and sorted(seeds) == self._dropped()
        if not right or any(pair_tag(seed) != dict(header.tags)[peer] for peer, seed in seeds.items()):
            self._blame(index)
        with self._lock:
            self._own_seeds[index] = reveal.b
            self._pair_seeds |= {(index, dropped): seed for dropped, seed in seeds.items()}

    def recover_request(self) -> bytes:
        return messages.RecoverReq(self._freeze_hash, tuple(self._silent())).encode()

    def add_recovery(self, site: str, message: bytes) -> None:
        """Take a holder's shares of the silent survivors."""
        recovery, index = messages.Recover.decode(message), self._survivor(site)
        self._check_signed(site, recovery, recovery.freeze_hash)
        dropped = self._dropped()
        for silent, (_own, of_pairs) in recovery.shares:
            if silent not in self._silent() or [peer for peer, _ in of_pairs] != dropped:
                raise SecureAggregationError("E_DECODE", site=site, field="silent sites")
        with self._lock:
            for silent, (own, of_pairs) in recovery.shares:
                self._shares.setdefault(silent, {})[index] = (own, dict(of_pairs))

    def unmask(self) -> Aggregate:
        """The sum over the survivors. Raises E_RECOVERY_FAILED, E_BAD_SHARE, E_SUM_RANGE: it is not used."""
        with self._lock:
            if self._sum is None or not self._signatures:
                raise SecureAggregationError("E_NOT_FROZEN", reason="the survivors are not certified")
            silent = self._silent()
            for index in silent:
                self._recover(index)
            self._recovered = tuple(silent)
            seeds = [(seed, 1) for seed in self._own_seeds.values()]
            seeds += [(seed, pair_sign(*pair)) for pair, seed in self._pair_seeds.items()]
            total, self._sum = self._sum, None
            total.unmask(seeds)
            self._aggregate = total.decode()
            self._own_seeds, self._pair_seeds, self._shares = {}, {}, {}
        self._check_sum(self._aggregate)
        return self._aggregate

    def result(self, aggregate_sha256: bytes) -> bytes:
        """RESULT for the sites, after the sum is on disk."""
        weight = self._aggregate.weight if self._aggregate else 0
        transcript = digest(
            "transcript", self._freeze_hash, *(s for _, s in sorted(self._signatures.items()))
        )
        return messages.Result(self._freeze_hash, aggregate_sha256, weight, transcript).encode()

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
            "clipped": clipped,
            "clip_total": numbers * len(self._survivors),
            "freeze_hash": self._freeze_hash.hex(),
            "round_ctx": self._context.hex(),
            "bytes_per_site": self._plan.vector_bytes,
        }

    def _names(self, indices: Iterable[int]) -> tuple[str, ...]:
        return self._roster.names_of(indices)

    def _index(self, site: str) -> int:
        index = self._roster.index(site)
        if index not in self._start.users:
            raise SecureAggregationError("E_SELF_MISSING", site=site)
        return index

    def _survivor(self, site: str) -> int:
        index = self._index(site)
        if index not in self._survivors:
            raise SecureAggregationError("E_DROPPED", round=self._start.round)
        return index

    def _dropped(self) -> list[int]:
        return [index for index in self._start.users if index not in self._survivors]

    def _silent(self) -> list[int]:
        return [index for index in self._survivors if index not in self._own_seeds]

    def _check_tags(self, survivors: tuple[int, ...]) -> None:
        for low in survivors:
            for high in survivors:
                if low < high and dict(self._headers[low].tags)[high] != dict(self._headers[high].tags)[low]:
                    site, peer = self._names((low, high))
                    raise SecureAggregationError("E_PAIR_TAG", site=site, peer=peer)

    def _check_signed(self, site: str, message: messages.Signed, named: bytes) -> None:
        if named != self._freeze_hash:
            raise SecureAggregationError("E_CONTEXT_MISMATCH", site=site, round=self._start.round)
        if not self._roster.is_signed(self._roster.index(site), message.sig, message.signed_body()):
            raise SecureAggregationError("E_HEADER_AUTH", site=site)

    def _blame(self, index: int) -> None:
        self._blamed.add(index)
        raise SecureAggregationError("E_BAD_SHARE", site=self._roster.names[index])

    def _recover(self, silent: int) -> None:
        """The seeds of a silent survivor out of the others' shares, checked against what it committed to."""
        held, name, header = self._shares.get(silent, {}), self._roster.names[silent], self._headers[silent]

        def opened(part: dict[int, bytes], fits: Callable[[bytes], bool]) -> bytes:
            return reconstruct_checked(part, self.threshold, fits, site=name)

        own = {holder: shares[0] for holder, shares in held.items()}
        self._own_seeds[silent] = opened(own, lambda secret: commit(secret) == header.com_b)
        for dropped in self._dropped():
            part, tag = (
                {holder: shares[1][dropped] for holder, shares in held.items()},
                dict(header.tags)[dropped],
            )
            self._pair_seeds[silent, dropped] = opened(part, lambda secret, tag=tag: pair_tag(secret) == tag)  # type: ignore[misc]

    def _check_sum(self, aggregate: Aggregate) -> None:
        count, weight = len(self._survivors), aggregate.weight
        for wrong, reason in (
            (aggregate.participants != count, f"{aggregate.participants} sites counted themselves"),
            (not count <= weight <= count * self._plan.weight_max, f"its total weight is {weight}"),
        ):
            if wrong:
                raise SecureAggregationError("E_SUM_RANGE", round=self._start.round, reason=reason)
