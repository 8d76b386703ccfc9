"""``python -m tests.prove.audit_process write|forks|check JOURNAL``: the portal's side of the kill campaign.

write   one entry per transaction with the real service, until it is killed; a lost connection is opened again
forks   for every line on stdin a fork that writes; says its pid, and ``ended`` when it was killed
check   counts what the campaign claims, as one line of JSON

JOURNAL gets the id of an entry after its transaction was committed, and not before: the acknowledged ones.
"""

import json
import os
import sys
import time
from pathlib import Path

import django

django.setup()

from django.db import Error, connection, transaction  # noqa: E402

from compliance.merkle import Frontier, leaf_hash  # noqa: E402
from compliance.note import open_checkpoint  # noqa: E402
from platform_web.audit import selectors, services  # noqa: E402
from platform_web.audit.models import AuditEvent, AuditHead, AuditSeq  # noqa: E402


def write(journal: Path) -> None:
    with journal.open("ab", buffering=0) as file:
        while True:
            try:
                with transaction.atomic():
                    event = services.record(act="site.resumed", obj=[("site", str(os.getpid()), "")])
            except Error:
                connection.close()
                time.sleep(0.05)
                continue
            file.write(f"{event.event_id}\n".encode())


def forks(journal: Path) -> None:
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            write(journal)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)


def check(journal: Path) -> None:
    """Acknowledged ids against the tree, every head, those read during the run too, against the leaves."""
    acknowledged = [line for line in journal.read_text().split("\n")[:-1] if len(line) == 36]
    stored = {str(event_id) for event_id in AuditEvent.objects.values_list("event_id", flat=True)}
    placed = {str(event_id) for event_id in AuditSeq.objects.values_list("event__event_id", flat=True)}
    places = list(AuditSeq.objects.order_by("shard", "idx").values_list("shard", "idx", "event__leaf"))
    per_shard: dict[int, list[int]] = {}
    for year, idx, _ in places:
        per_shard.setdefault(year, []).append(idx)
    seen = [line for line in Path(f"{journal}.heads").read_text().split("\n") if line]
    notes = {*AuditHead.objects.values_list("note", flat=True), *(json.loads(line) for line in seen)}
    years = {note: int(note.split("\n", 1)[0].rsplit("/", 1)[1]) for note in notes}
    heads = [(year, open_checkpoint(note, selectors.log_key(year))[0]) for note, year in years.items()]
    sizes = {(year, head.size) for year, head in heads}  # a root at every size took minutes
    frontiers, roots = {year: Frontier() for year in per_shard}, {}
    for year, _, leaf in places:
        frontiers[year].append(leaf_hash(bytes(leaf)))
        if (year, frontiers[year].size) in sizes:
            roots[year, frontiers[year].size] = frontiers[year].root()
    bad = sum(roots.get((year, head.size)) != head.root for year, head in heads)
    figures = {
        "acknowledged": len(acknowledged),
        "lost": len(set(acknowledged) - stored),
        "unplaced": len(stored - placed),
        "twice": len(places) - len(placed),
        "gaps": sum(indices != list(range(len(indices))) for indices in per_shard.values()),
        "heads": len(notes),
        "heads_bad": bad,
        "places": len(places),
        "alarms": AuditEvent.objects.filter(act="log.alarm").count(),
        "durable": durable(),
    }
    print(json.dumps(figures))


def durable() -> dict[str, str]:
    """What makes a commit wait for the disk. No kill shows it: the page cache outlives a process."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA synchronous")
            return {"synchronous": {2: "full", 3: "extra"}.get(cursor.fetchone()[0], "less")}
        cursor.execute(
            "SELECT current_setting('fsync'), current_setting('full_page_writes'), "
            "current_setting('synchronous_commit')"
        )
        return dict(zip(("fsync", "full_page_writes", "synchronous_commit"), cursor.fetchone(), strict=True))


if __name__ == "__main__":
    {"write": write, "forks": forks, "check": check}[sys.argv[1]](Path(sys.argv[2]))
