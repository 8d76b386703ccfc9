"""``consilium-audit``: what an auditor and an operator of the portal ask of the log, with exit codes.

Codes: 0 in order · 1 bad proof, signature or contradiction · 2 quorum missing · 3 incomplete · 4 malformed ·
5 stale, as in ``docs/audit-log.md``.
"""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from compliance import cli
from compliance.cli import BAD, MALFORMED, say

QUORUM, INCOMPLETE = 2, 3


def main(arguments: list[str] | None = None) -> int:
    """Parse, do, answer with an exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["verify"]:
        return cli.run_verify(given[1:])
    try:
        asked = _parser().parse_args(given)
    except SystemExit as stop:
        return MALFORMED if stop.code else 0
    return int(asked.command(asked))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="consilium-audit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("verify", help="check a bundle, a proof or evidence offline (as verify.py)")
    cli.add_commands(commands)
    drill = cli.add_drill(commands)
    drill.add_argument(
        "--made-up", action="store_true", help="of made-up entries, without the portal's database"
    )
    drill.set_defaults(command=_drill)
    prove = commands.add_parser("prove", help="the proof of one entry, as two files for verify.py --entry")
    prove.add_argument("id", type=UUID)
    prove.add_argument("--out", type=Path, default=Path())
    prove.set_defaults(command=_prove)
    export = commands.add_parser("export", help="entries with their proofs as one bundle")
    for name in ("act", "site", "job"):
        export.add_argument(f"--{name}", default="")
    for name in ("since", "until"):
        export.add_argument(f"--{name}", type=_moment, metavar="ISO-TIME")
    export.add_argument("--year", type=int, default=datetime.now(UTC).year)
    export.add_argument("--out", type=Path, required=True)
    export.set_defaults(command=_export)
    commands.add_parser("fsck", help="read every entry and head of the database").set_defaults(command=_fsck)
    return parser


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _set_up() -> None:
    import django
    from django.apps import apps

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infra.settings.dev")
    if not apps.ready:  # a second set-up binds the log to the caller's stderr of that moment, closed or not
        django.setup()


def _drill(asked: argparse.Namespace) -> int:
    return cli.run_drill(asked, [] if asked.made_up else _entries())


def _entries() -> list[bytes]:
    """The newest entries of the log, at most 2000: a drill needs no more."""
    _set_up()
    from platform_web.audit import selectors

    shard = selectors.current_shard()
    size = selectors.sequenced_size(shard.year) if shard else 0
    return list(selectors.leaves(shard.year, max(0, size - 2000), size)) if shard else []


def _prove(asked: argparse.Namespace) -> int:
    _set_up()
    from platform_web.audit import exports
    from platform_web.audit.models import AuditEvent

    event = AuditEvent.objects.filter(event_id=asked.id).first()
    if event is None:
        say(f"There is no entry {asked.id}.")
        return BAD
    proof = exports.proof_of(event)
    if proof is None:
        say("The entry is written, but no signed head holds it yet. Ask again in a minute.")
        return INCOMPLETE
    entry, beside = asked.out / f"{asked.id}.json", asked.out / f"{asked.id}.tlog-proof"
    entry.write_bytes(bytes(event.leaf))
    beside.write_text(proof, encoding="utf-8")
    say(f"{entry}\n{beside}")
    return 0


def _export(asked: argparse.Namespace) -> int:
    _set_up()
    from platform_web.audit import exports
    from platform_web.audit.errors import AuditError

    chosen = exports.Selection(
        act=asked.act, site=asked.site, job=asked.job, since=asked.since, until=asked.until
    )
    try:
        text, count = exports.bundle_of(chosen, asked.year)
    except AuditError as error:
        say(str(error))
        return INCOMPLETE
    asked.out.write_text(text, encoding="utf-8")
    say(f"{count} entries in {asked.out}. The policy to verify them with comes from your own site.")
    return 0


def _fsck(_asked: argparse.Namespace) -> int:
    _set_up()
    from platform_web.audit import retention, selectors, verification

    result, removed = verification.verify_all(), retention.removed_too_early()
    for number in sorted(result.changed)[: verification.MOST_FINDINGS]:
        say(f"Entry number {number} is not what was written: its bytes, hash, columns or place differ.")
    for sentence in result.findings:
        say(sentence)
    say(f"{result.entries} entries, {result.verified} in order; {result.heads} signed heads compared.")
    if removed.entries or removed.bodies:
        say(f"Gone before their time of keeping: {removed.entries} entries, {removed.bodies} bodies.")
    if not result.is_whole or removed.entries or removed.bodies:
        return BAD
    head = selectors.latest_head()
    return QUORUM if head is not None and not selectors.is_witnessed(head) else 0


if __name__ == "__main__":
    sys.exit(main())
