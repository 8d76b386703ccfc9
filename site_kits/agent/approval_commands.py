"""``consilium-site requests | approve | refuse | ask | dry-run | egress``."""

import argparse
import getpass
import json
import sys
import uuid
from collections.abc import Iterator
from typing import Any

from fl_jobs.approval.egress import EgressLine, read_lines
from site_kits.agent import preflight
from site_kits.agent.answer_titles import answer_title
from site_kits.agent.dry_run import perform_dry_run, render_dry_run
from site_kits.agent.questions import StoredQuestion, ask, list_questions
from site_kits.agent.requests import (
    StoredRequest,
    decide,
    leaving_tensors,
    list_requests,
    load_request,
    rule_sentence,
)
from site_kits.site_home import SiteHome
from site_kits.translation import _


def add_commands(commands: Any) -> None:
    """Add the six commands to the parser of ``consilium-site``."""
    shown = commands.add_parser("requests", help=_("runs that ask for this site's approval"))
    shown.add_argument("run", nargs="?", default="", metavar="RUN", help=_("one run, with all that leaves"))
    shown.set_defaults(command=show_requests)
    approve = commands.add_parser("approve", help=_("approve a run: exactly this digest may run here"))
    refuse = commands.add_parser("refuse", help=_("refuse a run, or take an approval back"))
    dry = commands.add_parser("dry-run", help=_("one round on this site's own data; nothing is sent"))
    question = commands.add_parser("ask", help=_("ask before you decide; the request stays open"))
    for parser in (approve, refuse, question, dry):
        parser.add_argument("run", metavar="RUN", help=_("the first characters of its id are enough"))
    approve.set_defaults(command=approve_run, reason="")
    refuse.add_argument("--reason", required=True, help=_("the person who asked reads it"))
    refuse.set_defaults(command=refuse_run)
    question.add_argument("--question", required=True, help=_("the person who asked for the run reads it"))
    question.set_defaults(command=ask_about_run)
    dry.add_argument("--json", action="store_true", help=_("the report as JSON"))
    dry.set_defaults(command=dry_run)
    egress = commands.add_parser("egress", help=_("bytes and tensor names that have left this site"))
    egress.add_argument(
        "--run", default="", metavar="RUN", help=_("the first characters of its id are enough")
    )
    egress.add_argument("--json", action="store_true", help=_("every answer as one line of JSON"))
    egress.set_defaults(command=show_egress)


def show_requests(home: SiteHome, parsed: argparse.Namespace) -> int:
    """All requests in a line each, or one with everything that would leave."""
    preflight.load_manifest(home)
    if parsed.run:
        stored = load_request(home, parsed.run)
        talk = _talk(list_questions(home, stored.request.run_id))
        sys.stdout.write("\n".join([*_whole(stored), *talk]) + "\n")
        return 0
    found = list_requests(home)
    lines = [_line(stored) for stored in found] or [_("No run has asked for this site's approval yet.")]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def approve_run(home: SiteHome, parsed: argparse.Namespace) -> int:
    return _decide(home, parsed, approve=True)


def refuse_run(home: SiteHome, parsed: argparse.Namespace) -> int:
    return _decide(home, parsed, approve=False)


def ask_about_run(home: SiteHome, parsed: argparse.Namespace) -> int:
    """Write a question down."""
    preflight.load_manifest(home)
    run_id = load_request(home, parsed.run).request.run_id
    ask(home, run_id, str(uuid.uuid4()), parsed.question, getpass.getuser())
    sys.stdout.write(
        _("Written down; the portal hears it with the next heartbeat. The request stays open.") + "\n"
    )
    return 0


def dry_run(home: SiteHome, parsed: argparse.Namespace) -> int:
    """Do one round and show what would have left."""
    report = perform_dry_run(home, parsed.run)
    text = json.dumps(report, ensure_ascii=False, indent=1) if parsed.json else render_dry_run(report)
    sys.stdout.write(text + "\n")
    return 0


def show_egress(home: SiteHome, parsed: argparse.Namespace) -> int:
    """What the meter counted: for each run and round, or every line."""
    preflight.load_manifest(home)
    lines = (line for line in read_lines(home.root) if line.run_id.startswith(parsed.run))
    if parsed.json:
        for line in lines:
            sys.stdout.write(line.model_dump_json() + "\n")
        return 0
    rows = list(_summary(lines)) or [_("Nothing has left this site yet.")]
    sys.stdout.write("\n".join(rows) + "\n")
    return 0


