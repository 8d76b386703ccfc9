"""Where a site's job process finds the site's folder, and whose keys the site has pinned."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl_jobs.errors import SiteHomeError
from fl_jobs.packaging.spec import NAME_PATTERN
from fl_jobs.tensor_files import write_bytes

VARIABLE = "CONSILIUM_SITE_HOME"
PINS = "secagg_peers.json"
SEEN = Path("state") / "secagg_seen.json"
PEER_FILE_BYTES_MAX = 1_000_000
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(NAME_PATTERN)


def find_site_home() -> Path:
    """Return the folder that the site's agent named, never one from a job. Raises SiteHomeError."""
    value = os.environ.get(VARIABLE, "")
    home = Path(value)
    if not value or not home.is_absolute() or not (home / "site.json").is_file():
        raise SiteHomeError(f"{VARIABLE} does not name a site's folder; start the site with its start.sh.")
    return home


def read_pins(home: Path) -> dict[str, str] | None:
    """Return the keys this site has pinned: peer's name to SHA-256 of its public key (SPKI), in hex.

    None means that nobody was ever pinned: then the federation's CA alone vouches for the peers. Raises
    SiteHomeError for a file that is there and cannot be used; it is never taken for "no pins".
    """
    return _read_peers(home / PINS)


def write_pins(home: Path, pins: Mapping[str, str] | None) -> None:
    """Replace the pinned keys, durably; None goes back to trusting the CA."""
    if pins is None:
        (home / PINS).unlink(missing_ok=True)
    else:
        _write_peers(home / PINS, pins)


def read_seen(home: Path) -> dict[str, str]:
    """Return the keys that the peers of the last masked run presented. Raises SiteHomeError."""
    return _read_peers(home / SEEN) or {}


def note_seen(home: Path, peers: Mapping[str, str]) -> None:
    """Write down what keys peers presented, so that the operator is told which are not pinned yet."""
    try:
        known = read_seen(home)
    except SiteHomeError:
        known = {}  # only a help for the operator; nothing is trusted because it stands there
    if merged := {**known, **peers}:
        _write_peers(home / SEEN, merged)


def _read_peers(path: Path) -> dict[str, str] | None:
    try:
        with path.open("rb") as file:
            content = file.read(PEER_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SiteHomeError(f"{path.name} cannot be read ({error.strerror}). Make it readable.") from error
    try:
        found = json.loads(content, object_pairs_hook=_once) if len(content) <= PEER_FILE_BYTES_MAX else None
    except (ValueError, RecursionError):
        found = None
    peers = None
    if isinstance(found, dict) and found.keys() == {"version", "peers"} and found["version"] == 1:
        peers = found["peers"]
    if not isinstance(peers, dict):
        raise SiteHomeError(
            f"{path.name} is not a list of pinned sites, so no peer can be trusted. Restore it from your "
            "backup, or move it away and pin the sites again."
        )
    _check_entries(path, peers)
    return peers


def _check_entries(path: Path, peers: Mapping[Any, Any]) -> None:
    for name, fingerprint in peers.items():
        if not _NAME.fullmatch(str(name)) or not _FINGERPRINT.fullmatch(str(fingerprint)):
            raise SiteHomeError(
                f"{path.name}: the entry for {str(name)[:80]!r} is no site's name with 64 hex digits. "
                "Correct it, then pin that site again."
            )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A name that stands twice would let the later line silently win."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _write_peers(path: Path, peers: Mapping[str, str]) -> None:
    _check_entries(path, peers)
    text = json.dumps({"version": 1, "peers": dict(sorted(peers.items()))}, indent=1)
    write_bytes(path, text.encode() + b"\n")
