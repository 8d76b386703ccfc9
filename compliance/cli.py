"""``consilium-audit``, the part that needs no database of a portal: verify, split, reconcile, drill, hammer.

A command answers with the exit codes of ``docs/audit-log.md``.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from compliance import splitting, verify
from compliance.drill import KINDS, Drill
from compliance.drill_attacks import made_up_entry
from compliance.note import NoteError, open_checkpoint
from compliance.reconcile import entries_of_bundle, reconcile
from compliance.sqlite_log import SqliteLog
from compliance.witness_policy import PolicyTextError, WitnessPolicy

BAD, INCOMPLETE, MALFORMED = 1, 3, 4
MAX_FILE_BYTES = 65_536


def add_commands(commands: Any) -> None:
    """Add the commands to the parser of ``consilium-audit``."""
    split = commands.add_parser(
        "split", help="compare two signed checkpoints; write evidence if they contradict"
    )
    split.add_argument("first", type=Path)
    split.add_argument("second", type=Path)
    split.add_argument(
        "--policy", type=Path, required=True, help="your own witness policy: it names the log's key"
    )
    split.add_argument(
        "--growth",
        type=Path,
        help="of other sizes: the hashes that the log's door names “growth”, a line each",
    )
    split.add_argument("--bundle", type=Path, help="of other sizes: a bundle with all entries of this log")
    split.add_argument("--out", type=Path, help="where evidence is written")
    split.set_defaults(command=run_split)
    both = commands.add_parser("reconcile", help="what a site says it sent against what the portal received")
    both.add_argument("site", help="the site's name")
    both.add_argument("log", type=Path, help="the site's state/log/YEAR.sqlite3")
    both.add_argument("bundle", type=Path, help="round.committed of the portal; verified first")
    both.add_argument("--policy", type=Path, required=True, help="your own witness policy")
    both.set_defaults(command=run_reconcile)
    hammer = commands.add_parser("hammer", help="how many durable appends a second this disk carries")
    hammer.add_argument("--count", type=int, default=2000)
    hammer.add_argument("--writers", type=int, default=1)
    hammer.add_argument(
        "--folder", type=Path, help="on the disk to measure (default: the temporary folder's)"
    )
    hammer.set_defaults(command=run_hammer)


def add_drill(commands: Any) -> argparse.ArgumentParser:
    """Add ``drill``; the caller says where entries come from."""
    drill: argparse.ArgumentParser = commands.add_parser(
        "drill", help="rewrite a copy of the log and see it refused"
    )
    drill.add_argument("--count", type=int, default=10, help="trials of each kind (default 10)")
    drill.add_argument("--sites", type=int, default=5, help="witnesses (default 5)")
    drill.add_argument("--keep", type=Path, metavar="FOLDER", help="keep evidence and policy here")
    return drill


def run_verify(arguments: list[str]) -> int:
    """``verify.py`` itself, with its own arguments and exit codes."""
    return verify.main(arguments)


def run_split(asked: argparse.Namespace) -> int:
    """0 when both are of one history, 1 when they contradict each other, 3 when nothing can be said, 4."""
    try:
        policy = WitnessPolicy.parse(_text(asked.policy))
        notes = [open_checkpoint(_text(path), policy.log)[1] for path in (asked.first, asked.second)]
        if asked.bundle and (code := run_verify([str(asked.bundle), "--policy", str(asked.policy)])) == BAD:
            return code
        found = splitting.judge(
            notes,
            growth=_text(asked.growth) if asked.growth else "",
            bundle=asked.bundle.read_text(encoding="utf-8") if asked.bundle else "",
            key=policy.log,
        )
    except (NoteError, PolicyTextError, splitting.SplitError, OSError, UnicodeDecodeError) as error:
        say(f"{error}")
        return MALFORMED
    say(found.sentence)
    if found.evidence is None:
        return 0 if found.is_one_history else INCOMPLETE
    out = asked.out or Path("evidence.txt")
    out.write_text(str(found.evidence), encoding="utf-8")
    say(f"Evidence: {out}. Anybody verifies it with: verify.py --evidence {out} --policy {asked.policy}")
    return BAD


def run_reconcile(asked: argparse.Namespace) -> int:
    """The verifier's code when the bundle does not verify; else 0, or 1 with the rounds that do not match."""
    code = run_verify([str(asked.bundle), "--policy", str(asked.policy)])
    if code:
        return code
    if not asked.log.is_file():
        say(f"{asked.log} is not there; nothing was compared.")
        return MALFORMED
    log = SqliteLog(asked.log)
    portal = entries_of_bundle(asked.bundle.read_text(encoding="utf-8"))
    found = reconcile(asked.site, log.leaves(0, log.size()), portal)
    log.close()
    for sentence, rounds in (
        ("sent by the site, and not among what the portal aggregated", found.not_received),
        ("aggregated by the portal in the site's name, and not sent by it", found.not_sent),
        ("what the portal received is not what the site sent", found.altered),
    ):
        for run, number in sorted(rounds):
            say(f"run {run}, round {number}: {sentence}")
    say(
        f"{len(found.agreed)} rounds match on both sides, {len(found.same_bytes)} of them byte for byte; "
        f"{len(found.repeated)} were sent again after a stop."
    )
    return 0 if found.is_good else BAD


