"""Pages of what the site is asked: a run, what would leave, a dry run, the answer; and what has left."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from compliance.policy import Policy, meet
from fl_jobs import catalog
from fl_jobs.approval.egress import read_lines
from fl_jobs.approval.records import answer_bytes
from fl_jobs.errors import FLJobError
from fl_jobs.packaging.spec import RunSpec
from site_kits.agent.answer_titles import answer_title
from site_kits.agent.dry_run import perform_dry_run, read_dry_run
from site_kits.agent.questions import ask, list_questions, talk_state
from site_kits.agent.requests import (
    StoredRequest,
    decide,
    effective_policy,
    leaving_tensors,
    list_requests,
    load_request,
    rule_sentence,
)
from site_kits.console.doors import Doors, Visit
from site_kits.console.pages import refusal
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome
from site_kits.talk import MAX_QUESTION
from site_kits.translation import _

PATIENCE_S = 2.5
_ROUNDS_SHOWN = 200


@dataclass
class DryRuns:
    """Dry runs train, so there is one at a time, in a process of its own; the page asks how it is going."""

    home: SiteHome
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _running: dict[str, float] = field(default_factory=dict)
    _faults: dict[str, str] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def running(self, run_id: str) -> int | None:
        """Seconds since it was asked for; None when none is under way."""
        began = self._running.get(run_id)
        return None if began is None else int(time.monotonic() - began)

    def fault(self, run_id: str) -> str:
        """Why the last one gave no result."""
        return self._faults.get(run_id, "")

    async def start(self, run_id: str) -> None:
        """Start one and wait a moment for it."""
        if run_id not in self._running:
            self._running[run_id] = time.monotonic()
            task = asyncio.create_task(self._perform(run_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.wait([task], timeout=PATIENCE_S)

    async def _perform(self, run_id: str) -> None:
        self._faults.pop(run_id, None)
        try:
            async with self._one:
                await asyncio.to_thread(perform_dry_run, self.home, run_id)
        except AgentError as error:
            self._faults[run_id] = str(error)
        finally:
            del self._running[run_id]


class RunPages:
    """Everything shown of a run is read from its specification, the bytes that would run."""

    def __init__(self, home: SiteHome) -> None:
        self.home, self.dry_runs = home, DryRuns(home)

    def routes(self, doors: Doors) -> list[Route]:
        """The pages' addresses."""
        return [
            doors.route("/runs/", self.list_runs),
            doors.route("/runs/{run}/", self.show),
            doors.route("/runs/{run}/dry-run", self.dry_run, "POST"),
            doors.route("/runs/{run}/ask", self.ask, "POST"),
            doors.route("/runs/{run}/decide", self.decide, "POST"),
            doors.route("/egress/", self.egress),
        ]

    async def list_runs(self, visit: Visit) -> Response:
        """GET /runs/: undecided ones first."""
        stored = await asyncio.to_thread(list_requests, self.home)
        talks = await asyncio.to_thread(_talks, self.home, stored)
        return visit.page(
            "runs.html", stored=[(one, state_of(one), talk) for one, talk in zip(stored, talks, strict=True)]
        )

    async def show(self, visit: Visit) -> Response:
        """GET /runs/RUN/."""
        try:
            stored = await asyncio.to_thread(load_request, self.home, visit.request.path_params["run"])
        except AgentError as error:
            return refusal(self.home, 404, str(error))
        request, spec = stored.request, stored.request.spec
        run_id = request.run_id
        return visit.page(
            "run.html",
            stored=stored, request=request, spec=spec, state=state_of(stored), address=f"/runs/{run_id}/",
            method=_words(catalog.ALGORITHMS.get(spec.algorithm)), settings=_settings(spec),
            model=_words(catalog.MODELS.get(spec.model.name)), leaving=_leaving(spec),
            rules=[rule_sentence(rule) for rule in stored.verdict.rules] if stored.verdict else [],
            masked=spec.policy.secure_aggregation, figures=_figures(spec, _in_force(self.home, stored)),
            running=self.dry_runs.running(run_id), fault=self.dry_runs.fault(run_id),
            report=read_dry_run(self.home, run_id), question_id=str(uuid.uuid4()), most=MAX_QUESTION,
            questions=await asyncio.to_thread(list_questions, self.home, run_id),
        )  # fmt: skip

    async def dry_run(self, visit: Visit) -> Response:
        """POST: one round on this site's own data, sent nowhere."""
        try:
            stored = await asyncio.to_thread(load_request, self.home, visit.request.path_params["run"])
        except AgentError as error:
            return refusal(self.home, 404, str(error))
        await self.dry_runs.start(stored.request.run_id)
        return visit.go(f"/runs/{stored.request.run_id}/#dry-run")

    async def decide(self, visit: Visit) -> Response:
        """POST: approve or refuse exactly the digest that the page showed."""
        run_id, approve = visit.request.path_params["run"], visit.one("answer") == "approve"
        person = visit.one("person")[:150] or _("operator")
        try:
            stored = await asyncio.to_thread(load_request, self.home, run_id)
            address = f"/runs/{stored.request.run_id}/"
            if visit.one("digest") != stored.request.run_digest:
                return visit.go(address, _("The run changed meanwhile. Look at it again."), "bad")
            await asyncio.to_thread(
                decide, self.home, stored.request.run_id, approve, visit.one("reason"), person
            )
        except AgentError as error:
            return visit.go(f"/runs/{run_id}/", str(error), "bad")
        sentence = (
            _("Approved: exactly this run may train here.")
            if approve
            else _("Refused. The person who asked reads your reason.")
        )
        return visit.go(address, sentence)

    async def ask(self, visit: Visit) -> Response:
        """POST: a question about exactly the digest that the page showed. It decides nothing."""
        run_id, person = visit.request.path_params["run"], visit.one("person")[:150] or _("operator")
        try:
            stored = await asyncio.to_thread(load_request, self.home, run_id)
            address = f"/runs/{stored.request.run_id}/#questions"
            if visit.one("digest") != stored.request.run_digest:
                return visit.go(address, _("The run changed meanwhile. Look at it again."), "bad")
            await asyncio.to_thread(
                ask, self.home, stored.request.run_id, visit.one("question"), visit.one("text"), person
            )
        except AgentError as error:
            return visit.go(f"/runs/{run_id}/", str(error), "bad")
        return visit.go(address, _("Asked. The request stays open until you approve or refuse it."))

    async def egress(self, visit: Visit) -> Response:
        """GET /egress/: what the meter counted, per run and round."""
        runs = await asyncio.to_thread(_egress, self.home)
        return visit.page("egress.html", runs=runs, most=_ROUNDS_SHOWN)


