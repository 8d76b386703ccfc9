"""The signer of this portal's log, wherever it runs."""

from pathlib import Path

from django.conf import settings

from compliance.signer.core import SignerError, create
from compliance.signer.door import SOCKET_NAME, SignerClient
from platform_web.audit.errors import AuditError


def own_folder() -> Path:
    """Key and memory of the signer that the portal runs itself."""
    return Path(settings.CONSILIUM_HOME) / "signer"


def make_key() -> None:
    """Make the log's key where the portal runs its own signer; keep one that is there.

    With CONSILIUM_SIGNER_SOCKET another user runs the signer, and its administrator makes the key.
    Raises AuditError, OSError.
    """
    if settings.CONSILIUM_SIGNER_SOCKET:
        return
    try:
        create(own_folder(), f"{settings.CONSILIUM_FEDERATION}/audit")
    except SignerError as error:
        raise AuditError(str(error)) from error


def signer() -> SignerClient:
    """The signer, asked through its socket."""
    return SignerClient(Path(settings.CONSILIUM_SIGNER_SOCKET or own_folder() / SOCKET_NAME))
