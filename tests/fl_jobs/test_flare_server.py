"""The server's adapters: what they keep on disk, what they import, what they forgive."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.job_def import RunStatus
from nvflare.apis.job_launcher_spec import JobReturnCode

from fl_jobs.errors import ModelFileError, SharedStateError
from fl_jobs.flare import wire
from fl_jobs.flare.journal import JOURNAL, RunFolder, round_file
from fl_jobs.flare.launcher import TolerantHandle
from fl_jobs.flare.server_parts import MarkAbandoned
from fl_jobs.messages import Contribution, TaskOrder
from fl_jobs.tensor_files import write_tensors

AGGREGATE = {"global/w": np.arange(6, dtype=np.float32)}


def commit(kept: RunFolder, number: int) -> None:
    digest = write_tensors(kept.folder / round_file(number), AGGREGATE)
    kept.append({"kind": "round", "round": number, "file": round_file(number), "file_sha256": digest})


def test_the_journal_survives_and_counts_on(tmp_path):
    first = RunFolder(tmp_path, epoch=1)
    commit(first, 1)
    first.close()
    second = RunFolder(tmp_path, epoch=2)
    commit(second, 2)
    assert [(line["round"], line["epoch"]) for line in second.lines(0)["lines"]] == [(1, 1), (2, 2)]
    assert second.lines(1)["next"] == 2
    assert second.lines(2) == {"lines": [], "next": 2}


def test_half_a_line_from_a_crash_is_cut_off(tmp_path):
    kept = RunFolder(tmp_path, epoch=1)
    commit(kept, 1)
    kept.close()
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"kind": "round", "rou')
    commit(RunFolder(tmp_path, epoch=2), 2)
    lines = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]


def test_a_committed_round_is_read_back_for_resuming(tmp_path):
    kept = RunFolder(tmp_path, epoch=1)
    commit(kept, 3)
    np.testing.assert_array_equal(kept.read_round(3)["global/w"], AGGREGATE["global/w"])


def test_a_file_without_its_journal_line_is_no_round(tmp_path):
    kept = RunFolder(tmp_path, epoch=1)
    write_tensors(tmp_path / round_file(1), AGGREGATE)
    with pytest.raises(ModelFileError, match="never committed"):
        kept.read_round(1)


def test_an_altered_aggregate_is_refused(tmp_path):
    kept = RunFolder(tmp_path, epoch=1)
    commit(kept, 1)
    data = bytearray((tmp_path / round_file(1)).read_bytes())
    data[-1] ^= 1
    (tmp_path / round_file(1)).write_bytes(data)
    with pytest.raises(ModelFileError):
        kept.read_round(1)


def test_an_order_and_its_answer_travel_whole():
    order = TaskOrder("train", 2, {"best": {"global": 1}}, AGGREGATE)
    received = wire.order_from_shareable(wire.order_to_shareable(order, "d"), "d")
    assert (received.name, received.round_number, received.header) == ("train", 2, order.header)
    answer = Contribution(AGGREGATE, {"samples": 3.0}, {"sums": {}})
    packed = wire.contribution_to_shareable(answer, order, "d")
    assert wire.contribution_from_shareable(packed, order, "d").lanes == {"samples": 3.0}


def test_an_answer_to_another_round_or_run_is_refused():
    packed = wire.contribution_to_shareable(Contribution({}, {}, {}), TaskOrder("train", 1), "d")
    for order, digest in ((TaskOrder("train", 2), "d"), (TaskOrder("train", 1), "other")):
        with pytest.raises(SharedStateError):
            wire.contribution_from_shareable(packed, order, digest)


def test_numbers_that_are_not_finite_are_a_sentence():
    metrics = {"sums": {"global": {"train_loss": float("nan")}}}
    with pytest.raises(SharedStateError, match="Lower the learning rate"):
        wire.contribution_to_shareable(Contribution({}, {}, metrics), TaskOrder("train", 1), "d")


@pytest.mark.parametrize(
    ("code", "expected"), [(-9, JobReturnCode.UNKNOWN), (1, JobReturnCode.EXECUTION_ERROR)]
)
def test_only_death_by_a_signal_is_a_dropout(code, expected):
    handle = TolerantHandle(process_adapter=SimpleNamespace(poll=lambda: code))
    assert handle.poll() == expected


class FakeJobManager:
    def __init__(self) -> None:
        self.jobs = {"orphan": RunStatus.RUNNING, "done": RunStatus.FINISHED_COMPLETED}

    def get_jobs_by_status(self, statuses, _context):
        return [SimpleNamespace(job_id=job) for job, status in self.jobs.items() if status in statuses]

    def set_status(self, job_id, status, _context):
        self.jobs[job_id] = status


def test_jobs_of_a_dead_server_are_marked_abandoned_when_it_starts():
    manager = FakeJobManager()
    engine = SimpleNamespace(get_component=lambda _name: manager)
    context = SimpleNamespace(
        get_engine=lambda: engine, get_prop=lambda *_: None, get_identity_name=lambda: "s"
    )
    part = MarkAbandoned()
    part.log_warning = lambda *_: None
    part.handle_event(EventType.START_RUN, context)
    assert manager.jobs["orphan"] == RunStatus.RUNNING
    part.handle_event(EventType.SYSTEM_START, context)
    assert manager.jobs == {"orphan": RunStatus.ABANDONED, "done": RunStatus.FINISHED_COMPLETED}


def test_the_servers_job_process_does_not_load_torch():
    code = (
        "import sys, fl_jobs.flare.controller, fl_jobs.flare.server_parts\n"
        "from fl_jobs.aggregation import load_fold\n"
        "from fl_jobs.catalog import ALGORITHMS\n"
        "[load_fold(name) for name in ALGORITHMS]\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_job_process_ends_with_its_parent():
    child = (
        "from fl_jobs.flare.parent_watch import exit_with_parent as e; e(0.05); import time; time.sleep(30)"
    )
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(1.5)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    deadline = time.monotonic() + 5
    while _is_running(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(int(done.stdout))


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
