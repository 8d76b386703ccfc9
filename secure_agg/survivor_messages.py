"""Messages 6 to 13: from the list of survivors to the result, and the abort."""

from dataclasses import dataclass, field
from typing import Self

from secure_agg.errors import CODES
from secure_agg.framing import (
    BUNDLE_LIMIT,
    HEADER_LIMIT,
    SIGNATURE_BYTES,
    TEXT_LIMIT,
    Indexed,
    Message,
    Signed,
    put_blobs,
    take_blobs,
)
from secure_agg.keys import HASH_BYTES, SEED_BYTES
from secure_agg.shamir import SHARE_BYTES
from secure_agg.wire import Reader, Writer, put_pairs, refuse, take_pairs

Shares = tuple[tuple[int, tuple[bytes, Indexed]], ...]


@dataclass(frozen=True)
class Freeze(Message):
    """The survivors, what each of them committed to, and the bundles that they encrypted to this site."""

    TYPE = 6
    survivors: tuple[int, ...]
    headers: Indexed
    bundles: Indexed = field(repr=False)

    def _put(self, writer: Writer) -> None:
        writer.indices("survivors", self.survivors)
        put_blobs(writer, "headers", self.headers, HEADER_LIMIT)
        put_blobs(writer, "bundles", self.bundles, BUNDLE_LIMIT)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        survivors = reader.indices("survivors")
        headers = take_blobs(reader, "headers", HEADER_LIMIT)
        return cls(survivors, headers, take_blobs(reader, "bundles", BUNDLE_LIMIT))


@dataclass(frozen=True)
class FreezeSig(Signed, Message):
    """A site's one signature on a survivor list of this round.

    It covers the freeze hash alone: the other sites check it from the certificate, which carries no
    complaints.
    """

    TYPE = 7
    KIND = "freeze_sig"
    freeze_hash: bytes
    complaints: tuple[int, ...] = ()
    sig: bytes = b""

    def _put_body(self, writer: Writer) -> None:
        writer.fixed("freeze hash", self.freeze_hash, HASH_BYTES)

    def _put(self, writer: Writer) -> None:
        self._put_body(writer)
        writer.indices("complaints", self.complaints)
        writer.fixed("signature", self.sig, SIGNATURE_BYTES)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        freeze_hash, complaints = reader.fixed("freeze hash", HASH_BYTES), reader.indices("complaints")
        return cls(freeze_hash, complaints, reader.fixed("signature", SIGNATURE_BYTES))


@dataclass(frozen=True)
class Cert(Message):
    """The signatures on one freeze hash, by site."""

    TYPE = 8
    signatures: Indexed

    def _put(self, writer: Writer) -> None:
        _put_fixed(writer, "signatures", self.signatures, SIGNATURE_BYTES)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        return cls(_take_fixed(reader, "signatures", SIGNATURE_BYTES))


@dataclass(frozen=True)
class Reveal(Signed, Message):
    """A survivor's own seed and its seeds with the sites that dropped."""

    TYPE = 9
    KIND = "reveal"
    freeze_hash: bytes
    b: bytes = field(repr=False)
    seeds: Indexed = field(repr=False)
    sig: bytes = b""

    def _put_body(self, writer: Writer) -> None:
        writer.fixed("freeze hash", self.freeze_hash, HASH_BYTES)
        writer.fixed("own seed", self.b, SEED_BYTES)
        _put_fixed(writer, "pair seeds", self.seeds, SEED_BYTES)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        freeze_hash, b = reader.fixed("freeze hash", HASH_BYTES), reader.fixed("own seed", SEED_BYTES)
        seeds = _take_fixed(reader, "pair seeds", SEED_BYTES)
        return cls(freeze_hash, b, seeds, reader.fixed("signature", SIGNATURE_BYTES))


@dataclass(frozen=True)
class RecoverReq(Message):
    """The survivors whose reveal is missing."""

    TYPE = 10
    freeze_hash: bytes
    silent: tuple[int, ...]

    def _put(self, writer: Writer) -> None:
        writer.fixed("freeze hash", self.freeze_hash, HASH_BYTES)
        writer.indices("silent sites", self.silent)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        return cls(reader.fixed("freeze hash", HASH_BYTES), reader.indices("silent sites"))


@dataclass(frozen=True)
class Recover(Signed, Message):
    """One holder's shares: for each silent site, of its own seed and of its seeds with the dropped ones."""

    TYPE = 11
    KIND = "recover"
    freeze_hash: bytes
    shares: Shares = field(repr=False)
    sig: bytes = b""

    def _put_body(self, writer: Writer) -> None:
        def put(item: tuple[bytes, Indexed]) -> None:
            writer.fixed("share of the own seed", item[0], SHARE_BYTES)
            _put_fixed(writer, "shares of pair seeds", item[1], SHARE_BYTES)

        writer.fixed("freeze hash", self.freeze_hash, HASH_BYTES)
        put_pairs(writer, "silent sites", self.shares, put)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        def take() -> tuple[bytes, Indexed]:
            own = reader.fixed("share of the own seed", SHARE_BYTES)
            return own, _take_fixed(reader, "shares of pair seeds", SHARE_BYTES)

        freeze_hash = reader.fixed("freeze hash", HASH_BYTES)
        shares = take_pairs(reader, "silent sites", SHARE_BYTES + 2, take)
        return cls(freeze_hash, shares, reader.fixed("signature", SIGNATURE_BYTES))


@dataclass(frozen=True)
class Result(Message):
    """What came out of a round, so that the sites can compare what they were given.

    The number is there for a site that was away since: a later round's result is no second list of its own.
    """

    TYPE = 12
    round: int
    freeze_hash: bytes
    aggregate_sha256: bytes
    total_weight: int
    transcript_hash: bytes

    def _put(self, writer: Writer) -> None:
        writer.u64("round", self.round)
        writer.fixed("freeze hash", self.freeze_hash, HASH_BYTES)
        writer.fixed("aggregate hash", self.aggregate_sha256, HASH_BYTES)
        writer.u64("total weight", self.total_weight)
        writer.fixed("transcript hash", self.transcript_hash, HASH_BYTES)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        number, freeze_hash = reader.u64("round"), reader.fixed("freeze hash", HASH_BYTES)
        aggregate, weight = reader.fixed("aggregate hash", HASH_BYTES), reader.u64("total weight")
        return cls(number, freeze_hash, aggregate, weight, reader.fixed("transcript hash", HASH_BYTES))


@dataclass(frozen=True)
class Abort(Message):
    """Why one end gave up: the number of an error code, and ASCII text without secrets or values."""

    TYPE = 13
    code: int
    round: int
    text: str

    def _put(self, writer: Writer) -> None:
        if self.code not in CODES.values():
            refuse("error code")
        writer.u16("error code", self.code)
        writer.u64("round", self.round)
        writer.text("text", self.text, TEXT_LIMIT)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        code, number = reader.u16("error code"), reader.u64("round")
        if code not in CODES.values():
            refuse("error code")
        return cls(code, number, reader.text("text", TEXT_LIMIT))


def _put_fixed(writer: Writer, name: str, pairs: Indexed, size: int) -> None:
    put_pairs(writer, name, pairs, lambda item: writer.fixed(name, item, size))


def _take_fixed(reader: Reader, name: str, size: int) -> Indexed:
    return take_pairs(reader, name, size, lambda: reader.fixed(name, size))
