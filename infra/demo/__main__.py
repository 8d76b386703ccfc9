"""``python -m infra.demo up|check``: the main job on this machine, from nothing to a prediction."""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.demo.datasets import STUDIES, DemoSite, DemoStudy
from infra.demo.journey import Journey, username
from infra.demo.machine import REPOSITORY, Machine, MachineError
from infra.demo.person import RefusedError

console = Console(highlight=False)
REPORT = REPOSITORY / "var" / "demo" / "report.json"


def main() -> int:
    """Exit code 0 when all went well, 1 with a sentence otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("up", "check"))
    parser.add_argument("--study", choices=tuple(STUDIES), default="cytology")
    parser.add_argument("--algorithm", help="default: the one the study suggests")
    parser.add_argument("--by-hand", metavar="SITE", help="approves in its own console; check: the last site")
    parser.add_argument("--folder", type=Path, help="where the demo lives; default var/demo/<study>")
    options = parser.parse_args()
    study = STUDIES[options.study]()
    options.algorithm = options.algorithm or study.algorithm
    folder = options.folder or REPOSITORY / "var" / "demo" / options.study
    if options.command == "check":
        folder = folder.with_name(f"{folder.name}-check")
        _forget(folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _go(options, study, folder)
    except (MachineError, RefusedError) as error:
        console.print(f"[bold red]Stopped.[/] {error}")
        return 1


def _go(options: argparse.Namespace, study: DemoStudy, folder: Path) -> int:
    machine = Machine(folder)
    started = time.monotonic()
    data_home = os.environ.get("CONSILIUM_DATA")
    journey = Journey(machine, study, Path(data_home) if data_home else None, say=_say)
    journey.by_hand = _by_hand(options, study)
    report: dict[str, Any] = {"ok": False, "study": study.slug, "algorithm": options.algorithm}
    report["seconds"] = {"install": _install_seconds()}
    try:
        _walk(journey, options, report, started)
        if options.command == "up":
            _welcome(journey, report)
            signal.pause()
    except KeyboardInterrupt:
        _say("stopping everything that was started")
    finally:
        report["leftover_processes"] = machine.stop()
        report["peak_rss_mb"] = round(machine.peak_rss_mb)
        if options.command == "check":
            _write_report(report)
    return 0 if report["ok"] else 1


def _by_hand(options: argparse.Namespace, study: DemoStudy) -> DemoSite | None:
    """The site that approves in its console. Nobody in the demo for people, unless one was named."""
    if not options.by_hand:
        return study.sites[-1] if options.command == "check" else None
    named = next((site for site in study.sites if site.name == options.by_hand), None)
    if named is None:
        names = ", ".join(site.name for site in study.sites)
        raise MachineError(f"No site of this study is called {options.by_hand!r}. Choose one of: {names}.")
    return named


def _walk(journey: Journey, options: argparse.Namespace, report: dict[str, Any], started: float) -> None:
    machine, study = journey.machine, journey.study
    _say("setting up keys and tables")
    machine.set_up()
    machine.start_platform()
    journey.wait_for_portal()
    journey.add_sites(study.sites)
    journey.add_people()
    _say(f"waiting for the {len(study.sites)} sites to enrol and come online")
    journey.wait_online([site.name for site in study.sites])
    report["seconds"]["start"] = round(time.monotonic() - started, 1)
    finished = machine.folder / "journey.json"
    if finished.exists():  # a second start shows what is there
        report.update(json.loads(finished.read_text(encoding="utf-8")), ok=True)
        return
    began = time.monotonic()
    journey.open_study_and_run(options.algorithm)
    if journey.by_hand is not None:
        report["by_hand"] = _approved_by_hand(journey, journey.by_hand, is_check=options.command == "check")
    journey.follow_run()
    served = journey.promote()
    _say("models promoted; a clinician asks the model of the own institution")
    answers = {site.name: journey.ask(site) for site in study.sites}
    report["seconds"]["train"] = round(time.monotonic() - began, 1)
    report["seconds"]["total"] = round(time.monotonic() - started, 1)
    report["rounds"] = len(journey.run["rounds"])
    report["sites"] = [_site_row(journey, site.name, served[site.name]) for site in study.sites]
    first = study.sites[0].name
    report["prediction"] = {"site": first, **answers[first]["predictions"][0], "arm": answers[first]["arm"]}
    report["audit"] = journey.verify_audit()
    report["both_sides"] = journey.compare_sides()
    report["run"] = journey.run_id
    report["ok"] = _is_whole(report, answers)
    kept = ("sites", "rounds", "prediction", "audit", "both_sides", "run")
    if report["ok"]:
        finished.write_text(json.dumps({name: report[name] for name in kept}), encoding="utf-8")


def _approved_by_hand(journey: Journey, site: DemoSite, *, is_check: bool) -> dict[str, Any]:
    """In ``check`` the operator is played over HTTP at the console; otherwise a person does it."""
    journey.wait_for_question(site)
    if not is_check:
        journey.wait_for_hand(site)
        return {"site": site.name}
    listed = journey.approve_by_hand(site)
    _say(f"{site.title} approved in its own console, {listed} tensors listed")
    return {"site": site.name, "tensors_listed": listed}


def _site_row(journey: Journey, name: str, arm: str) -> dict[str, Any]:
    cells = {
        row["arm"]: row["cells"]
        for version in journey.run["versions"]
        for row in version["site_models"]
        if row["site"] == name
    }
    rows = journey.person("administrator").json("/sites/status.json")["sites"]
    return {
        "name": name,
        "rows": next(row["rows"] for row in rows if row["name"] == name),
        **{column: cells.get(column) for column in ("local", "global", "tuned", "personal")},
        "served": arm,
    }


def _is_whole(report: dict[str, Any], answers: dict[str, Any]) -> bool:
    """Check what the report claims: each site served its own model, the log verifies, its two sides agree."""
    audit = report["audit"]
    digests = {answer["personal_sha256"] for answer in answers.values()}
    return (
        len(digests) == len(answers)  # each site answered with a personal part of its own
        and all(answers[row["name"]]["site"] == row["name"] for row in report["sites"])
        and all(answers[row["name"]]["arm"] == row["served"] for row in report["sites"])
        and all(row[arm] for row in report["sites"] for arm in ("local", "global", "personal"))
        and audit["entries"] == audit["verified"] > 0
        and all(report["both_sides"].values())
        and report.get("by_hand", {}).get("tensors_listed", 1) > 0
    )


def _write_report(report: dict[str, Any]) -> None:
    report["ok"] = report["ok"] and report["leftover_processes"] == 0
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    seconds = report["seconds"]
    verdict = "[bold green]ok[/]" if report["ok"] else "[bold red]not ok[/]"
    console.print(f"{verdict}  {REPORT.relative_to(REPOSITORY)}  seconds {seconds}")


def _welcome(journey: Journey, report: dict[str, Any]) -> None:
    origin, first = journey.machine.origin, journey.study.sites[0]
    table = Table("role", "login", "password", "what to click", title=f"Consilium is up at {origin}")
    clicks = {
        "administrator": "Sites → Invite a site; Runs → promote",
        "data_scientist": f"/runs/{report.get('run', '')}/ for curves and the benefit table",
        "clinician": f"Ask the model of {first.title}",
        "site_operator": f"the status of {first.title}",
        "auditor": "Audit log → Verify",
    }
    for role, what in clicks.items():
        site = first if role in {"clinician", "site_operator"} else None
        table.add_row(role, username(role, site), journey.machine.facts["passwords"][role], what)
    console.print(table)
    console.print("It stays up until Ctrl-C; the next `make demo` starts in seconds with what is there.")


def _say(sentence: str) -> None:
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/]  {sentence}")


def _install_seconds() -> int | None:
    stamp = REPOSITORY / ".venv" / "installed"
    return int(stamp.read_text().strip() or 0) if stamp.exists() else None


def _forget(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
