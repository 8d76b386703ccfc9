"""A site's certificate key and what it trusts, read from its own folder for secure aggregation."""

import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from fl_jobs.data.register import read_registration
from fl_jobs.errors import SiteHomeError
from fl_jobs.flare.site_home import read_pins
from fl_jobs.flare.vault import FileVault
from fl_jobs.masking.site import SiteMask
from fl_jobs.packaging.spec import RunSpec
from secure_agg.identity import Identity, Trust


def open_mask(spec: RunSpec, *, run_id: str, epoch: int, site: str, home: Path) -> SiteMask:
    """The site's side of a masked run. Raises SiteHomeError, DataError."""
    startup = home / "flare" / "startup"
    registration = read_registration(home / "registered", spec.study.dataset)
    return SiteMask(
        spec,
        run_id=run_id,
        epoch=epoch,
        identity=_identity(startup, site),
        trust=Trust(root_der=root_certificate(startup), pins=read_pins(home)),
        vault=FileVault(home, run_id=run_id, epoch=epoch),
        data_version=bytes.fromhex(registration.card.digest),
        now=lambda: int(time.time()),
    )


def root_certificate(startup: Path) -> bytes:
    """The federation's root in DER form, from a startup folder of site or server. Raises SiteHomeError."""
    return _certificate(startup / "rootCA.pem")


def _identity(startup: Path, site: str) -> Identity:
    try:
        key = load_pem_private_key((startup / "client.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SiteHomeError("The site's key cannot be read; run start.sh again.") from error
    return Identity(site, key, (_certificate(startup / "client.crt"),))  # type: ignore[arg-type]


def _certificate(path: Path) -> bytes:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    except (OSError, ValueError) as error:
        raise SiteHomeError(f"{path.name} cannot be read; run start.sh again.") from error
