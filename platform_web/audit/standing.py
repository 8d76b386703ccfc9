"""How the log stands: what is signed, what the sites vouch for, and what has to wait while they do not."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.audit import promises, recounting, rounds, selectors
from platform_web.audit.errors import UnwitnessedError
from platform_web.audit.models import AuditEvent, AuditEvidence, AuditHead, AuditSeq

WITNESS_GRACE: Final = timedelta(minutes=2)  # a site comes by every 15 to 60 seconds


@dataclass(frozen=True)
class Standing:
    """The figures of the status line; times are those of the oldest entry that is not covered."""

    entries: int
    signed: int
    witnessed: int
    cosigned_by: int
    sites: int
    quorum: int
    unsigned_since: datetime | None
    unwitnessed_since: datetime | None
    contradictions: int
    unkept: int  # entries that sites hold receipts for and that are not in the log
    altered: list[str]  # places, year/index, whose entries are gone or no longer have their bytes
    checked: rounds.Checked | None  # by the portal itself, all the time

    @property
    def is_good(self) -> bool:
        late = self.unsigned_since or self.unwitnessed_since or (self.checked and self.checked.is_late)
        return not (self.is_broken or late)

    @property
    def is_broken(self) -> bool:
        found = self.checked is not None and self.checked.findings
        return bool(self.contradictions or self.unkept or self.altered or found)


def standing() -> Standing:
    """As of now; a handful of indexed reads whatever the log's size."""
    before = sum(selectors.sequenced_size(shard.year) for shard in selectors.shards()[:-1])
    shard, head = selectors.current_shard(), selectors.latest_head()
    policy = selectors.witness_policy(shard.year) if shard else None
    covered = selectors.witnessed_head(shard.year) if shard else None
    placed = selectors.sequenced_size(shard.year) if shard else 0
    signers = policy.signers(selectors.checkpoint_note(covered)) if policy and covered else {}
    signed = head.size if head and shard and head.shard == shard.year else 0
    return Standing(
        entries=before + placed + _waiting(),
        signed=before + signed,
        witnessed=before + covered.size if covered and signers else 0,
        cosigned_by=len(signers),
        sites=len(policy.witnesses) if policy else 0,
        quorum=policy.groups["sites"][0] if policy and policy.quorum == "sites" else 0,
        unsigned_since=selectors.unsigned_since(),
        unwitnessed_since=_unwitnessed_since(covered, shard.year)
        if shard and policy and policy.witnesses
        else None,
        contradictions=AuditEvidence.objects.count(),
        unkept=promises.unkept(),
        altered=recounting.altered_now(),
        checked=rounds.checked(),
    )


def require_witnessed() -> None:
    """Raises UnwitnessedError, with a sentence, while the sites do not vouch for the log.

    What is promoted or handed out as evidence then could be shown with a history that nobody else has seen.
    A federation whose sites do not witness yet is not held up.
    """
    now = standing()
    if now.contradictions:
        raise UnwitnessedError(
            _(
                "A site has proven that this log was shown in two versions. "
                "Nothing is promoted until that is cleared up."
            )
        )
    if now.altered or (now.checked and now.checked.findings):
        raise UnwitnessedError(
            _("Entries of the log are gone or were changed. Nothing is promoted until that is cleared up.")
        )
    if now.unsigned_since and now.signed:  # a log that was never signed is one that is being set up
        raise UnwitnessedError(
            _(
                "The log has not been signed since %(time)s UTC, so nothing is promoted. "
                "Start the signer and the sequencer."
            )
            % {"time": _time(now.unsigned_since)}
        )
    if now.unwitnessed_since:
        raise UnwitnessedError(
            _(
                "Fewer than %(quorum)d of %(sites)d sites have co-signed the log since %(time)s UTC, "
                "so nothing is promoted. Look which sites are offline."
            )
            % {"quorum": now.quorum, "sites": now.sites, "time": _time(now.unwitnessed_since)}
        )


def _unwitnessed_since(covered: AuditHead | None, year: int) -> datetime | None:
    """The time of the first entry behind the newest witnessed head, when the sites had time to see it."""
    first = covered.size if covered else 0
    later = AuditEvent.objects.filter(seq__shard=year, seq__idx=first).values_list("ts", flat=True).first()
    return later if later is not None and timezone.now() - later > WITNESS_GRACE else None


def _waiting() -> int:
    last = AuditSeq.objects.order_by("-event_id").values_list("event_id", flat=True).first() or 0
    return AuditEvent.objects.filter(number__gt=last).count()


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
