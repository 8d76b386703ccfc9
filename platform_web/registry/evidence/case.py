"""What a pack is about: one version, its run, and the audit entries and checkpoint that speak of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from django.db.models import Q, QuerySet
from pydantic import ValidationError

from compliance.note import SignedNote
from compliance.witness_policy import WitnessPolicy
from fl_jobs.packaging.spec import RunSpec, canonical_json
from platform_web.audit import selectors as log
from platform_web.audit.models import AuditEvent, AuditHead, AuditSeq
from platform_web.federation.models import Site
from platform_web.registry.models import ModelVersion, Promotion, SiteModel
from platform_web.training.models import Round, Run, RunApproval


@dataclass(frozen=True)
class Case:
    """``as_of``: the pack's own time. Rows are read when they are first asked for, once."""

    version: ModelVersion
    as_of: datetime

    @property
    def run(self) -> Run:
        return self.version.run

    @property
    def moment(self) -> str:
        """``as_of`` as the pack writes it."""
        return self.as_of.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    @cached_property
    def spec(self) -> RunSpec | None:
        """The stored specification, whether or not it still has its digest: that is a control of its own."""
        try:
            return RunSpec.model_validate_json(canonical_json(self.run.spec))
        except ValidationError:  # written by another version
            return None

    @cached_property
    def rounds(self) -> list[Round]:
        return list(Round.objects.filter(run=self.run).order_by("number"))

    @cached_property
    def sites(self) -> list[Site]:
        """The sites whose models the run left, or whose updates are in a committed round."""
        took_part = Q(pk__in=SiteModel.objects.filter(version__run=self.run).values("site"))
        return list(self.run.sites.filter(took_part | self._in_a_round()).distinct().order_by("name"))

    def _in_a_round(self) -> Q:
        return Q(pk__in=Round.objects.filter(run=self.run).values("site_rounds__site"))

    @cached_property
    def site_models(self) -> list[SiteModel]:
        """Of this version."""
        found = SiteModel.objects.filter(version=self.version).select_related("site")
        return list(found.order_by("site__name"))

    @cached_property
    def approvals(self) -> dict[str, RunApproval]:
        """Site → its decision on the run."""
        return {
            row.site.name: row for row in self.run.approvals.select_related("site").order_by("site__name")
        }

    @cached_property
    def entries(self) -> list[AuditEvent]:
        """Every entry about the run and what came of it, oldest first."""
        return list(entries_about(self.run).order_by("number"))

    @cached_property
    def places(self) -> list[AuditSeq]:
        """Where those entries stand that lie under the checkpoint, ascending."""
        if self.head is None:
            return []
        found = AuditSeq.objects.filter(
            shard=self.head.shard, idx__lt=self.head.size, event__in=[one.number for one in self.entries]
        )
        return list(found.order_by("idx"))

    @cached_property
    def head(self) -> AuditHead | None:
        """The checkpoint of the proofs: the newest that the quorum co-signed, else the newest signed one."""
        newest = log.latest_head()
        return None if newest is None else log.witnessed_head(newest.shard) or newest

    @cached_property
    def policy(self) -> WitnessPolicy | None:
        return None if self.head is None else log.witness_policy(self.head.shard)

    @cached_property
    def note(self) -> SignedNote | None:
        """The checkpoint with every cosignature."""
        return None if self.head is None else log.checkpoint_note(self.head)


def entries_about(run: Run) -> QuerySet[AuditEvent]:
    """Entries of the run, its study's opening, and what was promoted, withdrawn or asked of its models."""
    promotions = Promotion.objects.filter(site_model__version__run=run).values_list("pk", flat=True)
    about = Q(job=str(run.pk)) | Q(act="study.opened", obj=f"study:{run.study.slug}")
    for pk in promotions:
        about |= Q(obj=f"promotion:{pk}") | Q(obj__startswith=f"promotion:{pk} ")
    return AuditEvent.objects.filter(about).exclude(act__startswith="evidence.")
