"""Where things lie below CONSILIUM_HOME, and how files are written there."""

import os
from pathlib import Path

from django.conf import settings


def home() -> Path:
    """CONSILIUM_HOME."""
    return Path(settings.CONSILIUM_HOME)


def kit_zip(kit_id: object, zip_sha256: str) -> Path:
    """The finished archive of a kit; gone when the site got a newer one.

    The digest is part of the name so that a builder cut off between file and row leaves nothing that a
    second builder's row could be taken for.
    """
    return home() / "kits" / f"{kit_id}-{zip_sha256[:16]}.zip"


def artifact(sha256: str) -> Path:
    """A shared model file by its digest. The caller has checked that it is 64 hex characters."""
    return home() / "artifacts" / "sha256" / sha256


def evidence_zip(zip_sha256: str) -> Path:
    """An evidence pack by the digest of its file."""
    return private_folder(home() / "evidence") / f"{zip_sha256}.zip"


def server_kit() -> Path:
    """The NVFlare server's folder: ``startup/ local/ rounds/``."""
    return home() / "flare" / "server"


def admin_kit(name: str) -> Path:
    """A service identity's folder, 0700."""
    return home() / "flare" / "admin" / name


def downloads() -> Path:
    """Where job results are fetched to."""
    return private_folder(home() / "flare" / "downloads")


def tls() -> Path:
    """``agents.crt`` and ``agents.key`` of the agents' door."""
    return home() / "tls"


def private_folder(path: Path) -> Path:
    """The folder, made 0700."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only we can read: whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
