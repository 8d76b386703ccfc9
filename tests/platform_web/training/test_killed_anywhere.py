"""Workers are killed at every n-th statement and call of a run of three NVFlare jobs; messages are doubled.

A kill is an exception that no code of ours catches: an open transaction is rolled back, as a dead worker's
is. What must come out is what comes out undisturbed: the rows equal the journal, each act once.
"""

import hashlib
import os
from collections import Counter
from contextlib import suppress

import pytest
from django.db import connection
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.federation.models import Site
from platform_web.outbox import runner
from platform_web.outbox.models import Task
from platform_web.registry import tasks as registry
from platform_web.registry.models import SiteModel
from platform_web.training import services, tasks
from platform_web.training.models import Round, Run, RunJob
from tests.platform_web import world
from tests.platform_web.fake_flare import FakeFlare

NAMES = ["site-a", "site-b", "site-c"]
FILES = {hashlib.sha256(content).hexdigest(): content for content in (b"shared global", b"shared personal")}
SHARED = dict(zip(("global", "personal"), FILES, strict=True))
EVERY = int(os.environ.get("CONSILIUM_KILL_EVERY", "7"))


class KilledError(BaseException):
    """Nobody may catch this."""


class Killer:
    """Lets ``after`` statements and calls through, then kills once."""

    def __init__(self, after):
        self.left, self.happened = after, False

    def step(self):
        self.left -= 1
        if self.left == 0:
            self.happened = True
            raise KilledError

    def __call__(self, execute, sql, params, many, context):
        if not sql.startswith(("ROLLBACK", "RELEASE")):
            self.step()
        return execute(sql, params, many, context)


class ScriptedFlare(FakeFlare):
    """Three jobs: one whose server dies, one that is ended at a boundary, one that finishes."""

    def __init__(self, folder, killer):
        super().__init__()
        self.killer = killer
        last = world.finish_line(NAMES, round_number=6, shared=SHARED) | {"epoch": 3}
        self.script = {
            1: [{"kind": "start", "epoch": 1}, world.round_line(1, NAMES), world.round_line(2, NAMES)],
            2: [  # what the dead server wrote last is read only now
                world.round_line(3, NAMES),
                {"kind": "start", "epoch": 2},
                world.roster_line(NAMES, epoch=2),
                world.round_line(4, NAMES, epoch=2, masking=world.masking(NAMES)),
                {"kind": "interrupted", "code": "REJOIN", "error": "One is back.", "epoch": 2},
            ],
            3: [{"kind": "start", "epoch": 3}, *(world.round_line(n, NAMES, epoch=3) for n in (5, 6)), last],
        }
        self.ends = {1: "FINISHED:ABANDONED", 2: "FINISHED:ABNORMAL", 3: "FINISHED:COMPLETED"}
        self.looks = Counter()
        self.leave_results(folder, [line for lines in self.script.values() for line in lines], FILES)

    def submit(self, folder, token):
        self.killer.step()
        is_new = token not in self.submitted
        job_id = super().submit(folder, token)
        if is_new:
            self.lines += self.script[len(self.submitted)]
        self.killer.step()  # NVFlare has it, we do not know its id
        return job_id

    def job_status(self, job_id):
        self.killer.step()
        self.looks[job_id] += 1
        epoch = list(self.submitted).index(job_id.removeprefix("job-")) + 1
        return "RUNNING" if self.looks[job_id] < 4 else self.ends[epoch]

    def download(self, job_id, destination):
        self.killer.step()
        return super().download(job_id, destination)


def one_beat(flare, run):
    """A tick of the beat; leases of the dead have run out, every message comes twice."""
    moment = timezone.now()
    Site.objects.update(flare_seen_at=moment, heartbeat_at=moment)
    Task.objects.update(lease_until=None, not_before=moment)
    with connection.execute_wrapper(flare.killer):
        for _ in range(2):
            runner.run_all_due()
            services.take_up_failed_work()
            tasks.follow_all([str(run.pk)], flare)


def live(run, flare):
    """To the run's end; how often somebody was killed."""
    for _beat in range(40):
        with suppress(KilledError):
            one_beat(flare, run)
        run.refresh_from_db()
        if run.is_final:
            return
    raise AssertionError(f"the run hangs in {run.state}: {run.interruption}")


def facts(run, flare):
    """Everything that must not depend on who died when."""
    return {
        "end": (run.state, run.error, run.epoch, run.journal_position == len(flare.lines)),
        "rounds": list(Round.objects.filter(run=run).values_list("number", "epoch", "aggregate_sha256")),
        "sites": Counter(Round.objects.filter(run=run).values_list("number", "site_rounds__site__name")),
        "acts": Counter(AuditEvent.objects.filter(job=str(run.pk)).values_list("act", flat=True)),
        "jobs": list(RunJob.objects.filter(run=run).values_list("epoch", "start_round", "code")),
        "handed over": [job["arguments"]["start_round"] for job in flare.submitted.values()],
        "models": SiteModel.objects.filter(version__run=run).count(),
        "promises": Counter(
            Task.objects.filter(arguments__run_id=str(run.pk)).values_list("name", flat=True)
        ),
    }


@pytest.fixture
def lived(dana, make_site, tmp_path, monkeypatch):
    """``lived(after)`` takes a new run to its end with one kill after so many steps."""
    sites = [world.bring_online(make_site(name)) for name in NAMES]
    study = world.open_study(dana)

    def live_through(after):
        run = world.prepared_run(dana, study, sites, rounds=6)
        flare = ScriptedFlare(tmp_path / str(after), Killer(after))
        for module in (tasks, registry):
            monkeypatch.setattr(module, "gateway", lambda: flare)
        live(run, flare)
        return facts(run, flare), flare.killer

    return live_through


def test_whoever_is_killed_whenever_the_rows_equal_the_journal(lived):
    undisturbed, counter = lived(10**9)
    assert undisturbed["end"] == (Run.State.COMPLETED, "", 3, True)
    assert undisturbed["handed over"] == [1, 3, 5]
    assert [number for number, _epoch, _digest in undisturbed["rounds"]] == [1, 2, 3, 4, 5, 6]
    for after in range(1, 10**9 - counter.left, EVERY):
        found, killer = lived(after)
        assert killer.happened
        assert found == undisturbed, after
