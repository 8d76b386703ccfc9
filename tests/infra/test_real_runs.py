"""The campaign's table and the comparison with the simulator, on runs made in this process."""

import copy

import pytest

from fl_jobs.benefit.evidence import EVIDENCE, read_evidence
from fl_jobs.packaging.spec import run_folder_name
from fl_jobs.simulate import run_in_process
from infra.demo.datasets import cytology
from tests.bench.real_runs import as_markdown, judge
from tests.e2e.studies import run_spec, write_home
from tests.prove.real_runs import largest_difference

STUDY = cytology()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    homes = {}
    for place, site in enumerate(STUDY.sites):
        homes[site.name] = tmp_path_factory.mktemp(site.name)
        write_home(STUDY, place, homes[site.name], None)
    found = []
    for seed in (101, 102):
        spec = run_spec(STUDY, "fedcp", seed=seed, rounds=2)
        records = run_in_process(spec, homes, run_id=f"seed-{seed}")
        folder = f"personal/{spec.study.slug}/fedcp/{run_folder_name(spec.digest(), f'seed-{seed}')}"
        evidence = [read_evidence(home / folder / EVIDENCE) for home in homes.values()]
        found.append({"finish": records[-1], "evidence": evidence, "records": records})
    return found


def test_the_table_has_a_row_for_every_site_and_one_for_all(runs):
    found = judge(runs, STUDY)
    assert found["candidate"] == "personal"
    for site, row in found["sites"].items():
        both = [run["finish"]["sites"][site]["cells"]["personal"]["balanced_accuracy"] for run in runs]
        assert row["cells"]["personal"]["balanced_accuracy"] == pytest.approx(sum(both) / 2)
    figures = {
        "title": STUDY.title, "endpoint": "balanced_accuracy", "margin": 0.02, "rounds": 2, "masked": True,
        "seeds": [101, 102], "seconds_per_run": 1.0, "algorithms": {"fedcp": found},
    }  # fmt: skip
    lines = [line for line in as_markdown(figures).splitlines() if line.startswith("| fedcp |")]
    assert len(lines) == len(STUDY.sites) + 1
    assert all(line.endswith("| cannot be tested here |") for line in lines[:-1])  # 29 test cases a site
    assert "cannot be tested: " in lines[-1]


def test_the_comparison_sees_every_figure_that_differs_or_is_not_there(runs):
    records = runs[0]["records"]
    count, worst, where = largest_difference(records, records)
    assert count > 100
    assert (worst, where) == (0.0, "")
    other = copy.deepcopy(records)
    other[-1]["sites"]["riverside"]["cells"]["personal"]["log_loss"] += 0.25
    assert largest_difference(records, other)[1:] == (
        pytest.approx(0.25),
        "finish/sites/riverside/cells/personal/log_loss",
    )
    del other[-1]["sites"]["riverside"]["cells"]["personal"]["log_loss"]
    assert largest_difference(records, other)[1] == float("inf")
    assert largest_difference(records, runs[1]["records"])[1] > 0
