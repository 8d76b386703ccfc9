"""What lies where in a site's home (the unpacked kit), and the small files agent and inference share."""

import contextlib
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fl_jobs.packaging.spec import run_folder_name

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PathPart = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$")]
ServedArm = Literal["local", "global", "tuned", "personal"]
_READ_BYTES = 1 << 20
MAX_STATE_BYTES = 8 * 2**20


class ServeOrder(BaseModel):
    """The portal's wish that this site serves one model version. Texts that become paths are checked."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    promotion: int | str
    study: PathPart
    algorithm: PathPart
    run: PathPart
    run_digest: Digest
    arm: ServedArm
    round: int = Field(ge=0, le=1_000_000)
    shared_sha256: Digest | None = None
    personal_sha256: Digest
    version_label: str = Field(default="", max_length=200)


class ServingState(BaseModel):
    """``state/serving.json``: what the last heartbeat brought, read by the inference process."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    orders: tuple[ServeOrder, ...] = ()
    ticket_keys: tuple[dict[str, str], ...] = ()
    web_origin: str = ""


@dataclass(frozen=True)
class SiteHome:
    """Paths below the folder of the unpacked kit."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.resolve())

    @property
    def site_json(self) -> Path:
        return self.root / "site.json"

    @property
    def root_ca(self) -> Path:
        return self.root / "rootCA.pem"

    @property
    def flare(self) -> Path:
        return self.root / "flare"

    @property
    def key(self) -> Path:
        return self.flare / "startup" / "client.key"

    @property
    def certificate(self) -> Path:
        return self.flare / "startup" / "client.crt"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def weights(self) -> Path:
        """Trained weights that models start from, by digest (:mod:`fl_jobs.weights`)."""
        return self.root / "weights"

    @property
    def registered(self) -> Path:
        return self.root / "registered"

    @property
    def checked(self) -> Path:
        """Registrations that nobody outside knows of: their data sets are not shared (yet, or any more)."""
        return self.root / "checked"

    @property
    def pseudonym_key(self) -> Path:
        """The secret behind the pseudonyms of de-identified copies."""
        return self.state / "pseudonyms.key"

    @property
    def console_passphrase(self) -> Path:
        """The hash of the console's passphrase."""
        return self.state / "console-passphrase.json"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def status_json(self) -> Path:
        return self.state / "status.json"

    @property
    def witness(self) -> Path:
        """Key, memory and findings of this site as a witness of the portal's log."""
        return self.state / "witness"

    @property
    def suggested_peers_json(self) -> Path:
        """The keys of other sites as the portal named them at enrolment: nothing is trusted for them."""
        return self.state / "suggested_peers.json"

    @property
    def serving_json(self) -> Path:
        return self.state / "serving.json"

    def artifact(self, digest: str) -> Path:
        """Where the shared part with this SHA-256 lies."""
        return self.root / "artifacts" / "sha256" / digest

    def run_folder(self, order: ServeOrder) -> Path:
        """The site's own folder of the run an order names; ``run_spec.json`` lies in it."""
        name = run_folder_name(order.run_digest, order.run)
        return self.root / "personal" / order.study / order.algorithm / name

    def personal_part(self, order: ServeOrder) -> Path:
        """The personal part of the version an order names."""
        return self.run_folder(order) / order.arm / f"r{order.round:04d}.safetensors"


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_state(path: Path, value: object) -> None:
    """Replace a small JSON file others may be reading. Not fsynced: it is rewritten in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_state(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; empty when it is missing, too large or not an object."""
    try:
        if path.stat().st_size > MAX_STATE_BYTES:
            return {}
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_serving(home: SiteHome) -> ServingState:
    """The serving state as last written; empty when there is none yet or it cannot be read."""
    try:
        return ServingState.model_validate(read_state(home.serving_json))
    except ValidationError:
        return ServingState()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
