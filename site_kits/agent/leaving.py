"""``consilium-site leave``: out of the federation for good, without leaving secrets behind."""

import argparse
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from fl_jobs.approval import site_log
from site_kits.agent import preflight
from site_kits.agent.enrolment import ISSUED, stored_identity
from site_kits.agent.logs import log_to
from site_kits.agent.portal import PortalDoor, PortalRefusedError
from site_kits.agent.processes import HomeLock, end_marked
from site_kits.agent.standing import barred
from site_kits.agent.status import utc_now
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome, sync_folder, write_state
from site_kits.translation import _

log = logging.getLogger("consilium.site")

LEFT = "left.json"  # below state/


def secrets_of(home: SiteHome) -> list[Path]:
    """Whatever lets somebody speak as this site, or opens what it said under masks."""
    return [
        home.key,
        home.certificate,
        home.state / "enrolment_answer.pem",
        home.state / ISSUED,
        home.root / "secagg",
        home.root / "secagg_peers.json",
        home.state / "secagg_seen.json",
        home.serving_json,
        home.console_passphrase,
        home.pseudonym_key,
        home.witness / "key.pem",
        home.root / site_log.FOLDER / "key.pem",
    ]


def models_of(home: SiteHome) -> list[Path]:
    """What training left here: personal parts and shared parts."""
    return [home.root / "personal", home.root / "artifacts"]


def add_command(commands: Any) -> None:
    """Add ``leave`` to the parser of ``consilium-site``."""
    leave = commands.add_parser("leave", help=_("leave the federation and delete this site's secrets"))
    leave.add_argument(
        "--yes", metavar="NAME", default="", help=_("the site's short name, instead of asking")
    )
    leave.add_argument("--wipe-models", action="store_true", help=_("delete the trained models as well"))
    leave.set_defaults(command=leave_federation)


def leave_federation(home: SiteHome, parsed: argparse.Namespace) -> int:
    """Tell the portal, then delete. 1 when the portal could not be told: the administrator has to revoke."""
    manifest = preflight.load_manifest(home)
    _confirm(manifest, parsed.yes)
    log_to(home)
    with HomeLock(home):
        end_marked(home, ("client", "inference"), grace_s=3)  # of an agent that was killed
        sentence = _tell(home, manifest)
        gone = [*secrets_of(home), *(models_of(home) if parsed.wipe_models else [])]
        for path in gone:
            _delete(path)
        write_state(home.state / LEFT, {"at": utc_now(), "portal_told": sentence is None})
    log.info(_("Site %s has left. Its key, certificate and other secrets are deleted."), manifest.site)
    if not parsed.wipe_models:
        log.info(_("Data and trained models are still here; --wipe-models deletes the models."))
    if sentence is not None:
        log.warning("%s", sentence)
    return 0 if sentence is None else 1


def _confirm(manifest: KitManifest, typed: str) -> None:
    """Raises AgentError unless the site's name was typed."""
    if not typed and sys.stdin.isatty():
        sys.stdout.write(
            _("This cannot be undone. Type the site's short name ({site}) to leave: ").format(
                site=manifest.site
            )
        )
        sys.stdout.flush()
        typed = sys.stdin.readline().strip()
    if typed != manifest.site:
        raise AgentError(
            _(
                "Nothing was changed. To leave, give the site's name: consilium-site leave --yes {site}"
            ).format(site=manifest.site)
        )


def _tell(home: SiteHome, manifest: KitManifest) -> str | None:
    """None once the portal knows, else what the administrator has to do, in one sentence."""
    try:
        identity = stored_identity(home, manifest)
        if identity is None:
            return None  # never enrolled: there is nothing to revoke
        door = PortalDoor(manifest.agents_url, home.root_ca)
        try:
            door.leave(identity.signer())
        finally:
            door.close()
    except AgentError as exc:
        if isinstance(exc, PortalRefusedError) and exc.code in {"left", "revoked"} and barred(exc):
            return None
        return _(
            "The portal could not be told ({reason}) Ask the administrator to revoke the certificates of "
            "{site} in the portal: page Sites, {site}, Ask for revocation."
        ).format(reason=exc, site=manifest.site)
    return None


def _delete(path: Path) -> None:
    """The file or folder is gone, also after a power cut."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_folder(path.parent)