def run_drill(asked: argparse.Namespace, entries: list[bytes]) -> int:
    """0 when every rewriting was refused and proven, and no legal append was; else 1."""
    entries = entries or [made_up_entry() for _ in range(60)]
    with tempfile.TemporaryDirectory(prefix="consilium-drill-") as folder:
        drill = Drill(entries, asked.sites, Path(folder))
        say(f"A copy of {len(entries)} entries, a stolen key, every right on the rows; {asked.sites} sites.")
        try:
            return max([_rewrite(drill, kind, asked) for kind in KINDS] + [_append(drill, asked.count)])
        finally:
            drill.close()


def _rewrite(drill: Drill, kind: str, asked: argparse.Namespace) -> int:
    trials = [drill.rewrite(kind) for _ in range(asked.count)]
    refused = sum(not trial.was_accepted for trial in trials)
    proven = [trial.evidence[0] for trial in trials if trial.evidence]
    deceived = sum(trial.deceived for trial in trials)
    told = f"{refused} refused by the quorum, {len(proven)} with evidence, {deceived} sites deceived"
    say(f"{kind:8} {len(trials)} rewritings: {told}")
    if asked.keep and proven:
        asked.keep.mkdir(parents=True, exist_ok=True)
        (asked.keep / f"{kind}.txt").write_text(proven[0], encoding="utf-8")
        (asked.keep / "policy.txt").write_text(f"log {drill.log_key}\nquorum none\n", encoding="utf-8")
    return 0 if refused == len(proven) == len(trials) and not deceived else BAD


def _append(drill: Drill, count: int) -> int:
    trials = [drill.append() for _ in range(count)]
    accepted = sum(trial.was_accepted and not trial.evidence for trial in trials)
    say(f"{'append':8} {count} legal: {accepted} accepted, {count - accepted} false alarms")
    return 0 if accepted == count else BAD


def run_hammer(asked: argparse.Namespace) -> int:
    """Appends into a file of its own; the log is not touched. Prints JSON."""
    took: list[float] = []
    with tempfile.TemporaryDirectory(prefix="consilium-hammer-", dir=asked.folder) as folder:
        log = SqliteLog(Path(folder) / "hammer.sqlite3", timeout_s=30)

        def write() -> None:
            for _ in range(asked.count // asked.writers):
                began = time.perf_counter()
                log.append(str(uuid.uuid4()), made_up_entry())
                took.append(time.perf_counter() - began)

        writers = [threading.Thread(target=write) for _ in range(asked.writers)]
        began = time.perf_counter()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        wall_s = time.perf_counter() - began
        log.close()
    took.sort()
    p99_ms = 1000 * took[int(0.99 * (len(took) - 1))]
    say(json.dumps({"append_per_s": round(len(took) / wall_s), "append_p99_ms": round(p99_ms, 2)}))
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES).decode()
