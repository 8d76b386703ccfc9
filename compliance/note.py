"""Signed notes, checkpoints and cosignatures (C2SP: signed-note, tlog-checkpoint, tlog-cosignature v1).

A note is a text that ends in a newline, an empty line, and one signature line per signer::

    — NAME BASE64(4 bytes of key id ‖ signature)

The text of a checkpoint is origin, size and base64 root, a line each. A cosignature signs the checkpoint
together with the second at which its witness had made sure that the log only grew.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519, COSIGNATURE_V1 = 0x01, 0x04
MAX_NOTE_BYTES = 16_384
MAX_SIGNATURES = 64
MAX_SIZE = 2**53
NAME = re.compile(r"[!-*,-~]{1,128}")  # ASCII without space and plus: Unicode's spaces differ between readers
_LINE = re.compile(r"\u2014 ([!-*,-~]{1,128}) ([A-Za-z0-9+/]+={0,2})")
_PRIME = 2**255 - 19
_ORDER_EIGHT = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = {0, 1, _PRIME - 1, _ORDER_EIGHT, _PRIME - _ORDER_EIGHT}  # their y
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,15}")


class NoteError(ValueError):
    """A note, key or checkpoint is malformed, or its signature does not fit."""


@dataclass(frozen=True)
class VerifierKey:
    """A public key in the text form ``NAME+HEX(key id)+BASE64(type ‖ 32 bytes)``."""

    name: str
    kind: int
    public: bytes

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Raises NoteError for anything that is not exactly one key of a kind known here."""
        name, plus, rest = text.partition("+")
        key_id, second_plus, encoded = rest.partition("+")
        raw = decode_base64(encoded) if plus and second_plus else b""
        if not NAME.fullmatch(name) or len(raw) != 33 or raw[0] not in (ED25519, COSIGNATURE_V1):
            raise NoteError("A verifier key has the form NAME+KEYID+KEY and holds an Ed25519 key.")
        key = cls(name, raw[0], raw[1:])
        if key.key_id.hex() != key_id:
            raise NoteError(f"The key id of {name} does not belong to its key.")
        return key

    @property
    def key_id(self) -> bytes:
        """SHA-256(name ‖ newline ‖ kind ‖ public key), the first four bytes."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.kind]) + self.public)}"


@dataclass(frozen=True)
class Signature:
    """One signature line; nothing is proven yet."""

    name: str
    key_id: bytes
    body: bytes

    @classmethod
    def parse(cls, line: str) -> "Signature":
        """Raises NoteError."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise NoteError("A signature line has the form — NAME BASE64.")
        raw = decode_base64(match[2])
        if len(raw) < 5:
            raise NoteError("A signature line is too short.")
        return cls(match[1], raw[:4], raw[4:])

    def __str__(self) -> str:
        return f"\u2014 {self.name} {encode_base64(self.key_id + self.body)}"


@dataclass(frozen=True)
class SignedNote:
    """A text and its signature lines."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: str) -> "SignedNote":
        """Raises NoteError for anything else than text, empty line and 1 … 64 signature lines."""
        if len(data.encode(errors="replace")) > MAX_NOTE_BYTES:
            raise NoteError(f"A note has at most {MAX_NOTE_BYTES} bytes.")
        text, separator, tail = data.rpartition("\n\n")
        lines = tail.split("\n")
        if not separator or lines.pop() or not 1 <= len(lines) <= MAX_SIGNATURES:
            raise NoteError("A signed note is a text, an empty line and signature lines, each ended.")
        if any(ord(char) < 0x20 and char != "\n" for char in text):
            raise NoteError("A note holds no control characters.")
        return cls(text + "\n", tuple(Signature.parse(line) for line in lines))

    def __str__(self) -> str:
        return f"{self.text}\n" + "".join(f"{signature}\n" for signature in self.signatures)

    def with_signatures(self, signatures: Iterable[Signature]) -> "SignedNote":
        """The same text with further lines behind its own."""
        return SignedNote(self.text, (*self.signatures, *signatures))

    def by(self, key: VerifierKey) -> list[Signature]:
        """The lines that name ``key``; not verified."""
        return [one for one in self.signatures if (one.name, one.key_id) == (key.name, key.key_id)]


@dataclass(frozen=True)
class Checkpoint:
    """What a log says of itself: ``size`` leaves have the head ``root`` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Exactly three lines: this log has no extensions. Raises NoteError."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not NAME.fullmatch(lines[0]):
            raise NoteError("A checkpoint is three lines: origin, size, root.")
        size, root = decode_number(lines[1]), decode_base64(lines[2])
        if len(root) != 32:
            raise NoteError("A checkpoint has a root of 32 bytes.")
        return cls(lines[0], size, root)

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"


