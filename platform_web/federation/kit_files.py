"""The kit on disk: built once by the worker, handed out once by the web process."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.utils.translation import gettext as _

from platform_web.federation import authority, places, selectors, services
from platform_web.federation.errors import KitError, KitNotReadyError, SetupError
from platform_web.federation.models import Federation, Kit
from platform_web.federation.secrets import new_token
from site_kits.errors import SiteKitError
from site_kits.manifest import KitManifest
from site_kits.provisioning.archive import write_kit_archive
from site_kits.provisioning.ca import fingerprint_sha256


def build_kit(kit: Kit) -> None:
    """Write the archive and record it; the enrolment token exists in the archive only.

    Raises SetupError or KitError with a sentence that is also kept in the kit's row.
    """
    from site_kits.provisioning.flare_kit import write_site_kit_files  # NVFlare: never in the web process

    if kit.built_at is not None or kit.revoked_at is not None:
        return
    federation = authority.the_federation()
    folder = Path(tempfile.mkdtemp(prefix="kit-", dir=places.private_folder(places.home() / "kits")))
    try:
        root = federation.root_certificate_pem.encode()
        write_site_kit_files(
            folder / "flare", authority.facts(federation), kit.site.name, kit.site.organisation, root
        )
        _publish(kit, federation, folder)
    except (SiteKitError, SetupError) as error:
        services.record_kit_failed(kit=kit, sentence=str(error))
        raise KitError(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(kit: Kit, federation: Federation, folder: Path) -> None:
    token = new_token()
    archive = folder / "kit.zip"
    write_kit_archive(
        archive,
        manifest=manifest_of(kit, federation),
        flare_folder=folder / "flare",
        wheel=_wheel(),
        constraints=Path(settings.CONSILIUM_CONSTRAINTS),
        token=token,
    )
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = places.kit_zip(kit.pk, digest)
    archive.replace(target)
    if not services.record_kit_built(kit=kit, enrolment_token=token, zip_sha256=digest):
        target.unlink(missing_ok=True)  # another worker was first; its row names its own file


def _wheel() -> Path:
    if not settings.CONSILIUM_WHEEL:
        raise SetupError(_("CONSILIUM_WHEEL is not set: it must name the built wheel that kits carry."))
    return Path(settings.CONSILIUM_WHEEL)


def manifest_of(kit: Kit, federation: Federation) -> KitManifest:
    """What the kit tells its site."""
    site = kit.site
    return KitManifest(
        site=site.name,
        title=site.title,
        organisation=site.organisation,
        federation=federation.name,
        agents_url=federation.agents_url,
        web_origin=federation.web_origin,
        flare_host=federation.flare_host,
        flare_port=federation.flare_port,
        server_name=federation.server_name,
        root_fingerprint_sha256=fingerprint_sha256(federation.root_certificate_pem.encode()),
        ticket_keys=tuple(authority.public_ticket_keys()),
        kit_expires=kit.enrolment_expires.isoformat(timespec="seconds"),
    )


def take_kit(token: str) -> tuple[Kit, BinaryIO]:
    """The kit of a one-time link and its open archive, which is gone from the disk.

    The file is opened before the link is used up, so that a lost file does not cost the link.
    Raises KitLinkUnknownError, KitLinkUsedError, KitLinkExpiredError, KitNotReadyError or KitError.
    """
    kit = selectors.open_kit(token)
    if kit.built_at is None:
        raise KitNotReadyError(kit.error or _("The kit is being prepared. Try again in a few seconds."))
    path = places.kit_zip(kit.pk, kit.zip_sha256)
    try:
        file = path.open("rb")
    except OSError as error:
        raise KitError(_("The kit's file is not there. Ask the administrator for a new kit.")) from error
    try:
        kit = services.hand_out_kit(token=token)
    except KitError:
        file.close()
        raise
    path.unlink(missing_ok=True)
    return kit, file
