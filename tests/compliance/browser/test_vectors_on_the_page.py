"""The shared vectors, and signatures on which Ed25519 libraries differ, judged by the page in Chromium."""

import base64
import hashlib
import json
import time

import pytest

from compliance import verify
from compliance.note import ED25519, NoteError, Signature, VerifierKey
from compliance.note import verify as verify_note
from tests.compliance.make_vectors import FOLDER, KINDS
from tests.compliance.two_verifiers import Case, PageVerifier

IDENTITY = (0, 1, 1, 0)
BASE = verify.point((4 * pow(5, verify.P - 2, verify.P) % verify.P).to_bytes(32, "little"))


@pytest.fixture(scope="module")
def page(chromium):
    window = chromium.new_page()
    yield PageVerifier(window)
    window.close()


def case_of(shared: dict[str, str], vector: dict[str, object]) -> Case:
    raw = {key: base64.b64decode(value) for key, value in {**shared, **vector}.items() if key in RAW}
    return Case(
        family=str(vector["name"]),
        data=raw["input"],
        policy=raw["policy"],
        right=frozenset([vector["exit"]]),
        entry=raw.get("entry"),
        complete=bool(vector["complete"]),
        max_age=vector["max_age"],
        now=int(time.time()),
    )


RAW = ("policy", "input", "entry")


@pytest.mark.parametrize("kind", KINDS)
def test_every_vector_gets_its_exit_code(page, kind):
    whole = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    shared = {key: whole[key] for key in RAW if key in whole}
    cases = [case_of(shared, vector) for vector in whole["vectors"]]
    said = page.exits(cases)
    wrong = {
        case.family: (code, sorted(case.right), found)
        for case, (code, found) in zip(cases, said, strict=True)
        if code not in case.right
    }
    assert wrong == {}
    assert len(cases) > 10


# ---- keys and signatures that no honest signer makes, with the private half known


def encoded(point: verify.Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, verify.P - 2, verify.P)
    return (y * inverse % verify.P | (x * inverse % verify.P & 1) << 255).to_bytes(32, "little")


def torsion() -> verify.Point:
    """A point of order eight: L times a point that is not in the large subgroup."""
    for number in range(2, 100):
        found = verify.point(number.to_bytes(32, "little"))
        if found is not None and encoded(verify.multiply(4 * verify.L, found)) != encoded(IDENTITY):
            return verify.multiply(verify.L, found)
    raise AssertionError


def reduced_hash(r: bytes, public: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % verify.L


def signed(secret: int, nonce: int, public: bytes, r: bytes, message: bytes) -> bytes:
    scalar = (nonce + reduced_hash(r, public, message) * secret) % verify.L
    return r + scalar.to_bytes(32, "little")


def edge_signatures() -> list[tuple[str, bytes, bytes, bytes, bool]]:
    """Name, key, message, signature, whether it fits."""
    secret, nonce, eight = 123456789, 987654321, torsion()
    a, r = verify.multiply(secret, BASE), verify.multiply(nonce, BASE)
    plain = signed(secret, nonce, encoded(a), encoded(r), b"m0")
    rows = [("honest", encoded(a), b"m0", plain, True)]
    scalar = int.from_bytes(plain[32:], "little") + verify.L
    rows.append(("S + L", encoded(a), b"m0", plain[:32] + scalar.to_bytes(32, "little"), False))
    identity = signed(secret, 0, encoded(a), encoded(IDENTITY), b"m0")
    rows.append(("R is the identity", encoded(a), b"m0", identity, False))
    for count in range(8):  # every key of small order; and a message whose hash the key's order divides
        key = encoded(verify.multiply(count, eight))
        texts = (b"m%d" % number for number in range(200))
        text = next(one for one in texts if reduced_hash(encoded(r), key, one) % 8 == 0)
        rows.append((f"small order {count}", key, text, signed(0, nonce, key, encoded(r), text), False))
    mixed, bent = encoded(verify.add(a, eight)), encoded(verify.add(r, eight))
    for number in range(
        24
    ):  # a key with a part of order eight: fits when the reduced hash is a multiple of 8
        text = b"m%d" % number
        fits = reduced_hash(encoded(r), mixed, text) % 8 == 0
        rows.append(
            (f"mixed key {number}", mixed, text, signed(secret, nonce, mixed, encoded(r), text), fits)
        )
        fits = reduced_hash(bent, mixed, text) % 8 == 7
        rows.append((f"mixed both {number}", mixed, text, signed(secret, nonce, mixed, bent, text), fits))
    rows.append(
        ("R of mixed order", encoded(a), b"m0", signed(secret, nonce, encoded(a), bent, b"m0"), False)
    )
    for y in (0, 1, 3, 18):  # y + p in 255 bits: the second encoding of a point
        key = (y + verify.P).to_bytes(32, "little")
        rows.append(
            (f"key of two encodings {y}", key, b"m0", signed(0, nonce, key, encoded(r), b"m0"), False)
        )
        rows.append((f"R of two encodings {y}", encoded(a), b"m0", key + plain[32:], False))
    off = next(key for n in range(2, 50) if verify.point(key := n.to_bytes(32, "little")) is None)
    rows.append(("key off the curve", off, b"m0", signed(0, nonce, off, encoded(r), b"m0"), False))
    rows.append(("R off the curve", encoded(a), b"m0", off + plain[32:], False))
    return rows


def test_both_verifiers_and_the_platform_agree_where_ed25519_libraries_differ(page):
    rows = edge_signatures()
    script = """rows => Promise.all(rows.map(row => isSignedBy(...row.map(fromHex))))"""
    by_page = page.page.evaluate(script, [[one.hex() for one in row[1:4]] for row in rows])
    for (name, key, message, signature, fits), on_page in zip(rows, by_page, strict=True):
        in_file = verify.is_signed(key, message, signature)
        assert (name, in_file, on_page, by_platform(key, message, signature)) == (name, fits, fits, fits)
    assert {row[4] for row in rows if row[0].startswith("mixed")} == {True, False}


def by_platform(key: bytes, message: bytes, signature: bytes) -> bool:
    public = VerifierKey("heart/audit/2026", ED25519, key)
    line = Signature(public.name, public.key_id, signature)
    try:
        verify_note(message.decode(), line, public)
    except NoteError:
        return False
    return True
