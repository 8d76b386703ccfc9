"""Messages 1 to 5: from a site's keys to its masked vector."""

from dataclasses import dataclass, field
from typing import Self

from secure_agg.framing import (
    ADVERT_LIMIT,
    BUNDLE_LIMIT,
    CERTIFICATE_LIMIT,
    CERTIFICATE_SIGNATURE_LIMIT,
    CHAIN_LIMIT,
    ECDSA_P256,
    ED25519,
    HEADER_LIMIT,
    JOB_ID_LIMIT,
    KEY_BYTES,
    PLAN_LIMIT,
    RSA_PSS_SHA256,
    SIGNATURE_BYTES,
    Indexed,
    Message,
    Signed,
    is_site_name,
    put_blobs,
    take_blobs,
)
from secure_agg.keys import HASH_BYTES, TAG_BYTES
from secure_agg.wire import Reader, Writer, ascending, put_pairs, refuse, take_pairs


@dataclass(frozen=True)
class Advert(Signed, Message):
    """A site's keys of one epoch, signed with its certificate."""

    TYPE = 1
    KIND = "advert"
    job_id: str
    epoch: int
    name: str
    chain: tuple[bytes, ...]  # DER, the site's own certificate first
    x25519_pk: bytes
    ed25519_pk: bytes
    expiry: int  # Unix seconds
    sigalg: int
    sig: bytes = b""

    def _put_body(self, writer: Writer) -> None:
        writer.text("job id", self.job_id, JOB_ID_LIMIT)
        writer.u32("epoch", self.epoch)
        if not is_site_name(self.name):
            refuse("site name")
        writer.text("site name", self.name, 63)
        if not self.chain:
            refuse("certificate chain")
        writer.count("certificate chain", len(self.chain), CHAIN_LIMIT)
        for certificate in self.chain:
            writer.blob("certificate chain", certificate, CERTIFICATE_LIMIT)
        writer.fixed("X25519 key", self.x25519_pk, KEY_BYTES)
        writer.fixed("Ed25519 key", self.ed25519_pk, KEY_BYTES)
        writer.u64("expiry", self.expiry)
        if self.sigalg not in (RSA_PSS_SHA256, ECDSA_P256, ED25519):
            refuse("signature algorithm")
        writer.u8("signature algorithm", self.sigalg)

    def _put(self, writer: Writer) -> None:
        self._put_body(writer)
        writer.blob("signature", self.sig, CERTIFICATE_SIGNATURE_LIMIT)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        job_id, epoch = reader.text("job id", JOB_ID_LIMIT), reader.u32("epoch")
        name = reader.text("site name", 63)
        count = reader.count("certificate chain", 4, CHAIN_LIMIT)
        chain = tuple(reader.blob("certificate chain", CERTIFICATE_LIMIT) for _ in range(count))
        x25519_pk, ed25519_pk = reader.fixed("X25519 key", KEY_BYTES), reader.fixed("Ed25519 key", KEY_BYTES)
        expiry, sigalg = reader.u64("expiry"), reader.u8("signature algorithm")
        if not is_site_name(name):
            refuse("site name")
        if not chain:
            refuse("certificate chain")
        if sigalg not in (RSA_PSS_SHA256, ECDSA_P256, ED25519):
            refuse("signature algorithm")
        sig = reader.blob("signature", CERTIFICATE_SIGNATURE_LIMIT)
        return cls(job_id, epoch, name, chain, x25519_pk, ed25519_pk, expiry, sigalg, sig)


@dataclass(frozen=True)
class Roster(Message):
    """The adverts of all sites of the epoch, by name."""

    TYPE = 2
    adverts: tuple[Advert, ...]

    def _put(self, writer: Writer) -> None:
        writer.count("adverts", len(self.adverts))
        ascending("adverts", [advert.name.encode() for advert in self.adverts])
        for advert in self.adverts:
            writer.blob("adverts", advert.encode(), ADVERT_LIMIT)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        count = reader.count("adverts", 4)
        adverts = tuple(Advert.decode(reader.blob("adverts", ADVERT_LIMIT)) for _ in range(count))
        ascending("adverts", [advert.name.encode() for advert in adverts])
        return cls(adverts)


@dataclass(frozen=True)
class RosterAck(Signed, Message):
    """A site accepted the roster; ``pinned`` when its operator had approved every peer's certificate."""

    TYPE = 3
    KIND = "roster_ack"
    job_ctx: bytes
    pinned: bool
    sig: bytes = b""

    def _put_body(self, writer: Writer) -> None:
        writer.fixed("job context", self.job_ctx, HASH_BYTES)
        writer.u8("trust mode", int(self.pinned))

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        job_ctx, pinned = reader.fixed("job context", HASH_BYTES), reader.u8("trust mode")
        if pinned > 1:
            refuse("trust mode")
        return cls(job_ctx, bool(pinned), reader.fixed("signature", SIGNATURE_BYTES))


@dataclass(frozen=True)
class RoundStart(Message):
    """The order of one round: who takes part and what is summed."""

    TYPE = 4
    round: int
    users: tuple[int, ...]
    plan: bytes
    model_hash: bytes

    def _put(self, writer: Writer) -> None:
        writer.u64("round", self.round)
        writer.indices("users", self.users)
        writer.blob("plan", self.plan, PLAN_LIMIT)
        writer.fixed("model hash", self.model_hash, HASH_BYTES)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        number, users = reader.u64("round"), reader.indices("users")
        return cls(number, users, reader.blob("plan", PLAN_LIMIT), reader.fixed("model hash", HASH_BYTES))


@dataclass(frozen=True)
class Header(Signed):
    """What a site commits to with its upload; all survivors read it."""

    KIND = "header"
    index: int
    round_ctx: bytes
    y_hash: bytes
    com_b: bytes
    tags: Indexed
    sig: bytes = b""

    def _put_body(self, writer: Writer) -> None:
        writer.index("site index", self.index)
        writer.fixed("round context", self.round_ctx, HASH_BYTES)
        writer.fixed("vector hash", self.y_hash, HASH_BYTES)
        writer.fixed("commitment", self.com_b, HASH_BYTES)
        put_pairs(writer, "pair tags", self.tags, lambda tag: writer.fixed("pair tags", tag, TAG_BYTES))

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        index, round_ctx = reader.index("site index"), reader.fixed("round context", HASH_BYTES)
        y_hash, com_b = reader.fixed("vector hash", HASH_BYTES), reader.fixed("commitment", HASH_BYTES)
        tags = take_pairs(reader, "pair tags", TAG_BYTES, lambda: reader.fixed("pair tags", TAG_BYTES))
        return cls(index, round_ctx, y_hash, com_b, tags, reader.fixed("signature", SIGNATURE_BYTES))


@dataclass(frozen=True)
class Upload(Message):
    """The header and one encrypted bundle of shares to each other site; the vector travels beside it."""

    TYPE = 5
    header: Header
    bundles: Indexed = field(repr=False)

    def _put(self, writer: Writer) -> None:
        writer.blob("header", self.header.encode(), HEADER_LIMIT)
        put_blobs(writer, "bundles", self.bundles, BUNDLE_LIMIT)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        header = Header.decode(reader.blob("header", HEADER_LIMIT))
        return cls(header, take_blobs(reader, "bundles", BUNDLE_LIMIT))
