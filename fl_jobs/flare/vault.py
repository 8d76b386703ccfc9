"""Where a site keeps what secure aggregation must not forget: ``secagg/`` in the site's home, mode 0600."""

import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from fl_jobs.errors import SiteHomeError
from fl_jobs.tensor_files import write_bytes

_KEY_BYTES = 32


class FileVault:
    """The vault of one epoch of one run. State is per epoch, the ledger is the site's own.

    Opening it removes the states of the run's earlier epochs: their keys can mask nothing any more.
    """

    def __init__(self, home: Path, *, run_id: str, epoch: int) -> None:
        self._folder = home / "secagg"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._state = self._folder / f"{run_id}-e{epoch}.state"
        self._ledger = self._folder / "ledger"
        for old in self._folder.glob(f"{run_id}-e*.state"):
            # a later epoch stays: a server that starts an old one again must not cost the site its keys
            if int(old.stem.rpartition("-e")[2]) < epoch:
                old.unlink(missing_ok=True)
        self.key = self._read_key()

    def read_state(self) -> bytes | None:
        """The bytes last written, None before the first."""
        return self._state.read_bytes() if self._state.exists() else None

    def write_state(self, data: bytes) -> None:
        """Replace the state; it survives a power cut once this returns."""
        write_bytes(self._state, data, mode=0o600)

    def update_ledger(self, change: Callable[[bytes | None], bytes]) -> None:
        """Replace the ledger under a lock between the job processes of this site."""
        guard = os.open(self._folder / "ledger.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            before = self._ledger.read_bytes() if self._ledger.exists() else None
            write_bytes(self._ledger, change(before), mode=0o600)
        finally:
            os.close(guard)

    def _read_key(self) -> bytes:
        """The site's own sealing key, made once: of two jobs that start together, the first link wins."""
        path = self._folder / "seal.key"
        if not path.exists():
            fresh = self._folder / f".seal.{secrets.token_hex(6)}"
            write_bytes(fresh, secrets.token_bytes(_KEY_BYTES), mode=0o600)
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink(missing_ok=True)
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            raise SiteHomeError(
                "secagg/seal.key is damaged. Restore it from your backup; do not make a new one."
            )
        return key
