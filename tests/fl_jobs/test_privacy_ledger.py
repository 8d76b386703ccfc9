"""The account of what a site's patients have paid."""

import json
import os
import signal
import subprocess
import sys

import pytest

from fl_jobs.errors import PrivacyBudgetError, SiteHomeError
from fl_jobs.packaging.spec import PrivacySpec
from fl_jobs.privacy.accountant import Releases, epsilon
from fl_jobs.privacy.ledger import FILE, Budget, Ledger
from tests.fl_jobs.privacy_runs import RECORD, SITE

TEN = Releases(0.25, 1.0, 10)
PATIENT, WHOLE = PrivacySpec(**RECORD), PrivacySpec(**SITE)


def open_ledger(home, run="run-1", *, dataset="cases", sha256="d" * 64, budget=None):
    return Ledger(home, dataset=dataset, sha256=sha256, run=run, digest="e" * 64, budget=budget)


def test_charges_add_up_over_runs_of_the_same_data(tmp_path):
    open_ledger(tmp_path).charge(PATIENT, TEN)
    open_ledger(tmp_path).charge(PATIENT, TEN)
    open_ledger(tmp_path, "run-2").charge(PATIENT, TEN)
    assert open_ledger(tmp_path, "run-3").spent(1e-5) == pytest.approx(
        epsilon([Releases(0.25, 1.0, 30)], 1e-5)
    )
    assert [entry["count"] for entry in json.loads((tmp_path / FILE).read_bytes())["entries"]] == [20, 10]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_registering_again_or_renaming_does_not_wipe_the_account(tmp_path):
    open_ledger(tmp_path).charge(PATIENT, TEN)
    paid = epsilon([TEN], 1e-5)
    assert open_ledger(tmp_path, sha256="f" * 64).spent(1e-5) == pytest.approx(paid)
    assert open_ledger(tmp_path, dataset="other").spent(1e-5) == pytest.approx(paid)
    assert open_ledger(tmp_path, dataset="other", sha256="f" * 64).spent(1e-5) == 0.0


def test_a_site_wide_release_counts_for_patients_with_half_the_noise(tmp_path):
    open_ledger(tmp_path).charge(WHOLE, Releases(1.0, 2.0, 3))
    assert open_ledger(tmp_path).spent(1e-5) == pytest.approx(epsilon([Releases(1.0, 1.0, 3)], 1e-5))


def test_the_sites_budget_is_kept_over_runs_and_nothing_is_charged_beyond(tmp_path):
    budget = Budget(epsilon([Releases(0.25, 1.0, 25)], 1e-5), 1e-5)
    open_ledger(tmp_path, budget=budget).charge(PATIENT, TEN)
    open_ledger(tmp_path, "run-2", budget=budget).charge(PATIENT, TEN)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(PrivacyBudgetError, match="privacy budget for “cases”"):
        open_ledger(tmp_path, "run-3", budget=budget).charge(PATIENT, TEN)
    with pytest.raises(PrivacyBudgetError, match="would be spent"):
        open_ledger(tmp_path, "run-3", budget=budget).check(PATIENT, [TEN])
    assert (tmp_path / FILE).read_bytes() == before
    open_ledger(tmp_path, "run-3", dataset="others", sha256="f" * 64, budget=budget).charge(PATIENT, TEN)


def test_a_run_that_began_is_not_asked_for_its_whole_plan_again(tmp_path):
    budget = Budget(epsilon([Releases(0.25, 1.0, 25)], 1e-5), 1e-5)
    ledger = open_ledger(tmp_path, budget=budget)
    ledger.check(PATIENT, [Releases(0.25, 1.0, 20)])
    ledger.charge(PATIENT, TEN)
    ledger.check(PATIENT, [Releases(0.25, 1.0, 20)])  # 30 in all would be too much; 10 are part of the plan
    ledger.charge(PATIENT, TEN)


def test_repeated_orders_cannot_pass_the_runs_own_limit(tmp_path):
    limit = PrivacySpec(**(RECORD | {"epsilon_max": epsilon([Releases(0.25, 1.0, 20)], 1e-5)}))
    ledger = open_ledger(tmp_path)
    ledger.charge(limit, TEN)
    ledger.charge(limit, TEN)
    with pytest.raises(PrivacyBudgetError, match="repeated are charged again"):
        ledger.charge(limit, TEN)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"version": 2, "entries": []}', b'{"version": 1, "entries": [{}]}', b'{"version": 1}',
     b'{"version": 1, "entries": [{"dataset": "cases", "dataset_sha256": "d", "run": "r", "run_digest": "e",'
     b' "unit": "record", "sample_rate": 0.25, "noise_multiplier": 1.0, "count": -5}]}'],
)  # fmt: skip
def test_an_account_that_cannot_be_read_is_never_an_empty_one(tmp_path, content):
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(SiteHomeError, match="Restore it"):
        open_ledger(tmp_path).charge(PATIENT, TEN)
    assert (tmp_path / FILE).read_bytes() == content


CHARGER = """
import sys
from pathlib import Path
from tests.fl_jobs.test_privacy_ledger import PATIENT, open_ledger
from fl_jobs.privacy.accountant import Releases
ledger = open_ledger(Path(sys.argv[1]), sys.argv[2])
for _ in range(int(sys.argv[3])):
    ledger.charge(PATIENT, Releases(0.001, 100.0, 1))
    print("charged", flush=True)
"""


def start(home, run, times):
    return subprocess.Popen(
        [sys.executable, "-c", CHARGER, str(home), run, str(times)], stdout=subprocess.PIPE, text=True
    )


def counts(home):
    return sum(entry["count"] for entry in json.loads((home / FILE).read_bytes())["entries"])


def test_two_processes_lose_no_charge(tmp_path):
    with start(tmp_path, "run-1", 40) as one, start(tmp_path, "run-1", 40) as other:
        assert [len(process.communicate(timeout=120)[0].split()) for process in (one, other)] == [40, 40]
    assert counts(tmp_path) == 80


def test_a_killed_process_leaves_every_charge_it_was_told_of(tmp_path):
    with start(tmp_path, "run-1", 10_000) as process:
        told = [process.stdout.readline() for _ in range(25)]
        os.kill(process.pid, signal.SIGKILL)
        told += process.stdout.readlines()
    confirmed = sum(line == "charged\n" for line in told)
    assert confirmed >= 25
    assert counts(tmp_path) in (confirmed, confirmed + 1)  # one may be on disk before it was confirmed
    open_ledger(tmp_path, "run-2").charge(PATIENT, TEN)  # the dead process's lock is gone
