"""What must hold before a site can run, each failure as a sentence with its remedy."""

import os
import shutil
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from site_kits.agent.portal import PortalDoor
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome
from site_kits.translation import _

MIN_FREE_BYTES = 500 * 2**20  # a run's model files and logs; the installation itself is checked by start.sh
_KIT_FILES = ("site.json", "rootCA.pem", "flare/startup/sub_start.sh", "flare/startup/fed_client.json")


def load_manifest(home: SiteHome) -> KitManifest:
    """site.json of a complete kit. Raises SiteKitError when the kit is incomplete or its parts do not fit."""
    check_path(home)
    check_kit_files(home)
    manifest = KitManifest.read(home.site_json)
    check_root(home, manifest)
    return manifest


def check_path(home: SiteHome) -> None:
    """Raises AgentError for a path that NVFlare, which builds its job command without quoting, cannot use."""
    if not set(" \t\n\"'\\").isdisjoint(str(home.root)):
        sentence = _("The path {folder} has spaces or quotes, which training cannot use. Rename the folder.")
        raise AgentError(sentence.format(folder=home.root))


def check_kit_files(home: SiteHome) -> None:
    """Raises AgentError when a file of the kit is missing."""
    missing = [name for name in _KIT_FILES if not (home.root / name).is_file()]
    if missing:
        raise AgentError(
            _("{folder} is not a complete kit, {files} is missing. Unpack the whole zip again.").format(
                folder=home.root, files=", ".join(missing)
            )
        )


def check_root(home: SiteHome, manifest: KitManifest) -> None:
    """Raises AgentError when rootCA.pem is not the one that ``site.json`` names."""
    try:
        root = x509.load_pem_x509_certificate(home.root_ca.read_bytes())
    except ValueError as exc:
        raise AgentError(_("rootCA.pem is damaged. Unpack the whole zip again.")) from exc
    if root.fingerprint(hashes.SHA256()).hex() != manifest.root_fingerprint_sha256:
        raise AgentError(
            _("rootCA.pem is not the one site.json names: the files of two kits are mixed. Unpack one again.")
        )


def check_python() -> None:
    """Raises AgentError when this interpreter is too old or has no python3 beside it for NVFlare's script."""
    if sys.version_info < (3, 11):  # noqa: UP036 — CONSILIUM_PYTHON may name any interpreter
        raise AgentError(_("Python 3.11 or newer is needed; set CONSILIUM_PYTHON to one."))
    if not Path(sys.executable).with_name("python3").exists():
        raise AgentError(
            _("There is no python3 beside {python}. Set CONSILIUM_PYTHON to the Python of a venv.").format(
                python=sys.executable
            )
        )


def check_disk(home: SiteHome) -> None:
    """Raises AgentError below 500 MiB of free space (CONSILIUM_MIN_FREE_MB changes the bound)."""
    wished = os.environ.get("CONSILIUM_MIN_FREE_MB", "")
    needed = int(wished) if wished.isdigit() else MIN_FREE_BYTES // 2**20
    free = shutil.disk_usage(home.root).free // 2**20
    if free < needed:
        raise AgentError(
            _("Only {free} MiB are free on the disk of {folder}; {needed} MiB are needed. Make room.").format(
                free=free, folder=home.root, needed=needed
            )
        )


def check_kit_expiry(manifest: KitManifest) -> None:
    """Raises AgentError when a kit that was never enrolled is past its date."""
    if manifest.is_expired(datetime.now(UTC)):
        raise AgentError(
            _(
                "The link that came with this kit ended on {day}. Ask the administrator for a new invitation "
                "and run: ./start.sh LINK"
            ).format(day=manifest.kit_expires[:10])
        )


def check_flare(manifest: KitManifest, *, timeout_s: float = 5.0) -> None:
    """Raises AgentError when nothing listens at the NVFlare server's address."""
    try:
        socket.create_connection((manifest.flare_host, manifest.flare_port), timeout=timeout_s).close()
    except OSError as exc:
        raise AgentError(
            _(
                "The training server at {host}:{port} does not answer. Check that outgoing connections to "
                "this address are open in your firewall; the site keeps trying."
            ).format(host=manifest.flare_host, port=manifest.flare_port)
        ) from exc


def check_portal(door: PortalDoor) -> None:
    """Raises PortalUnreachableError when the portal does not answer over verified TLS."""
    door.probe()
