"""Asking for a pack, making it in a worker, handing it over: each an entry of the log."""

from pathlib import Path

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compliance.evidence.dsse import key_id
from platform_web.accounts.models import Role
from platform_web.audit import services as audit
from platform_web.audit.errors import UnfitError, UnwitnessedError
from platform_web.audit.models import AuditEvent
from platform_web.audit.standing import require_witnessed
from platform_web.federation import places
from platform_web.federation.models import Site
from platform_web.outbox import services as outbox
from platform_web.outbox.errors import TransientError
from platform_web.registry import acts as acts
from platform_web.registry.errors import EvidenceError
from platform_web.registry.evidence.case import Case
from platform_web.registry.evidence.pack import Pack, build_pack, signing_key
from platform_web.registry.models import EvidencePack, ModelVersion

EVIDENCE_ROLES = (Role.ADMINISTRATOR, Role.AUDITOR)  # who acted when is for them alone


@transaction.atomic
def ask_for_pack(*, version: ModelVersion, language: str, actor: User) -> EvidencePack:
    """Promise a pack of this version as of now.

    Raises EvidenceError for an unknown language, UnwitnessedError while the sites do not vouch for the log.
    """
    if language not in Site.Language.values:
        raise EvidenceError(_("Choose English or Chinese as the language of the pack."))
    require_witnessed()
    pack = EvidencePack.objects.create(
        version=version, language=language, asked=timezone.now(), asked_by=actor
    )
    _record("evidence.asked", pack, actor, {"language": language})
    outbox.enqueue("registry.make_pack", pack_id=str(pack.pk))
    return pack


def make_pack(*, pack_id: str) -> None:
    """Build, store, and only then say so: a worker cut off in between makes the same pack again."""
    row = EvidencePack.objects.select_related("version__run__study", "asked_by").get(pk=pack_id)
    if row.made is not None:
        return
    try:
        require_witnessed()
        pack = build_pack(Case(row.version, row.asked), row.language)
    except (UnwitnessedError, UnfitError) as error:
        EvidencePack.objects.filter(pk=row.pk, made=None).update(error=str(error))
        raise
    digest = _store(pack)
    _issue(row, pack, digest)


def _store(pack: Pack) -> str:
    """Whole or not at all, under its digest."""
    digest = pack.archive_sha256
    try:
        places.write_private(places.evidence_zip(digest), pack.archive)
    except OSError as error:
        raise TransientError(
            _("The evidence pack cannot be written: %(reason)s. Free space on the portal's disk.")
            % {"reason": error.strerror}
        ) from error
    return digest


@transaction.atomic
def _issue(row: EvidencePack, pack: Pack, digest: str) -> None:
    """The digest of the manifest and its entry, together or not at all."""
    failing = [claim.control.name for claim in pack.claims if not claim.holds]
    issued = EvidencePack.objects.filter(pk=row.pk, made=None).update(
        made=timezone.now(),
        zip_sha256=digest,
        manifest_sha256=pack.manifest_sha256,
        bytes=len(pack.archive),
        failing=failing,
        error="",
    )
    if issued:
        row.manifest_sha256 = pack.manifest_sha256
        key = key_id(signing_key().public_key())
        _record("evidence.issued", row, None, {"language": row.language, "failing": failing, "key": key})


@transaction.atomic
def hand_over(*, pack: EvidencePack, actor: User) -> Path:
    """The file of a pack, and the entry that it was fetched. Raises EvidenceError when it is not there."""
    if pack.made is None:
        raise EvidenceError(_("This pack is still being made. Try again in a moment."))
    path = places.evidence_zip(pack.zip_sha256)
    if not path.is_file():
        raise EvidenceError(_("The file of this pack is gone from the portal's disk. Ask for a new pack."))
    _record("evidence.fetched", pack, actor, {})
    return path


def _record(act: str, pack: EvidencePack, actor: User | None, data: dict[str, object]) -> AuditEvent:
    return audit.record(
        act=act,
        actor=actor,
        run=str(pack.version.run_id),
        obj=[
            ("evidence", str(pack.pk), pack.manifest_sha256),
            ("model_version", str(pack.version_id), pack.version.shared_sha256),
        ],
        data=data,
    )
