"""How a message travels and what in it is signed: the body behind "FLSA-1/<kind>" and a zero byte.

NVFlare lets a server choose a nonce that the same certificate key signs; a prefixed body can never pass for
such a nonce.
"""

import re
from abc import abstractmethod
from typing import ClassVar, Final

from secure_agg.keys import HASH_BYTES, TAG_BYTES
from secure_agg.shamir import SHARE_BYTES
from secure_agg.thresholds import MOST_SITES
from secure_agg.wire import Reader, Struct, Writer, put_pairs, refuse, take_pairs

MAGIC: Final = b"FLSA"
VERSION: Final = 1
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64  # Ed25519
CERTIFICATE_LIMIT: Final = 8 * 1024
CHAIN_LIMIT: Final = 4
CERTIFICATE_SIGNATURE_LIMIT: Final = 1024  # RSA of 8192 bits
PLAN_LIMIT: Final = 4 * 1024 * 1024
BUNDLE_LIMIT: Final = SHARE_BYTES * MOST_SITES + 16  # one share of each secret, and the tag of AES-GCM
HEADER_LIMIT: Final = 4 + 3 * HASH_BYTES + MOST_SITES * (2 + TAG_BYTES) + SIGNATURE_BYTES
ADVERT_LIMIT: Final = 2048 + CHAIN_LIMIT * (4 + CERTIFICATE_LIMIT)
JOB_ID_LIMIT: Final = 128
TEXT_LIMIT: Final = 256
RSA_PSS_SHA256, ECDSA_P256, ED25519 = 1, 2, 3  # how an advert is signed
# NVFlare has a site's key sign its name and a nonce: a name like our prefix could pass for one of our bodies
_NAME: Final = re.compile(r"(?!FLSA-1)[A-Za-z0-9._-]{1,63}")

Indexed = tuple[tuple[int, bytes], ...]  # by ascending site


def is_site_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def peek_type(data: bytes) -> int:
    """The type of a message, to choose who decodes it."""
    reader = Reader(data[: len(MAGIC) + 2])
    if reader.fixed("message type", len(MAGIC)) != MAGIC or reader.u8("message type") != VERSION:
        refuse("message type")
    return reader.u8("message type")


class Message(Struct):
    """A struct that travels by itself, behind magic, version and type."""

    TYPE: ClassVar[int]

    def __init_subclass__(cls) -> None:
        cls.START = MAGIC + bytes([VERSION, cls.TYPE])


class Signed(Struct):
    """A struct that ends in a signature over what stands before it."""

    KIND: ClassVar[str]
    sig: bytes

    def signed_body(self) -> bytes:
        """The bytes that are signed."""
        writer = Writer(b"FLSA-1/" + self.KIND.encode() + b"\0")
        self._put_body(writer)
        return writer.done()

    def _put(self, writer: Writer) -> None:
        self._put_body(writer)
        writer.fixed("signature", self.sig, SIGNATURE_BYTES)

    @abstractmethod
    def _put_body(self, writer: Writer) -> None:
        """Write every field before the signature."""


def put_blobs(writer: Writer, name: str, pairs: Indexed, limit: int) -> None:
    put_pairs(writer, name, pairs, lambda item: writer.blob(name, item, limit))


def take_blobs(reader: Reader, name: str, limit: int) -> Indexed:
    return take_pairs(reader, name, 4, lambda: reader.blob(name, limit))
