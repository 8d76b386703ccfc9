"""The kit on disk: built once by the worker, handed out by the web process while its link works."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.utils.translation import gettext as _

from platform_web.federation import authority, places, services
from platform_web.federation.errors import KitError, SetupError
from platform_web.federation.models import Federation, Kit
from site_kits.errors import SiteKitError
from site_kits.manifest import KitManifest
from site_kits.provisioning.archive import write_kit_archive
from site_kits.provisioning.ca import fingerprint_sha256


def build_kit(kit: Kit) -> None:
    """Write the archive and record it. It holds no secret: the link and the PIN are the site's credential.

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
    archive = folder / "kit.zip"
    write_kit_archive(
        archive,
        manifest=manifest_of(kit, federation),
        flare_folder=folder / "flare",
        wheel=_wheel(),
        constraints=Path(settings.CONSILIUM_CONSTRAINTS),
    )
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = places.kit_zip(kit.pk, digest)
    archive.replace(target)
    if not services.record_kit_built(kit=kit, zip_sha256=digest):
        target.unlink(missing_ok=True)  # another worker was first; its row names its own file
    _remove_older(kit)


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
        kit_expires=kit.link_expires.isoformat(timespec="seconds"),
    )


def take_kit(token: str, pin: str) -> tuple[Kit, BinaryIO]:
    """The kit of a one-time link and its open archive.

    Raises KitLinkUnknownError, KitLinkUsedError, KitLinkExpiredError, KitNotReadyError, PinWrongError,
    KitLockedError, or KitError when the file is gone.
    """
    kit = services.hand_out_kit(token=token, pin=pin)
    try:
        return kit, places.kit_zip(kit.pk, kit.zip_sha256).open("rb")
    except OSError as error:
        raise KitError(_("The kit's file is gone. Ask the administrator for a new invitation.")) from error


def _remove_older(kit: Kit) -> None:
    """Archives of earlier invitations of the site that nobody can fetch any more."""
    for older in Kit.objects.filter(site=kit.site, built_at__isnull=False).exclude(pk=kit.pk):
        if older.enrolled_at or older.revoked_at:
            places.kit_zip(older.pk, older.zip_sha256).unlink(missing_ok=True)
