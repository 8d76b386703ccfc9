"""The fence around a run's folder: one epoch writes, a round counts once, a kill loses nothing."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fl_jobs.errors import AlreadyCommittedError, ModelFileError, StaleEpochError
from fl_jobs.flare.journal import EPOCH, JOURNAL, RunFolder, round_file

RACE_APPENDS = 250


def aggregate(number: int) -> dict[str, np.ndarray]:
    return {"global/w": np.full(4, number, dtype=np.float32)}


def commit(kept: RunFolder, number: int, sites: tuple[str, ...] = ("a", "b", "c")) -> None:
    name = round_file(number)
    digest = kept.write_tensors(name, aggregate(number))
    kept.append({"kind": "round", "round": number, "sites": list(sites), "file": name, "file_sha256": digest})


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def run_python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_earlier_epoch_does_not_get_in(tmp_path):
    RunFolder(tmp_path, epoch=3).close()
    with pytest.raises(StaleEpochError, match="epoch 3 goes on"):
        RunFolder(tmp_path, epoch=2)
    RunFolder(tmp_path, epoch=3).close()
    assert (tmp_path / EPOCH).read_text() == "3\n"


def test_the_journal_alone_keeps_an_earlier_epoch_out(tmp_path):
    kept = RunFolder(tmp_path, epoch=3)
    kept.append({"kind": "start"})
    kept.close()
    (tmp_path / EPOCH).unlink()
    with pytest.raises(StaleEpochError):
        RunFolder(tmp_path, epoch=2)


def test_a_stale_server_writes_neither_line_nor_file(tmp_path):
    stale = RunFolder(tmp_path, epoch=1)
    commit(stale, 1)
    RunFolder(tmp_path, epoch=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StaleEpochError):
        stale.append({"kind": "failed", "error": "the server was gone"})
    with pytest.raises(StaleEpochError):
        stale.write_tensors(round_file(2), aggregate(2))
    with pytest.raises(StaleEpochError):
        stale.write_artifact(Path("artifacts") / "sha256" / "00", b"0")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_stale_server_wrote_before_its_line_is_written_over(tmp_path):
    """Its file came before the fence, its line after: the round belongs to the new epoch alone."""
    stale = RunFolder(tmp_path, epoch=1)
    stale.write_tensors(round_file(1), aggregate(99))
    fresh = RunFolder(tmp_path, epoch=2)
    commit(fresh, 1)
    with pytest.raises(StaleEpochError):
        stale.append({"kind": "round", "round": 1, "sites": ["a"]})
    np.testing.assert_array_equal(fresh.read_round(1)["global/w"], aggregate(1)["global/w"])


def test_a_round_counts_once_in_all_epochs(tmp_path):
    first = RunFolder(tmp_path, epoch=1)
    commit(first, 1)
    for epoch in (1, 2):
        again = RunFolder(tmp_path, epoch=epoch)
        with pytest.raises(AlreadyCommittedError, match="round 2"):
            again.append({"kind": "round", "round": 1, "sites": ["a"]})
        with pytest.raises(AlreadyCommittedError):
            again.write_tensors(round_file(1), aggregate(5))
    np.testing.assert_array_equal(again.read_round(1)["global/w"], aggregate(1)["global/w"])


def test_a_site_counts_once_in_a_round(tmp_path):
    kept = RunFolder(tmp_path, epoch=1)
    with pytest.raises(AlreadyCommittedError, match="twice in round 1"):
        commit(kept, 1, ("a", "b", "a"))
    assert lines_of(tmp_path) == []


def test_two_servers_of_one_epoch_see_each_others_rounds(tmp_path):
    """NVFlare starts a job once per submission; should it ever start twice, a round still counts once."""
    one, other = RunFolder(tmp_path, epoch=1), RunFolder(tmp_path, epoch=1)
    commit(one, 1)
    with pytest.raises(AlreadyCommittedError):
        other.append({"kind": "round", "round": 1, "sites": ["a"]})
    commit(other, 2)
    assert [line["round"] for line in other.all_lines()] == [1, 2]


def test_what_a_resumed_epoch_needs_to_know(tmp_path):
    kept = RunFolder(tmp_path, epoch=1)
    assert (kept.last_committed(), kept.phases(), kept.has("start")) == (0, {}, False)
    kept.append({"kind": "start"})
    digest = kept.write_tensors("phase-personal-scales.safetensors", aggregate(0))
    phase = {"kind": "phase", "arm": "personal", "phase": "scales", "file_sha256": digest}
    kept.append({**phase, "file": "phase-personal-scales.safetensors"})
    commit(kept, 1)
    commit(kept, 2)
    kept.close()
    again = RunFolder(tmp_path, epoch=2)
    assert again.last_committed() == 2
    assert again.phases() == {("personal", "scales"): "phase-personal-scales.safetensors"}
    np.testing.assert_array_equal(
        again.read_file("phase-personal-scales.safetensors")["global/w"], aggregate(0)["global/w"]
    )
    assert again.has("start")
    assert not again.has("finish")
    with pytest.raises(ModelFileError, match="never committed"):
        again.read_file("other.safetensors")


def test_an_unreadable_epoch_is_a_sentence_not_a_free_pass(tmp_path):
    RunFolder(tmp_path, epoch=2).close()
    (tmp_path / EPOCH).write_text("two")
    with pytest.raises(ModelFileError, match="highest epoch"):
        RunFolder(tmp_path, epoch=3)


def test_half_a_line_of_a_killed_twin_does_not_swallow_the_next_one(tmp_path):
    kept = RunFolder(tmp_path, epoch=1)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"kind": "sta')
    commit(kept, 1)
    assert [line["kind"] for line in lines_of(tmp_path)] == ["round"]


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    kept = RunFolder(tmp_path, epoch=1)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        with pytest.raises(OSError, match="Make room"):
            kept.append({"kind": "start"})
    kept.append({"kind": "start"})
    assert len(lines_of(tmp_path)) == len(kept.all_lines()) == 1


RACER = """
import sys
from pathlib import Path
from fl_jobs.errors import StaleEpochError
from fl_jobs.flare.journal import RunFolder
folder, epoch, appends = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
kept = RunFolder(folder, epoch=epoch)
print("open", flush=True)
done = 0
try:
    for number in range(appends):
        kept.append({"kind": "note", "by": sys.argv[4], "number": number})
        done += 1
