"""The pack as one zip and the manifest of its files: the same content always gives the same bytes."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any, Final

MANIFEST: Final = "MANIFEST.json"
MANIFEST_SIGNATURE: Final = "MANIFEST.dsse.json"
FORMAT: Final = "consilium-evidence/v1"
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can name; the pack's own time stands inside it
READABLE: Final = 0o100644 << 16
UNIX: Final = 3


def json_bytes(value: object) -> bytes:
    """JSON for people and machines: sorted keys, two blanks, UTF-8, ended by a line feed."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def manifest_bytes(files: Mapping[str, bytes], about: Mapping[str, object]) -> bytes:
    """Name, size and SHA-256 of every file; ``about`` says what the pack is of."""
    listed = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    }
    return json_bytes({"format": FORMAT, "about": dict(about), "files": listed})


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """The files in the order of their names, stored: deflate gives other bytes with another zlib."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = UNIX, READABLE
            archive.writestr(entry, files[name])
    return out.getvalue()


def problems_of(files: Mapping[str, bytes]) -> list[str]:
    """Why these files are not the pack of their manifest; empty when they are. Signatures are not read."""
    try:
        found: Any = json.loads(files[MANIFEST])
        listed = {name: str(entry["sha256"]) for name, entry in found["files"].items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        return [f"{MANIFEST} is missing or cannot be read."]
    present = set(files) - {MANIFEST, MANIFEST_SIGNATURE}
    return [
        *(f"{name} is missing." for name in sorted(listed.keys() - present)),
        *(f"{name} is not in the manifest." for name in sorted(present - listed.keys())),
        *(
            f"{name} was altered."
            for name in sorted(listed.keys() & present)
            if hashlib.sha256(files[name]).hexdigest() != listed[name]
        ),
    ]
