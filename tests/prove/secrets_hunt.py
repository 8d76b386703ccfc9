"""Looks for what must never leave a site: bytes of its personal tensors and of its private key."""

import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

NEEDLE_BYTES = 24
MIN_DISTINCT = 10  # a needle of zeros or of one repeated value would be found anywhere


def needles(sites_home: Path) -> dict[str, bytes]:
    """Name every needle after the file it comes from.

    Of the arms ``global`` and ``personal`` only what is in the site's personal part counts; the files of
    ``local`` and ``tuned`` are personal as a whole.
    """
    found: dict[str, bytes] = {}
    for path in sorted(sites_home.glob("*/personal/**/*.safetensors")):
        for name, tensor in load_file(path).items():
            raw = np.ascontiguousarray(tensor).tobytes()
            start = len(raw) // 2 // 4 * 4
            needle = raw[start : start + NEEDLE_BYTES]
            if len(needle) == NEEDLE_BYTES and len(set(needle)) >= MIN_DISTINCT:
                found[f"{path.relative_to(sites_home)}:{name}"] = needle
    for path in sorted(sites_home.glob("*/flare/startup/client.key")):
        body = b"".join(path.read_bytes().splitlines()[1:-1])
        found[str(path.relative_to(sites_home))] = body[200:264]
    return found


def search(wanted: dict[str, bytes], places: Iterable[Path]) -> tuple[dict[str, Path], int]:
    """Return needle → first file that holds it, and how many bytes were read."""
    hits: dict[str, Path] = {}
    total = 0
    for path in (each for place in places for each in _files(place)):
        size = path.stat().st_size
        if size < NEEDLE_BYTES:
            continue
        total += size
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for name, needle in wanted.items():
                if name not in hits and (content.find(needle) >= 0 or _with_lines(content, needle, path)):
                    hits[name] = path
    return hits, total


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]


def _with_lines(content: mmap.mmap, needle: bytes, path: Path) -> bool:
    """PEM breaks its lines every 64 characters: compare without them."""
    return path.suffix in {".key", ".pem", ".log", ".json"} and needle in content[:].replace(b"\n", b"")
