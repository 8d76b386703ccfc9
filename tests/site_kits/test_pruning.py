"""What NVFlare leaves at a site: removed when it is old, kept when it is not a job's."""

import os
import time
from uuid import uuid4

from fl_jobs.approval.egress import EgressLine, append_line
from fl_jobs.approval.records import now
from site_kits.agent import pruning
from site_kits.agent.requests import list_requests
from site_kits.site_home import SiteHome
from tests.approvals import approve
from tests.fl_jobs.test_flare_outgoing import SPEC

DAY_S = 86_400


def aged(path, days):
    for part in (*path.rglob("*"), path):
        os.utime(part, (time.time() - days * DAY_S,) * 2, follow_symlinks=False)
    return path


def job_folder(home):
    folder = home.flare / str(uuid4())
    (folder / "app" / "config").mkdir(parents=True)
    (folder / "log.txt").write_text("line\n")
    return folder


def test_only_folders_of_jobs_without_a_change_for_two_weeks_are_removed(tmp_path):
    home = SiteHome(tmp_path)
    old, recent, running = (job_folder(home) for _ in range(3))
    aged(old, pruning.KEPT_DAYS + 1), aged(recent, pruning.KEPT_DAYS - 1), aged(running, 30)
    (running / "log.txt").write_text("a round has just ended\n")
    (home.flare / "startup").mkdir()
    aged(home.flare / "startup", 300)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = home.flare / str(uuid4())
    link.symlink_to(elsewhere)
    aged(elsewhere, 300)

    assert pruning.prune_job_folders(home, now=time.time()) == [old.name]

    assert not old.exists()
    assert all(path.exists() for path in (recent, running, home.flare / "startup", elsewhere, link))


def test_requests_of_runs_that_ended_long_ago_are_put_aside_and_not_lost(tmp_path):
    home = SiteHome(tmp_path)
    asked = [approve(tmp_path, SPEC, asked_at=f"2026-0{month}-01T00:00:00+00:00") for month in (1, 2, 3, 4)]
    old, leaves, recent, last = asked
    for run_id in (old, leaves, last):
        aged(tmp_path / "requests" / run_id, pruning.QUIET_DAYS + 1)
    append_line(tmp_path, EgressLine(
        at=now(), run_id=leaves, job="1", task="train", round=1, tensors=("a",), tensor_count=1, masked=True,
        number_bytes=4, message_bytes=0, text_bytes=0,
    ))  # fmt: skip
    before = (tmp_path / "requests" / old / "decision.json").read_bytes()

    assert pruning.put_old_requests_aside(home, now=time.time()) == [old]

    assert (tmp_path / "requests" / "old" / old / "decision.json").read_bytes() == before
    assert {one.request.run_id for one in list_requests(home)} == {leaves, recent, last}
    assert pruning.put_old_requests_aside(home, now=time.time()) == []
    approve(tmp_path, SPEC, old, asked_at="2026-05-01T00:00:00+00:00")  # the portal asked again
    approve(tmp_path, SPEC, asked_at="2026-06-01T00:00:00+00:00")
    aged(tmp_path / "requests" / old, pruning.QUIET_DAYS + 1)
    assert pruning.put_old_requests_aside(home, now=time.time()) == [last]
    assert (tmp_path / "requests" / old / "decision.json").exists()
    assert (tmp_path / "requests" / "old" / old / "decision.json").read_bytes() == before


def test_a_large_audit_file_is_put_aside_and_nothing_of_the_last_one_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(pruning, "AUDIT_LIMIT_BYTES", 10)
    home = SiteHome(tmp_path)
    home.flare.mkdir()
    pruning.rotate_audit(home)  # none yet
    audit = home.flare / "audit.log"
    audit.write_text("short\n")
    pruning.rotate_audit(home)
    assert audit.read_text() == "short\n"
    audit.write_text("longer than ten\n")
    pruning.rotate_audit(home)
    assert not audit.exists()
    assert (home.flare / "audit.log.1").read_text() == "longer than ten\n"
