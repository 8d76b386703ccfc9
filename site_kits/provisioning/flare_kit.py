"""NVFlare's startup and local folders for server, sites and administrators: one of NVFlare's three doors.

The files come from ``nvflare.lighter``; its certificate builder is never used (it makes the sites' keys
centrally) and what it leaves open is closed here: only our controller and executor may be loaded, no job
brings code, no log leaves a site, nothing lies in /tmp.

Where the server listens: NVFlare 2.9 binds the loopback address when ``listen_host`` is a loopback name or
address, and every interface (0.0.0.0) otherwise; it has no setting in between, so a deployment with several
interfaces puts a firewall or a TCP forwarder before a loopback server (give ``listen_host="127.0.0.1"``).
"""

import json
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nvflare.lighter.constants import CtxKey
from nvflare.lighter.entity import Project
from nvflare.lighter.impl.static_file import StaticFileBuilder
from nvflare.lighter.impl.workspace import WorkspaceBuilder
from nvflare.lighter.provisioner import Provisioner

from site_kits.errors import ProvisioningError
from site_kits.fence import fence_files
from site_kits.provisioning.flare_policy import ADMINISTRATOR_SETTINGS, SERVER_AUTHORIZATION, server_resources

_logger = logging.getLogger(__name__)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_ORGANISATION = "consilium"  # NVFlare's rules never ask for it here; a site's own stands in its certificate


@dataclass(frozen=True)
class FederationFacts:
    """What every participant must know. ``host``:``port`` is where sites reach the server.

    ``listen_host`` (default: ``host``) is where the server binds; see the module's first lines.
    """

    project: str
    server_name: str
    host: str
    port: int
    listen_host: str = ""

    def __post_init__(self) -> None:
        """Raise ProvisioningError for a name, host or port that NVFlare would not take."""
        for label, value, pattern in (
            ("federation name", self.project, _NAME),
            ("server name", self.server_name, _NAME),
            ("host", self.host, _HOST),
            ("listen host", self.listen_host or self.host, _HOST),
        ):
            if not pattern.fullmatch(value):
                raise ProvisioningError(f"{value!r} is not usable as the {label}; use letters, digits and -.")
        if not 1 <= self.port <= 65535:
            raise ProvisioningError(f"Port {self.port} does not exist; choose one between 1 and 65535.")


def write_server_kit(
    folder: Path,
    facts: FederationFacts,
    server_key_pem: bytes,
    server_cert_pem: bytes,
    root_pem: bytes,
) -> None:
    """Write ``startup/`` and ``local/`` of the server into ``folder``; run again, it replaces them.

    Job store and snapshots lie in ``folder`` by absolute path: after moving it, call this again.
    """
    folder = folder.resolve()
    _build(facts, facts.server_name, folder)
    startup = folder / "startup"
    config = _read_json(startup / "fed_server.json")
    config["servers"][0]["service"]["target"] = f"{facts.listen_host or facts.host}:{facts.port}"
    _write_json(startup / "fed_server.json", config)
    _write_json(folder / "local" / "resources.json", server_resources(folder))
    _write_json(folder / "local" / "authorization.json", SERVER_AUTHORIZATION)
    _write_identity(startup, "server", server_key_pem, server_cert_pem, root_pem)


def write_site_kit_files(
    folder: Path, facts: FederationFacts, site: str, organisation: str, root_pem: bytes
) -> None:
    """Write ``startup/`` and ``local/`` of a site into ``folder``: no key and no certificate of the site.

    Its agent adds ``startup/client.key`` and ``client.crt`` when it enrols, and opens ``local/`` as far as
    the site's policy does: a kit's own files permit nothing. ``organisation`` is for people; NVFlare reads
    it from the certificate.
    """
    if not _NAME.fullmatch(site):
        raise ProvisioningError(f"{site!r} is not usable as a site name; use a-z, 0-9 and -.")
    _build(facts, site, folder)
    for name, content in fence_files(None, ()).items():
        _write_json(folder / "local" / name, content)
    (folder / "startup" / "rootCA.pem").write_bytes(root_pem)
    _logger.info("wrote the NVFlare files of site %s (%s)", site, organisation)


def write_admin_kit(
    folder: Path,
    facts: FederationFacts,
    name: str,
    key_pem: bytes,
    cert_pem: bytes,
    root_pem: bytes,
) -> None:
    """Write the folder that ``new_secure_session(username=name, startup_kit_location=folder)`` needs."""
    if not _NAME.fullmatch(name):
        raise ProvisioningError(f"{name!r} is not usable as an administrator name.")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _build(facts, None, folder)
    startup = folder / "startup"
    config = _read_json(startup / "fed_admin.json")
    config["admin"]["username"] = name
    _write_json(startup / "fed_admin.json", config)
    _write_json(folder / "local" / "resources.json", ADMINISTRATOR_SETTINGS)
    _write_identity(startup, "client", key_pem, cert_pem, root_pem)


def _build(facts: FederationFacts, participant: str | None, folder: Path) -> None:
    """Let NVFlare write the files of one participant (None: an administrator) and move them to ``folder``."""
    stand_in = (
        "admin@federation.example"  # NVFlare insists on an e-mail form; the real name is set afterwards
    )
    project = Project(name=facts.project, description="", props={"api_version": 3})
    project.set_server(
        facts.server_name,
        _ORGANISATION,
        {"fed_learn_port": facts.port, "admin_port": facts.port, "default_host": facts.host},
    )
    if participant is None:
        project.add_admin(stand_in, _ORGANISATION, {"role": "lead"})
    elif participant != facts.server_name:
        project.add_client(participant, _ORGANISATION, {})
    with TemporaryDirectory(prefix="consilium-kit-") as scratch:
        builders = [
            WorkspaceBuilder(),
            StaticFileBuilder(config_folder="config", scheme="grpc", require_signed_jobs=True),
        ]
        context = Provisioner(root_dir=scratch, builders=builders).provision(project, logger=_QuietLogger())
        # an exception in a builder is swallowed by NVFlare; this is the only trace of it
        if context.get(CtxKey.BUILD_ERROR):
            raise ProvisioningError(f"NVFlare could not make the kit: {'; '.join(context.get_errors())}")
        made = Path(context.get_result_location()) / (participant or stand_in)
        for part in ("startup", "local"):
            shutil.copytree(made / part, folder / part, dirs_exist_ok=True)
    for name in ("resources.json.default", "authorization.json.default", "privacy.json.sample"):
        (folder / "local" / name).unlink(missing_ok=True)
    for name in ("start.sh", "stop_fl.sh", "readme.txt", "fl_admin.sh", "system_info.ipynb"):
        # start.sh restarts NVFlare behind the supervisor's back; the others are for a person at a console
        (folder / "startup" / name).unlink(missing_ok=True)


def _write_identity(startup: Path, base: str, key_pem: bytes, cert_pem: bytes, root_pem: bytes) -> None:
    key_file = startup / f"{base}.key"
    key_file.touch(mode=0o600)
    key_file.chmod(0o600)
    key_file.write_bytes(key_pem)
    (startup / f"{base}.crt").write_bytes(cert_pem)
    (startup / "rootCA.pem").write_bytes(root_pem)


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class _QuietLogger:
    """NVFlare's builders talk to a person at a console; here only the errors count."""

    def debug(self, message: str) -> None:
        _logger.debug("nvflare: %s", message)

    info = warning = debug

    def error(self, message: str) -> None:
        _logger.error("nvflare: %s", message)