def _talks(home: SiteHome, stored: list[StoredRequest]) -> list[str]:
    """Of each request: whether a question of it waits, or was answered, while nobody has decided."""
    return [
        talk_state(list_questions(home, one.request.run_id)) if one.decision is None else "" for one in stored
    ]


def state_of(stored: StoredRequest) -> str:
    """One of: waiting · approved · refused · unusable · deciding."""
    if stored.decision is not None:
        return "approved" if stored.decision.approve else "refused"
    if stored.verdict is None:
        return "unusable"
    return "waiting" if stored.verdict.effect == "ask" else "deciding"


def _settings(spec: RunSpec) -> list[tuple[str, str, Any]]:
    """(title, name, value) of every hyper-parameter; the title is the catalog's where it has one."""
    algorithm = catalog.ALGORITHMS.get(spec.algorithm)
    titles = {one.name: one.title for one in algorithm.hyper_parameters} if algorithm else {}
    return [(_(titles.get(name, "")), name, value) for name, value in sorted(spec.hyper_parameters.items())]


def _words(entry: catalog.Algorithm | catalog.Model | None) -> tuple[str, str]:
    """Title and summary in the operator's language; empty for what this version does not know."""
    return (_(entry.title), _(entry.summary)) if entry else ("", "")


def _leaving(spec: RunSpec) -> dict[str, Any]:
    """The tensors, their bytes, and the bytes of the answers: once, per round and over the whole run."""
    tensors = leaving_tensors(spec)
    a_round = sum(one.bytes for one in tensors if one.phase == "train")
    once = sum(one.bytes for one in tensors if one.phase != "train")
    sent = a_round
    if spec.policy.secure_aggregation:
        phases = {(one.arm, one.phase) for one in spec.tensors if one.phase != "train"}
        sent, once = answer_bytes(spec, "train"), len(phases) * answer_bytes(spec, "phase")
    return {
        "tensors": tensors, "a_round": a_round, "numbers": a_round // 4,
        "round": sent, "once": once, "total": once + spec.rounds * sent,
    }  # fmt: skip


def _figures(spec: RunSpec, policy: Policy | None) -> str:
    """Whether this site's own figures leave beside the sums (shared, kept); empty while nobody can say."""
    if spec.policy.privacy is not None:
        return "kept"  # whatever the policy says: they would say more than the noise hides
    if policy is None:
        return ""
    return "shared" if policy.output.share_site_metrics else "kept"


def _in_force(home: SiteHome, stored: StoredRequest) -> Policy | None:
    """As the gate sees it: what was in force at the approval and what is now; None while it is unusable."""
    try:
        now = effective_policy(home, stored.request)
    except FLJobError:
        return None
    return meet(now, stored.decision.policy) if stored.decision else now


def _egress(home: SiteHome) -> list[dict[str, Any]]:
    """The runs that something left for, newest first, with a line per round and kind of answer."""
    runs: dict[str, dict[str, Any]] = {}
    for line in read_lines(home.root):
        run = runs.setdefault(
            line.run_id, {"run_id": line.run_id, "bytes": 0, "last": "", "lines": {}, "tensors": set()}
        )
        size = line.number_bytes + line.message_bytes + line.text_bytes
        run["bytes"] += size
        run["last"] = line.at
        key = (line.round, line.task)
        entry = run["lines"].setdefault(
            key,
            {"round": line.round, "task": answer_title(line.task), "answers": 0, "bytes": 0, "numbers": 0},
        )
        entry["answers"] += 1
        entry["bytes"] += size
        entry["numbers"] += line.number_bytes
        entry |= {"tensor_count": line.tensor_count, "masked": line.masked}
        run["tensors"] |= set(line.tensors)
    asked = {one.request.run_id: one for one in list_requests(home)}
    for run in runs.values():
        stored = asked.get(run["run_id"])
        run["title"] = stored.request.study_title if stored else ""
        decision = stored.decision if stored else None  # a policy only gets tighter while the run goes on
        run["figures"] = (
            _figures(stored.request.spec, decision.policy if decision else None) if stored else ""
        )
        run["lines"] = list(run["lines"].values())[-_ROUNDS_SHOWN:]
    return sorted(runs.values(), key=lambda run: str(run["last"]), reverse=True)
