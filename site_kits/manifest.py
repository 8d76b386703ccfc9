"""The kit's ``site.json``: what a site is told about itself and the federation. It holds no secret."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fl_jobs.packaging.spec import NAME_PATTERN
from site_kits.errors import SiteKitError

MAX_BYTES = 65_536
HTTPS_URL = r"^https://[A-Za-z0-9.\-\[\]:]{1,253}$"
ORIGIN = r"^https?://[A-Za-z0-9.\-\[\]:]{1,253}$"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TicketKeyEntry(_Strict):
    """A public key that signs clinic tickets: 32 raw Ed25519 bytes in base64."""

    kid: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")
    public_key: str = Field(pattern=r"^[A-Za-z0-9+/]{43}=$")


class PrivacyBudget(_Strict):
    """The most a site lets each of its patients pay in differential privacy, over all runs together.

    With a budget the site takes no part in runs without differential privacy.
    """

    epsilon: float = Field(gt=0, allow_inf_nan=False)
    delta: float = Field(gt=0, lt=1)


class SitePolicy(_Strict):
    """What the site chose to show of itself."""

    share_site_metrics: bool = True
    privacy_budget: PrivacyBudget | None = None


class KitManifest(_Strict):
    """``site.json``. Unknown fields are refused, so that an older kit never half-understands a newer one."""

    version: Literal[1] = 1
    site: str = Field(pattern=NAME_PATTERN)
    title: str = Field(max_length=200)
    organisation: str = Field(max_length=64)
    federation: str = Field(pattern=NAME_PATTERN)
    agents_url: str = Field(pattern=HTTPS_URL)
    web_origin: str = Field(pattern=ORIGIN)
    flare_host: str = Field(min_length=1, max_length=253)
    flare_port: int = Field(ge=1, le=65535)
    server_name: str = Field(min_length=1, max_length=253)
    root_fingerprint_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    ticket_keys: tuple[TicketKeyEntry, ...] = Field(min_length=1, max_length=8)
    kit_expires: str  # UTC, ISO 8601: until then the link that came with this kit works
    policy: SitePolicy = SitePolicy()

    def is_expired(self, now: datetime) -> bool:
        """Whether the link that came with this kit is over (an enrolled site does not need it)."""
        return now.astimezone(UTC) >= datetime.fromisoformat(self.kit_expires)

    @classmethod
    def read(cls, path: Path) -> "KitManifest":
        """Read ``site.json``. Raises SiteKitError with a sentence when it is missing or not ours."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise SiteKitError(
                f"{path.name} cannot be read ({error.strerror}); unpack the kit again."
            ) from error
        if len(content) > MAX_BYTES:
            raise SiteKitError(f"{path.name} is too large to be the kit's; unpack the kit again.")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the file"
            raise SiteKitError(
                f"{path.name} is not a kit manifest of this version ({where}); ask for a new kit."
            ) from error
