"""One round at a site: an I/O-free machine whose steps go forward only, each at most once.

What a site reveals is its own seed and its seeds with sites outside the *one* list of survivors it signed,
and only once enough survivors have signed the same. That certificate is all that keeps a server from showing
"everyone survived" to one site and "it dropped" to the others (specification 3.2); without it both kinds of
seeds would come out and the update with them.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, NoReturn

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from secure_agg.bundles import open_bundle, seal_bundle
from secure_agg.encoding import encode_masked
from secure_agg.errors import SecureAggregationError
from secure_agg.headers import SERVER, check_header, decode_from, freeze_hash, pair_sign
from secure_agg.keys import SEED_BYTES, commit, mask_seed, pair_tag, round_key, share_key
from secure_agg.messages import (
    Cert,
    Freeze,
    FreezeSig,
    Header,
    Recover,
    RecoverReq,
    Result,
    Reveal,
    Upload,
)
from secure_agg.plan import Plan
from secure_agg.roster import Roster
from secure_agg.shamir import split

Shares = tuple[bytes, dict[int, bytes]]  # of a site's own seed, and of its seed with each of its peers


class Step(IntEnum):
    """How far the round has come. ENCODING: its keys are used up, but nothing has left."""

    BEGUN = 0
    ENCODING = 1
    UPLOADED = 2
    SIGNED = 3
    REVEALED = 4
    RECOVERED = 5


@dataclass(frozen=True)
class Terms:
    """What is fixed about a round before any work is done for it."""

    roster: Roster
    own: int
    number: int
    users: tuple[int, ...]
    plan: Plan
    model_hash: bytes
    round_ctx: bytes
    threshold: int

    @property
    def peers(self) -> tuple[int, ...]:
        return tuple(user for user in self.users if user != self.own)


@dataclass(frozen=True)
class View:
    """A list of survivors that this site has checked, and what it holds for the others by that list."""

    survivors: tuple[int, ...]
    freeze_hash: bytes
    shares: dict[int, Shares] = field(repr=False)
    complaints: tuple[int, ...]


class ClientRound:
    """The secrets of one round. A new round, or the result of this one, drops them."""

    def __init__(self, terms: Terms, signing_key: Ed25519PrivateKey) -> None:
        self.terms, self.step = terms, Step.BEGUN
        self._signing_key = signing_key
        self._seeds: dict[int, bytes] = {}
        self._view: View | None = None

    def upload(
        self,
        chain_keys: Mapping[int, bytes],
        random_bytes: Callable[[int], bytes],
        tensors: Mapping[str, NDArray[Any]],
        weight: int,
        statistics: Mapping[str, float],
    ) -> tuple[bytes, NDArray[np.uint8]]:
        """Mask the one vector of this round. The caller has made these chain keys unusable on disk before."""
        terms, self.step = self.terms, Step.ENCODING
        round_keys = {peer: round_key(chain_keys[peer], terms.round_ctx) for peer in terms.peers}
        self._b = random_bytes(SEED_BYTES)
        self._seeds = {peer: mask_seed(key) for peer, key in round_keys.items()}
        masks = [(seed, pair_sign(terms.own, peer)) for peer, seed in self._seeds.items()]
        vector = encode_masked(terms.plan, tensors, weight, statistics, [(self._b, 1), *masks])
        self._incoming = {peer: share_key(key, peer, terms.own) for peer, key in round_keys.items()}
        self._header = self._sign_header(hashlib.sha256(vector.data).digest())
        bundles = self._seal_shares(round_keys, random_bytes)
        self.step = Step.UPLOADED
        return Upload(self._header, bundles).encode(), vector

    def _sign_header(self, y_hash: bytes) -> Header:
        tags = tuple((peer, pair_tag(seed)) for peer, seed in self._seeds.items())
        header = Header(self.terms.own, self.terms.round_ctx, y_hash, commit(self._b), tags)
        return replace(header, sig=self._signing_key.sign(header.signed_body()))

    def _seal_shares(
        self, round_keys: Mapping[int, bytes], random_bytes: Callable[[int], bytes]
    ) -> tuple[tuple[int, bytes], ...]:
        """To each peer its share of every secret of this round; x is the roster index plus one."""
        terms = self.terms
        secrets = [self._b, *self._seeds.values()]
        shared = [split(secret, terms.threshold, terms.users[-1] + 1, random_bytes) for secret in secrets]
        return tuple(
            (
                peer,
                seal_bundle(
                    share_key(key, terms.own, peer), terms.round_ctx, [shares[peer] for shares in shared]
                ),
            )
            for peer, key in round_keys.items()
        )

    def examine(self, message: Freeze) -> View:
        """Check a list of survivors (specification 4.4). Raises; complaints alone are no reason to refuse."""
        terms, survivors = self.terms, message.survivors
        if not set(survivors) <= set(terms.users) or [at for at, _ in message.headers] != list(survivors):
            raise SecureAggregationError("E_CONTEXT_MISMATCH", site=SERVER, round=terms.number)
        if len(survivors) < terms.threshold:  # which is cohort_min or more
            raise SecureAggregationError("E_COHORT_TOO_SMALL", have=len(survivors), need=terms.threshold)
        for index, encoded in message.headers:
            self._check_header(index, encoded)
        shares, complaints = self._open_bundles(message)
        seen = freeze_hash(terms.round_ctx, survivors, message.headers)
        return View(survivors, seen, shares, complaints)

    def _check_header(self, index: int, encoded: bytes) -> None:
        terms = self.terms
        header = decode_from(Header, terms.roster.names[index], encoded)
        check_header(terms.roster, header, index, terms.round_ctx, terms.users, terms.number)
        names = terms.roster.names
        if index == terms.own:
            if encoded != self._header.encode():
                raise SecureAggregationError("E_HEADER_AUTH", site=names[index])
        elif dict(header.tags)[terms.own] != pair_tag(self._seeds[index]):
            raise SecureAggregationError("E_PAIR_TAG", site=names[index], peer=names[terms.own])

    def _open_bundles(self, message: Freeze) -> tuple[dict[int, Shares], tuple[int, ...]]:
        """The shares that the other survivors sent here, and whose bundle is missing or broken."""
        terms, bundles = self.terms, dict(message.bundles)
        others = [index for index in message.survivors if index != terms.own]
        if not set(bundles) <= set(others):  # shares of sites that dropped are nobody's business
            raise SecureAggregationError("E_CONTEXT_MISMATCH", site=SERVER, round=terms.number)
        shares, complaints = {}, []
        for sender in others:
            try:
                own, *pairs = open_bundle(
                    self._incoming[sender], terms.round_ctx, bundles.get(sender, b""), len(terms.users)
                )
            except SecureAggregationError:
                complaints.append(sender)
                continue
            peers = [user for user in terms.users if user != sender]
            shares[sender] = own, dict(zip(peers, pairs, strict=True))
        return shares, tuple(complaints)

    def refuse_second(self, message: Freeze) -> NoReturn:
        """After its signature a site looks at no list any more; one that differs is worth an alarm."""
        view = self._signed_view()
        if freeze_hash(self.terms.round_ctx, message.survivors, message.headers) != view.freeze_hash:
            raise SecureAggregationError("E_EQUIVOCATION", round=self.terms.number)
        raise SecureAggregationError("E_NOT_FROZEN", reason="this list of survivors is signed already")

    def sign(self, view: View) -> bytes:
        """The one signature of this round. The caller has stored the hash before."""
        self.step, self._view = Step.SIGNED, view
        message = FreezeSig(view.freeze_hash, view.complaints)
        return replace(message, sig=self._signing_key.sign(message.signed_body())).encode()

    def check_certificate(self, message: Cert) -> None:
        """Raise E_NO_QUORUM unless enough survivors signed the hash *this* site signed."""
        view = self._signed_view()
        body = FreezeSig(view.freeze_hash).signed_body()
        signers = [
            index
            for index, signature in message.signatures
            if index in view.survivors and self.terms.roster.is_signed(index, signature, body)
        ]
        if len(signers) < self.terms.threshold:
            raise SecureAggregationError("E_NO_QUORUM", have=len(signers), need=self.terms.threshold)

    def reveal(self) -> bytes:
        """The own seed and the seeds with the sites that dropped. The certificate was checked before."""
        view, self.step = self._signed_view(), Step.REVEALED
        message = Reveal(
            view.freeze_hash, self._b, tuple((peer, self._seeds[peer]) for peer in self._dropped(view))
        )
        return replace(message, sig=self._signing_key.sign(message.signed_body())).encode()

    def recover(self, message: RecoverReq) -> bytes:
        """Shares of what other survivors would have revealed themselves, and of nothing else."""
        view = self._signed_view()
        if message.freeze_hash != view.freeze_hash:
            raise SecureAggregationError("E_EQUIVOCATION", round=self.terms.number)
        others = set(view.survivors) - {self.terms.own}
        if not message.silent or not set(message.silent) <= others:
            reason = "the sites to be recovered are not all among the other survivors"
            raise SecureAggregationError("E_RECOVER_SCOPE", reason=reason)
        self.step = Step.RECOVERED
        answer = Recover(
            view.freeze_hash,
            tuple(
                (
                    site,
                    (view.shares[site][0], tuple((d, view.shares[site][1][d]) for d in self._dropped(view))),
                )
                for site in message.silent
                if site in view.shares
            ),
        )
        return replace(answer, sig=self._signing_key.sign(answer.signed_body())).encode()

    def is_result(self, result: Result) -> bool:
        """Whether a result can be of the sum this site signed for; of another round it cannot tell."""
        if self._view is None or result.round != self.terms.number:
            return True
        return result.freeze_hash == self._view.freeze_hash

    def _dropped(self, view: View) -> tuple[int, ...]:
        return tuple(user for user in self.terms.users if user not in view.survivors)

    def _signed_view(self) -> View:
        if self._view is None:
            raise SecureAggregationError(
                "E_NOT_FROZEN", reason="no list of survivors is signed in this round"
            )
        return self._view