def verifier_key(name: str, key: Ed25519PrivateKey, kind: int = ED25519) -> VerifierKey:
    """The public half of ``key`` under ``name``."""
    return VerifierKey(name, kind, key.public_key().public_bytes_raw())


def sign(text: str, name: str, key: Ed25519PrivateKey) -> SignedNote:
    """``text`` signed as a log signs: plain Ed25519 over the text."""
    line = Signature(name, verifier_key(name, key).key_id, key.sign(text.encode()))
    return SignedNote(text, (line,))


def cosign(text: str, name: str, key: Ed25519PrivateKey, timestamp: int) -> Signature:
    """A witness's line: 8 bytes of ``timestamp`` (seconds), then Ed25519 over header, time and text."""
    signed = key.sign(_cosigned(text, timestamp))
    key_id = verifier_key(name, key, COSIGNATURE_V1).key_id
    return Signature(name, key_id, timestamp.to_bytes(8, "big") + signed)


def verify(text: str, signature: Signature, key: VerifierKey) -> int:
    """Prove ``signature``; return a cosignature's second, 0 for a log's. Raises NoteError."""
    if (signature.name, signature.key_id) != (key.name, key.key_id):
        raise NoteError(f"The signature line is not one of {key.name}.")
    body, message, moment = signature.body, text.encode(), 0
    if key.kind == COSIGNATURE_V1:
        if len(body) != 72:
            raise NoteError(f"The cosignature of {key.name} has a wrong length.")
        moment, body = int.from_bytes(body[:8], "big"), body[8:]
        if moment >= MAX_SIZE:
            raise NoteError(f"The cosignature of {key.name} has no possible time.")
        message = _cosigned(text, moment)
    if _is_weak(key.public) or _is_weak(body[:32]):
        raise NoteError(f"The signature of {key.name} does not fit.")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(body, message)
    except (InvalidSignature, ValueError) as error:
        raise NoteError(f"The signature of {key.name} does not fit.") from error
    return moment


def open_checkpoint(data: str, key: VerifierKey) -> tuple[Checkpoint, SignedNote]:
    """The checkpoint of the log that holds ``key``. Raises NoteError unless one line of it fits.

    The origin must be the key's name, so that a checkpoint of one log never counts for another.
    """
    note = SignedNote.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    lines = note.by(key)
    if checkpoint.origin != key.name or len(lines) != 1:
        raise NoteError(f"The checkpoint is not signed once by {key.name}.")
    verify(note.text, lines[0], key)
    return checkpoint, note


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(data).decode()


def decode_base64(text: str) -> bytes:
    """The one decoding: what does not encode back to ``text`` is refused. Raises NoteError."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NoteError("The text is not base64.") from error
    if encode_base64(data) != text:  # unused bits of the last letter: two texts for one value
        raise NoteError("The text is not base64.")
    return data


def decode_number(text: str) -> int:
    """A decimal number below 2^53 without leading zeros. Raises NoteError."""
    if not _DECIMAL.fullmatch(text) or int(text) >= MAX_SIZE:
        raise NoteError("A number is decimal, without leading zeros, below 2^53.")
    return int(text)


def _is_weak(encoded: bytes) -> bool:
    """Whether a point is one of the eight of small order, or not in its one encoding.

    RFC 8032 refuses the latter; OpenSSL does so for R only, and takes keys of small order, under which one
    signature fits many texts. WebCrypto's rules refuse both. Here every reader refuses both.
    """
    y = int.from_bytes(encoded, "little") & (1 << 255) - 1
    return y >= _PRIME or y in _SMALL_ORDER


def _cosigned(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()
