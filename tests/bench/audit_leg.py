"""``python -m tests.bench.audit_leg append|tree …``: one database of ``tests.bench.audit``, from the inside.

append WRITERS SECONDS   transactions of one entry each, then an effect with and without its entry in turn
tree ENTRIES             sequencing, and checking, that many entries that are there already
"""

import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

django.setup()

from django.db import connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from compliance.merkle import leaf_hash  # noqa: E402
from compliance.signer.core import Signer, create  # noqa: E402
from platform_web.audit import services  # noqa: E402
from platform_web.audit.models import AuditEvent, AuditShard  # noqa: E402
from platform_web.audit.sequencer import Sequencer  # noqa: E402
from platform_web.audit.verification import Verification, verify_columns, verify_tree  # noqa: E402
from platform_web.outbox.models import Task  # noqa: E402

ROWS_AT_ONCE = 2000


def entry() -> None:
    services.record(
        act="site.invited", site="site-a", obj=[("site", "site-a", "")], data={"title": "City 市医院"}
    )


def effect() -> None:
    Task.objects.create(name="bench.nothing", queue="default", not_before=timezone.now())


def timed(*acts: Callable[[], None]) -> float:
    began = time.perf_counter()
    with transaction.atomic():
        for act in acts:
            act()
    return time.perf_counter() - began


def write(seconds: float, start_at: float) -> dict[str, list[float]]:
    """One writer: its latencies in seconds."""
    timed(effect, entry)  # the connection, the imports
    time.sleep(max(0.0, start_at - time.time()))
    figures: dict[str, list[float]] = {"entry": [], "with": [], "without": []}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        figures["entry"].append(timed(entry))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        figures["with"].append(timed(effect, entry))
        figures["without"].append(timed(effect))
    return figures


def append(writers: int, seconds: float) -> dict[str, list[float]]:
    """Writers are processes: threads would wait for each other's Python and not for the database."""
    start_at, pipes = time.time() + 1.0 + writers * 0.5, []
    for _ in range(writers):
        reading, writing = os.pipe()
        if os.fork() == 0:
            with os.fdopen(writing, "w") as out:
                json.dump(write(seconds, start_at), out)
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    together: dict[str, list[float]] = {"entry": [], "with": [], "without": []}
    for pipe in pipes:
        with os.fdopen(pipe) as figures:
            for name, values in json.load(figures).items():
                together[name] += values
    return together


def fill(count: int) -> None:
    """Entries as the service writes them, many in a transaction, so that the sequencer finds work."""
    template = services.draft(act="site.invited", site="site-a", data={"title": "City 市医院"})
    model = str(json.loads(template)["id"]).encode()
    columns = services.columns(json.loads(template))
    moment = timezone.datetime.fromisoformat(json.loads(template)["ts"])
    for start in range(0, count, ROWS_AT_ONCE):
        rows = []
        for _ in range(start, min(start + ROWS_AT_ONCE, count)):
            name = uuid.uuid4()
            leaf = template.replace(model, str(name).encode())
            rows.append(AuditEvent(event_id=name, leaf=leaf, leaf_hash=leaf_hash(leaf), ts=moment, **columns))
        AuditEvent.objects.bulk_create(rows)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def tree(count: int) -> dict[str, Any]:
    fill(count)
    folder = Path(tempfile.mkdtemp(dir=os.environ["CONSILIUM_HOME"])) / "signer"
    create(folder, "consilium/audit")
    sequencer = Sequencer(Signer(folder))
    sequencer.step()  # opens the tree
    began, placed, heads = time.perf_counter(), 0, []
    while batch := sequencer.step():
        placed += batch
        head_began = time.perf_counter()
        sequencer.checkpoint()
        heads.append(time.perf_counter() - head_began)
    sequencing = time.perf_counter() - began
    result = Verification()
    began = time.perf_counter()
    for shard in AuditShard.objects.all():
        verify_tree(shard, result)
    verifying = time.perf_counter() - began
    began = time.perf_counter()
    verify_columns(result)
    columns = time.perf_counter() - began
    assert result.is_whole, result.findings
    return {
        "entries": result.entries,
        "sequence_per_s": placed / sequencing,
        "head_ms": 1000 * sum(heads) / len(heads),
        "verify_events_per_s": result.entries / verifying,
        "verify_columns_per_s": result.entries / columns,
    }


if __name__ == "__main__":
    if sys.argv[1] == "append":
        print(json.dumps(append(int(sys.argv[2]), float(sys.argv[3]))))
    else:
        print(json.dumps(tree(int(sys.argv[2]))))