except StaleEpochError:
    pass
print(done, flush=True)
"""


def test_two_processes_of_one_epoch_lose_no_line(tmp_path):
    racers = [run_python(RACER, tmp_path, 1, RACE_APPENDS, name) for name in ("left", "right")]
    for racer in racers:
        output, errors = racer.communicate(timeout=60)
        assert (racer.returncode, errors) == (0, "")
        assert output.split() == ["open", str(RACE_APPENDS)]
    seen = [(line["by"], line["number"]) for line in lines_of(tmp_path)]
    for name in ("left", "right"):
        assert [number for by, number in seen if by == name] == list(range(RACE_APPENDS))


def test_a_new_epoch_cuts_a_racing_one_off(tmp_path):
    old = run_python(RACER, tmp_path, 1, 1_000_000, "old")
    assert old.stdout.readline() == "open\n"
    wait_for_lines(tmp_path, 200)
    new = run_python(RACER, tmp_path, 2, RACE_APPENDS, "new")
    written = {}
    for name, racer in (("old", old), ("new", new)):
        output, errors = racer.communicate(timeout=60)
        assert (racer.returncode, errors) == (0, "")
        written[name] = int(output.split()[-1])
    lines = lines_of(tmp_path)
    assert [line["epoch"] for line in lines] == [1] * written["old"] + [2] * written["new"]
    assert written["old"] >= 200
    assert written["new"] == RACE_APPENDS


COMMITTER = """
import sys
from pathlib import Path
import numpy as np
from fl_jobs.flare.journal import RunFolder, round_file
kept = RunFolder(Path(sys.argv[1]), epoch=int(sys.argv[2]))
for number in range(kept.last_committed() + 1, 100_000):
    digest = kept.write_tensors(round_file(number), {"w": np.full(20_000, number, dtype=np.float32)})
    file = {"file": round_file(number), "file_sha256": digest}
    kept.append({"kind": "round", "round": number, "sites": ["a", "b"], **file})
"""


def test_kill_9_at_any_instant_loses_and_doubles_no_round(tmp_path):
    committed: list[dict] = []
    for epoch in range(1, 7):
        process = run_python(COMMITTER, tmp_path, epoch)
        wait_for_lines(tmp_path, len(committed) + 1)
        time.sleep(0.003 * epoch)  # somewhere between a file and its line
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert errors == ""
        kept = RunFolder(tmp_path, epoch=epoch)  # cuts off what the kill left half
        lines = kept.all_lines()
        kept.close()
        assert lines[: len(committed)] == committed
        assert [line["round"] for line in lines] == list(range(1, len(lines) + 1))
        for line in lines:
            assert hashlib.sha256((tmp_path / line["file"]).read_bytes()).hexdigest() == line["file_sha256"]
        committed = lines


def wait_for_lines(folder: Path, count: int, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        journal = folder / JOURNAL
        if journal.exists() and journal.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    raise TimeoutError(f"{count} lines did not come")
