"""Looks for what must never leave a site: bytes of its personal tensors and of its private key."""

import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from safetensors.numpy import load_file

NEEDLE_BYTES = 24
MIN_DISTINCT = 10  # a needle of zeros or of one repeated value would be found anywhere
Needles = dict[str, tuple[bytes, ...]]


def needles(sites_home: Path) -> Needles:
    """Name every secret after the file it comes from; each of its needles gives it away.

    Of the arms ``global`` and ``personal`` only what is in the site's personal part counts; the files of
    ``local`` and ``tuned`` are personal as a whole.
    """
    found: Needles = {}
    for path in sorted(sites_home.glob("*/personal/**/*.safetensors")):
        for name, tensor in load_file(path).items():
            raw = np.ascontiguousarray(tensor).tobytes()
            start = len(raw) // 2 // 4 * 4
            needle = raw[start : start + NEEDLE_BYTES]
            if len(needle) == NEEDLE_BYTES and len(set(needle)) >= MIN_DISTINCT:
                found[f"{path.relative_to(sites_home)}:{name}"] = (needle,)
    for path in sorted(sites_home.glob("*/flare/startup/client.key")):
        found[str(path.relative_to(sites_home))] = key_needles(path.read_bytes())
    return found


def key_needles(pem: bytes) -> tuple[bytes, ...]:
    """A whole line of the PEM text, its base64 without line breaks, and d, p, q as bytes and as hex.

    A database page, a JSON text or DER holds no PEM line break where the file has one.
    """
    key = load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    parts = [number.to_bytes(-(-number.bit_length() // 8)) for number in (numbers.d, numbers.p, numbers.q)]
    windows = [part[len(part) // 2 :][:NEEDLE_BYTES] for part in parts]
    lines = pem.splitlines()[1:-1]
    text = [lines[len(lines) // 2], b"".join(lines)[200:264]]
    return (*text, *windows, *(window.hex().encode() for window in windows))


def search(wanted: Needles, places: Iterable[Path]) -> tuple[dict[str, Path], int]:
    """Return secret → first file that holds it, and how many bytes were read."""
    hits: dict[str, Path] = {}
    total = 0
    for path in (each for place in places for each in _files(place)):
        size = path.stat().st_size
        if size < NEEDLE_BYTES:
            continue
        total += size
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for name, alternatives in wanted.items():
                if name not in hits and any(content.find(needle) >= 0 for needle in alternatives):
                    hits[name] = path
    return hits, total


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
