"""Registering what a run left and choosing what serves. One function, one transaction, one audit entry."""

import hashlib

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.timezone import now
from django.utils.translation import gettext as _

from fl_jobs.packaging.spec import canonical_json
from platform_web.audit import services as audit
from platform_web.audit.standing import require_witnessed
from platform_web.federation.models import Site
from platform_web.registry import acts as acts
from platform_web.registry.errors import CollectionError, PromotionError
from platform_web.registry.models import Arm, ModelVersion, Promotion, SiteModel
from platform_web.training import services as training
from platform_web.training.journal import FinishLine, SiteFinish, read_line
from platform_web.training.models import Run, Study

MIN_REASON = 10


@transaction.atomic
def register_models(*, run_id: str) -> bool:
    """Make version and site rows of a collected run and close it; False when that has been done before.

    Raises CollectionError when the sites' reports contradict each other; nothing has changed then.
    """
    run = Run.objects.select_for_update().select_related("study").get(pk=run_id)
    if run.state != Run.State.COLLECTING or run.finish is None:
        return False
    finish: FinishLine = read_line(FinishLine, run.finish)
    shared = shared_digests(finish)
    sites = {site.name: site for site in run.sites.filter(name__in=finish.sites)}
    number = Run.objects.filter(study=run.study, state=Run.State.COMPLETED).count() + 1
    rows = []
    for arm in Arm.values:
        reports = {
            name: report for name, report in finish.sites.items() if name in sites and arm in report.files
        }
        if not reports:
            continue
        version = ModelVersion.objects.create(
            run=run,
            arm=arm,
            round=_round_of(finish, arm, reports),
            shared_sha256=shared.get(arm, ""),
            label=f"{run.study.slug} v{number} {arm}",
        )
        rows += [_site_model(version, sites[name], report) for name, report in sorted(reports.items())]
    SiteModel.objects.bulk_create(rows)
    training.complete_run(
        run=run,
        models=[("model_version", f"{run.pk}/{arm}", digest) for arm, digest in sorted(shared.items())],
        site_models_sha256=_digest_of(rows),
    )
    return True


def shared_digests(finish: FinishLine) -> dict[str, str]:
    """Digest of the shared part per arm. Raises CollectionError when server and sites name different ones."""
    found: dict[str, str] = dict(finish.aggregate_sha256)
    for report in finish.sites.values():
        for arm, digest in report.shared_sha256.items():
            if found.setdefault(arm, digest) != digest:
                raise CollectionError(
                    _(
                        "Server and sites report different shared parts for “%(arm)s”. Nothing was "
                        "registered; start the run again."
                    )
                    % {"arm": arm}
                )
    return found


def _round_of(finish: FinishLine, arm: str, reports: dict[str, SiteFinish]) -> int:
    """The chosen round of an arm; arms that share nothing may stand at a round of each site's own."""
    if arm in finish.chosen:
        return finish.chosen[arm]
    return max(report.files[arm].round for report in reports.values())


def _site_model(version: ModelVersion, site: Site, report: SiteFinish) -> SiteModel:
    arm = version.arm
    difference = (report.differences or {}).get(arm)
    return SiteModel(
        version=version,
        site=site,
        round=report.files[arm].round,
        personal_sha256=report.files[arm].personal_sha256,
        rows=report.rows or {},
        cells=(report.cells or {}).get(arm),
        difference=difference.model_dump(exclude_none=True) if difference else None,
        absent_labels=report.absent_labels or [],
        proposal=report.proposal == arm,
    )


def _digest_of(rows: list[SiteModel]) -> str:
    """One digest for all site models: an entry of the log has 8 KiB, a federation may have many sites."""
    named = sorted((row.site.name, row.version.arm, row.personal_sha256) for row in rows)
    return hashlib.sha256(canonical_json(named)).hexdigest()


@transaction.atomic
def promote(*, site_model_id: int, actor: User, reason: str) -> Promotion:
    """Let this model serve its site, in place of the study's present one there.

    Raises PromotionError when it is not the one proposed and no reason of ten characters is given, and
    UnwitnessedError while the sites do not vouch for the audit log.
    """
    require_witnessed()
    chosen = SiteModel.objects.select_related("version__run__study", "site").get(pk=site_model_id)
    study = Study.objects.select_for_update().get(pk=chosen.version.run.study_id)
    reason = " ".join(reason.split())
    if not chosen.proposal and len(reason) < MIN_REASON:
        raise PromotionError(
            _(
                "“%(arm)s” is not what the run proposes for %(site)s. Type the reason for choosing "
                "it (at least %(least)d characters)."
            )
            % {"arm": chosen.version.get_arm_display(), "site": chosen.site.title, "least": MIN_REASON}
        )
    present = Promotion.objects.filter(study=study, site=chosen.site, withdrawn=None).first()
    if present and present.site_model_id == chosen.pk:
        return present
    if present:
        present.withdrawn = now()
        present.save(update_fields=["withdrawn"])
    promotion = Promotion.objects.create(
        site_model=chosen, study=study, site=chosen.site, by=actor, reason=reason[:1000]
    )
    _record_promotion(promotion, present)
    return promotion


def _record_promotion(promotion: Promotion, replaced: Promotion | None) -> None:
    chosen = promotion.site_model
    audit.record(
        act="model.promoted",
        actor=promotion.by,
        site=chosen.site.name,
        run=str(chosen.version.run_id),
        obj=[
            ("promotion", str(promotion.pk), ""),
            ("personal_part", str(chosen.pk), chosen.personal_sha256),
            ("shared_part", str(chosen.version_id), chosen.version.shared_sha256),
        ],
        data={
            "arm": chosen.version.arm,
            "proposed": chosen.proposal,
            "replaces": replaced.pk if replaced else None,
        },
        body={"reason": promotion.reason} if promotion.reason else None,
    )


@transaction.atomic
def withdraw(*, promotion_id: int, actor: User, reason: str) -> Promotion:
    """Stop serving a model; the site answers no requests for this study until another one is promoted.

    Raises PromotionError when it is withdrawn already or no reason is given.
    """
    promotion = Promotion.objects.select_for_update().select_related("site").get(pk=promotion_id)
    reason = " ".join(reason.split())
    if promotion.withdrawn:
        raise PromotionError(_("This model was withdrawn before. Nothing was changed."))
    if len(reason) < MIN_REASON:
        raise PromotionError(
            _("Type the reason for withdrawing the model (at least %(least)d characters).")
            % {"least": MIN_REASON}
        )
    promotion.withdrawn = now()
    promotion.save(update_fields=["withdrawn"])
    audit.record(
        act="model.withdrawn",
        actor=actor,
        site=promotion.site.name,
        obj=[("promotion", str(promotion.pk), "")],
        body={"reason": reason[:1000]},
    )
    return promotion


@transaction.atomic
def record_delivery(*, site: Site, digest: str) -> None:
    """A shared model file leaves the portal for a site; called before its first byte does."""
    audit.record(act="model.delivered", site=site.name, obj=[("shared_part", digest, digest)])
