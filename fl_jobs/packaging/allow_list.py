"""Which certificates may speak to the NVFlare server: a file the portal writes and the server reads again.

NVFlare 2.9 has no revocation: whatever the root signed may register until it expires. The file names every
certificate that counts; a name or serial number that is not in it is nobody's, and so is everybody when the
file cannot be read.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ALLOW_LIST = Path("local") / "allowed_certificates.json"  # below the server's folder
_BYTES_MAX = 8 * 2**20
_Look = tuple[int, int, int]
Certificates = Mapping[str, Mapping[str, float]]


def encode_allow_list(certificates: Certificates, replaced: Certificates | None = None) -> bytes:
    """The file's bytes: name to serial number (hex, lower case) to the end of its validity (Unix time).

    ``replaced`` may not come in, but what is open may end in a pause: its site holds a newer certificate.
    """
    lists = {"allowed": certificates, "replaced": replaced or {}}
    content = {key: {name: dict(serials) for name, serials in each.items()} for key, each in lists.items()}
    return json.dumps({"version": 1, **content}, sort_keys=True).encode()


class AllowList:
    """The list as it stands on the disk at the moment of each question."""

    def __init__(self, server_folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = server_folder / ALLOW_LIST, clock
        self._lock = threading.Lock()
        self._look: _Look | None = None
        self._allowed: Certificates = {}
        self._replaced: Certificates = {}
        self.fault = ""  # why nobody is allowed, when the file cannot be used

    def allows(self, name: str, serial: str) -> bool:
        """Whether this certificate counts now."""
        return self._current().get(name, {}).get(serial, 0.0) > self._clock()

    def was_replaced(self, name: str, serial: str) -> bool:
        """Whether the site has a newer certificate in use and this one has not expired."""
        self._current()
        return self._replaced.get(name, {}).get(serial, 0.0) > self._clock()

    def knows(self, name: str) -> bool:
        """Whether any certificate of this name counts now."""
        now = self._clock()
        return any(until > now for until in self._current().get(name, {}).values())

    def _current(self) -> Certificates:
        with self._lock:
            try:
                facts = os.stat(self._path)
                look = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
                if look != self._look:
                    self._allowed, self._replaced = _read(self._path)
                    self._look, self.fault = look, ""
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                self._allowed, self._replaced, self._look = {}, {}, None
                self.fault = f"{self._path} cannot be used ({type(error).__name__}): nobody is let in."
            return self._allowed


def _read(path: Path) -> tuple[Certificates, Certificates]:
    with path.open("rb") as file:
        content = file.read(_BYTES_MAX + 1)
    if len(content) > _BYTES_MAX:
        raise ValueError("too large")
    lists = json.loads(content)
    return _certificates(lists["allowed"]), _certificates(lists["replaced"])


def _certificates(names: Mapping[str, Mapping[str, float]]) -> Certificates:
    return {
        str(name): {str(serial): float(until) for serial, until in serials.items()}
        for name, serials in names.items()
    }
