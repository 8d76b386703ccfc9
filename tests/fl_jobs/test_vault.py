"""What secure aggregation keeps at a site: private, durable, one ledger for all jobs."""

import multiprocessing
import os

import pytest

from fl_jobs.errors import SiteHomeError
from fl_jobs.flare.vault import FileVault


def test_state_and_ledger_come_back_after_a_restart(tmp_path):
    vault = FileVault(tmp_path, run_id="run", epoch=1)
    assert vault.read_state() is None
    vault.write_state(b"state")
    vault.update_ledger(lambda before: (before or b"") + b"1")
    again = FileVault(tmp_path, run_id="run", epoch=1)
    assert (again.read_state(), again.key) == (b"state", vault.key)
    seen = []
    again.update_ledger(lambda before: seen.append(before) or before)
    assert seen == [b"1"]


def test_nobody_else_can_read_it(tmp_path):
    vault = FileVault(tmp_path, run_id="run", epoch=1)
    vault.write_state(b"state")
    vault.update_ledger(lambda before: b"ledger")
    assert (tmp_path / "secagg").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "secagg").iterdir())


def test_a_new_epoch_forgets_the_keys_of_the_old_one_and_keeps_the_ledger(tmp_path):
    first = FileVault(tmp_path, run_id="run", epoch=1)
    first.write_state(b"old")
    first.update_ledger(lambda before: b"ledger")
    other = FileVault(tmp_path, run_id="other", epoch=1)
    other.write_state(b"another run")
    second = FileVault(tmp_path, run_id="run", epoch=2)
    assert second.read_state() is None
    assert first.read_state() is None
    assert other.read_state() == b"another run"
    second.write_state(b"new")
    FileVault(tmp_path, run_id="run", epoch=1)
    assert second.read_state() == b"new"
    kept = []
    second.update_ledger(lambda before: kept.append(before) or b"x")
    assert kept == [b"ledger"]


def test_a_failed_change_leaves_the_ledger_as_it_was(tmp_path):
    vault = FileVault(tmp_path, run_id="run", epoch=1)
    vault.update_ledger(lambda before: b"good")
    with pytest.raises(ZeroDivisionError):
        vault.update_ledger(lambda before: bytes(1 // 0))
    vault.update_ledger(lambda before: (before or b"") + b"!")
    assert (tmp_path / "secagg" / "ledger").read_bytes() == b"good!"


def test_a_damaged_key_is_not_replaced(tmp_path):
    FileVault(tmp_path, run_id="run", epoch=1)
    (tmp_path / "secagg" / "seal.key").write_bytes(b"short")
    with pytest.raises(SiteHomeError, match="Restore it"):
        FileVault(tmp_path, run_id="run", epoch=1)


def _count(home, times):
    vault = FileVault(home, run_id=f"run-{os.getpid()}", epoch=1)
    for _ in range(times):
        vault.update_ledger(lambda before: b"%d" % (int(before or b"0") + 1))


def test_two_jobs_at_once_lose_nothing_in_the_ledger(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(tmp_path, 40)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert (tmp_path / "secagg" / "ledger").read_bytes() == b"80"
