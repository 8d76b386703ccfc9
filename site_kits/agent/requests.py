"""Runs that ask for this site's approval: what they want, what the policy says, what the operator decided.

The portal's words arrive through ``agent/approvals.py``; the site's console and command line read and decide
here. Files below ``requests/`` of the site's home are replaced whole, so a reader never sees half of one.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compliance.policy import Decision, Policy, meet
from compliance.policy import decide as decide_by
from fl_jobs.approval import RunRequest, SiteDecision, facts_of, read_decision, read_request, site_policy
from fl_jobs.approval.records import REQUESTS, RUN_ID, now, run_folder
from fl_jobs.errors import FLJobError
from fl_jobs.packaging.spec import RunSpec
from fl_jobs.tensor_files import write_bytes
from site_kits.agent.site_acts import log_act
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome, read_state, write_state
from site_kits.translation import _
from site_kits.translation import noted as _n

__all__ = [
    "Change",
    "LeavingTensor",
    "RunRequest",
    "SiteDecision",
    "StoredRequest",
    "decide",
    "decide_by_policy",
    "effective_policy",
    "is_sent",
    "keep_request",
    "leaving_tensors",
    "list_requests",
    "load_request",
    "note_sent",
    "rule_sentence",
]
MAX_REASON = 2000
_RULES = {
    "cohort.min_sites": _n("The run would go on with fewer sites than this site's policy asks for."),
    "studies": _n("This study is not among those that this site takes part in."),
    "algorithms": _n("This algorithm is not among those that this site permits."),
    "privacy.secure_aggregation": _n("The server would see this site's update; the policy asks for masks."),
    "privacy.differential_privacy": _n("The policy asks for differential privacy; the run has none."),
    "output.max_answer_bytes": _n("One answer of the run holds more bytes than the policy lets out."),
    "output.max_rounds": _n("The run has more rounds than the policy permits."),
    "approval.mode": _n("The policy leaves this run to a person."),
}


@dataclass(frozen=True)
class LeavingTensor:
    """One tensor that leaves in every answer of ``phase`` ("train": every round), 4 bytes a number."""

    name: str
    phase: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Change:
    """One setting that differs from the last run of the study this site approved; None: not there."""

    place: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class StoredRequest:
    """A request at this site. ``verdict`` is what the policy says now; None while the policy is unusable.

    ``compared_with`` is the run id of the last approved run of the study, whose settings ``changes`` starts
    from; empty when there is none. ``answer_from_portal`` tells why the portal did not take a decision.
    """

    request: RunRequest
    decision: SiteDecision | None
    verdict: Decision | None
    changes: tuple[Change, ...]
    compared_with: str
    sent: bool
    answer_from_portal: str


def list_requests(home: SiteHome) -> list[StoredRequest]:
    """Every request, undecided ones first, then the newest first. Damaged ones are left out (see doctor)."""
    folder, found = home.root / REQUESTS, []
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    policy = _usable_policy(home)
    for run_id in filter(RUN_ID.fullmatch, names):
        try:
            found.append((read_request(home.root, run_id), read_decision(home.root, run_id)))
        except FLJobError:
            continue
    found.sort(key=lambda pair: pair[0].asked_at, reverse=True)
    stored = [_stored(home, request, decision, found, policy) for request, decision in found]
    return sorted(stored, key=lambda each: each.decision is not None)


def load_request(home: SiteHome, run_id: str) -> StoredRequest:
    """One request, by the first characters of its id. Raises AgentError unless exactly one fits."""
    fitting = [each for each in list_requests(home) if run_id and each.request.run_id.startswith(run_id)]
    if len(fitting) != 1:
        raise AgentError(
            _("There is no single request of run {run}. See them with: consilium-site requests").format(
                run=run_id[:40]
            )
        )
    return fitting[0]


def decide(home: SiteHome, run_id: str, approve: bool, reason: str, person: str) -> None:  # noqa: FBT001 — the console's API
    """Write the operator's decision down; the heartbeat signs and sends it. It may be changed later.

    Raises AgentError: no such run, an approval against the policy, a refusal without a reason.
    """
    stored = load_request(home, run_id)
    request, reason = stored.request, reason.strip()
    if not approve and not reason:
        raise AgentError(_("Say why the run is refused; the person who asked reads it."))
    if len(reason) > MAX_REASON:
        raise AgentError(
            _("The reason is longer than {most} characters. Shorten it.").format(most=MAX_REASON)
        )
    with _sentences():
        policy = effective_policy(home, request)
    verdict = decide_by(facts_of(request.spec), policy)
    if approve and verdict.effect == "refuse":
        raise AgentError(
            _("The policy refuses this run, so it cannot be approved: {rules}").format(
                rules=" ".join(rule_sentence(rule) for rule in verdict.rules)
            )
        )
    decision = SiteDecision(
        run_id=request.run_id,
        run_digest=request.run_digest,
        approve=approve,
        by="person",
        person=person.strip()[:150],
        reason=reason,
        decided_at=now(),
        policy=policy,
    )
    _write_decision(home, decision)


def decide_by_policy(home: SiteHome, request: RunRequest) -> SiteDecision | None:
    """Decide a new request as the policy says; None when it leaves the run to a person.

    Raises SiteHomeError for a policy that cannot be used.
    """
    policy = effective_policy(home, request)
    verdict = decide_by(facts_of(request.spec), policy)
    if verdict.effect == "ask":
        return None
    decision = SiteDecision(
        run_id=request.run_id,
        run_digest=request.run_digest,
        approve=verdict.effect == "allow",
        by="rule",
        reason=" ".join(rule_sentence(rule) for rule in verdict.rules),
        rules=verdict.rules,
        decided_at=now(),
        policy=policy,
    )
    _write_decision(home, decision)
    return decision


def _write_decision(home: SiteHome, decision: SiteDecision) -> None:
    act = "run.approved" if decision.approve else "run.refused"
    digest = decision.policy.digest()
    log_act(home, act, run=decision.run_id, obj=decision.run_digest, by=decision.by, policy=digest)
    path = run_folder(home.root, decision.run_id) / "decision.json"
    write_bytes(path, decision.model_dump_json(indent=1).encode(), mode=0o600)


def keep_request(home: SiteHome, request: RunRequest) -> None:
    """Put a request that arrived on disk, durably."""
    path = run_folder(home.root, request.run_id) / "request.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(path, request.model_dump_json().encode(), mode=0o600)


def note_sent(home: SiteHome, decision: SiteDecision, answer: str = "") -> None:
    """The portal has this decision; ``answer`` is its sentence when it did not take it."""
    write_state(_sent_file(home, decision.run_id), {"decision": _mark(decision), "answer": answer})


def is_sent(home: SiteHome, decision: SiteDecision) -> bool:
    """Whether the portal has answered to this decision."""
    return read_state(_sent_file(home, decision.run_id)).get("decision") == _mark(decision)


def _sent_file(home: SiteHome, run_id: str) -> Path:
    return run_folder(home.root, run_id) / "sent.json"


def _mark(decision: SiteDecision) -> str:
    return hashlib.sha256(decision.model_dump_json().encode()).hexdigest()


def effective_policy(home: SiteHome, request: RunRequest) -> Policy:
    """The meet of platform, study and site as it is now. Raises SiteHomeError for an unusable policy.toml."""
    return meet(request.platform_policy, request.study_policy, site_policy(home.root))


def leaving_tensors(spec: RunSpec) -> list[LeavingTensor]:
    """The tensors that leave in an answer, as the specification declares and the filter enforces them."""
    return [
        LeavingTensor(tensor.wire_name, tensor.phase, tensor.shape, 4 * tensor.size)
        for tensor in sorted(spec.tensors, key=lambda tensor: (tensor.phase, tensor.wire_name))
    ]


def rule_sentence(rule: str) -> str:
    """What a rule of the policy means, for a person."""
    return _(_RULES[rule]) if rule in _RULES else rule


def _stored(
    home: SiteHome,
    request: RunRequest,
    decision: SiteDecision | None,
    everything: list[tuple[RunRequest, SiteDecision | None]],
    policy: Policy | None,
) -> StoredRequest:
    before = next((other for other, said in everything if _precedes(other, said, request)), None)
    verdict = None
    if policy is not None:
        effective = meet(policy, request.platform_policy, request.study_policy)
        verdict = decide_by(facts_of(request.spec), effective)
    changes = () if before is None else tuple(_changes(before.spec, request.spec))
    sent = decision is not None and is_sent(home, decision)
    answer = read_state(_sent_file(home, request.run_id)).get("answer", "") if sent else ""
    return StoredRequest(
        request=request,
        decision=decision,
        verdict=verdict,
        changes=changes,
        compared_with=before.run_id if before else "",
        sent=sent,
        answer_from_portal=str(answer),
    )


def _precedes(other: RunRequest, said: SiteDecision | None, request: RunRequest) -> bool:
    same_study = other.spec.study.slug == request.spec.study.slug
    earlier = other.run_id != request.run_id and other.asked_at < request.asked_at
    return same_study and earlier and said is not None and said.approve


def _changes(before: RunSpec, after: RunSpec) -> Iterator[Change]:
    old, new = (dict(_leaves("", spec.model_dump(mode="json"))) for spec in (before, after))
    for place in sorted(old.keys() | new.keys()):
        if old.get(place) != new.get(place):
            yield Change(place, old.get(place), new.get(place))


def _leaves(place: str, value: object) -> Iterator[tuple[str, str]]:
    """Every single value by its dotted place; tensors by their names, not by where they stand in the list."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{place}.{key}" if place else str(key), item)
    elif isinstance(value, list) and place == "tensors":
        for item in value:
            yield from _leaves(f"tensors.{item['arm']}/{item['name']}.{item['phase']}", item)
    else:
        yield place, str(value)


def _usable_policy(home: SiteHome) -> Policy | None:
    try:
        return site_policy(home.root)
    except FLJobError:
        return None


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except FLJobError as error:
        raise AgentError(str(error)) from error