def _summary(lines: Iterator[EgressLine]) -> Iterator[str]:
    sums: dict[tuple[str, int, str], list[int]] = {}
    for line in lines:
        cell = sums.setdefault((line.run_id, line.round, line.task), [0, 0, 0, 0])
        others = line.message_bytes + line.text_bytes
        for place, value in enumerate((1, line.tensor_count, line.number_bytes, others)):
            cell[place] += value
    for (run, number, task), (answers, tensors, numbers, others) in sums.items():
        yield _(
            "run {run} round {round} {task}: answers {answers}, tensors {tensors}, {numbers} bytes of "
            "numbers, {others} bytes beside them"
        ).format(
            run=run[:8],
            round=number,
            task=answer_title(task),
            answers=answers,
            tensors=tensors,
            numbers=numbers,
            others=others,
        )


def _decide(home: SiteHome, parsed: argparse.Namespace, *, approve: bool) -> int:
    preflight.load_manifest(home)
    stored = load_request(home, parsed.run)
    decide(home, stored.request.run_id, approve, parsed.reason, getpass.getuser())
    sys.stdout.write(_("Written down; the portal hears it with the next heartbeat.") + "\n")
    return 0


def _line(stored: StoredRequest) -> str:
    request = stored.request
    asked = f"{request.study_title} · {request.spec.algorithm} · {request.asked_by}"
    return f"{request.run_id[:8]}  {asked}: {_state(stored)}"


def _state(stored: StoredRequest) -> str:
    if stored.decision is not None:
        word = _("approved") if stored.decision.approve else _("refused")
        how = _("by this site's policy") if stored.decision.by == "rule" else stored.decision.person
        sent = "" if stored.sent else " " + _("(not sent yet)")
        return f"{word} · {how}{sent} {stored.decision.reason or stored.answer_from_portal}".rstrip()
    if stored.verdict is None:
        return _("waits: policy.toml cannot be used, so nothing runs")
    return _("waits for you") if stored.verdict.effect == "ask" else _("is being decided by the policy")


def _talk(questions: list[StoredQuestion]) -> list[str]:
    lines = []
    for one in questions:
        lines.append(_("asked:       {text}").format(text=one.text.replace("\n", "\n             ")))
        if one.answer is not None:
            said = one.answer.answer.replace("\n", "\n             ") or _("erased at the portal")
            lines.append(_("answered:    {text} ({who})").format(text=said, who=one.answer.by))
        else:
            lines.append("             " + (one.refusal or _("no answer yet; the request stays open")))
    return lines


def _whole(stored: StoredRequest) -> list[str]:
    request, spec = stored.request, stored.request.spec
    privacy = spec.policy.privacy
    lines = [
        _line(stored),
        _("digest:      {digest}").format(digest=request.run_digest),
        _("purpose:     {purpose}").format(purpose=spec.study.purpose),
        _("asked:       {who}, {when}").format(who=request.asked_by, when=request.asked_at),
        _("sites:       {sites} (goes on with {least})").format(
            sites=", ".join(request.sites), least=spec.min_sites
        ),
        _("training:    {model}, {rounds} rounds").format(model=spec.model.name, rounds=spec.rounds),
        _("settings:    {settings}").format(
            settings=", ".join(f"{name}={value}" for name, value in sorted(spec.hyper_parameters.items()))
        ),
        _("masks:       {masks}").format(
            masks=_("yes, the server sees sums only")
            if spec.policy.secure_aggregation
            else _("NO, the server sees this site's update")
        ),
        _("privacy:     {privacy}").format(
            privacy=_("none")
            if privacy is None
            else f"{privacy.unit}, ε ≤ {privacy.epsilon_max:g}, δ = {privacy.delta:g}"
        ),
        _("what leaves:"),
    ]
    lines += [
        f"  {leaving.phase:14} {leaving.name}  {'×'.join(map(str, leaving.shape)) or '1'}  {leaving.bytes} B"
        for leaving in leaving_tensors(spec)
    ]
    if stored.verdict is not None:
        lines += [rule_sentence(rule) for rule in stored.verdict.rules]
    if stored.compared_with:
        lines.append(_("Different from the last approved run {run}:").format(run=stored.compared_with[:8]))
        lines += [f"  {each.place}: {each.before} → {each.after}" for each in stored.changes]
    return lines
