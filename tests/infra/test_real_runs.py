"""The campaign's table and the comparison with the simulator, on runs made in this process."""

import copy
import json

import pytest

from fl_jobs.benefit.evidence import EVIDENCE, read_evidence
from fl_jobs.packaging.spec import run_folder_name
from fl_jobs.simulate import run_in_process
from infra.demo.datasets import cytology
from tests.bench import kept_runs
from tests.bench.kept_rows import KeptRows
from tests.bench.kept_runs import Asked, cells_of, code_behind, kept_algorithms, largest_move
from tests.bench.real_runs import as_markdown, judge, measure, measure_algorithm, repeated
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


@pytest.fixture
def kept(runs, tmp_path):
    """The file of a campaign of one algorithm and two seeds, and what was asked for."""
    asked = Asked(STUDY, ("fedcp",), 2, 2)
    rows = KeptRows(tmp_path / "rows.jsonl")
    row = measure_algorithm(asked, "fedcp", lambda spec: runs[spec.seed - 101])
    rows.add(row)
    return asked, tmp_path / "rows.jsonl", row


def test_a_kept_algorithm_is_not_run_again(kept):
    asked, path, row = kept
    figures = measure(asked, KeptRows(path))  # starts no federation: there is nothing to run
    assert figures["algorithms"] == {"fedcp": json.loads(json.dumps(row["result"]))}
    assert (figures["again"], figures["seeds"], figures["masked"]) == ([], [101, 102], True)


@pytest.mark.parametrize(
    "change", [{"code": "older"}, {"study": "other"}, {"requests": 300}, {"by_seed": {"101": {}}}]
)
def test_a_kept_algorithm_counts_only_where_it_would_be_measured_again(kept, change):
    asked, path, row = kept
    assert kept_algorithms(asked, KeptRows(path)).keys() == {"fedcp"}
    rows = KeptRows(None)
    rows.rows = [row | change]
    assert kept_algorithms(asked, rows) == {}


def test_another_setting_or_another_line_of_training_is_another_campaign(monkeypatch):
    spec = Asked(STUDY, ("fedcp",), 2, 2).spec("fedcp")
    assert code_behind(spec) != code_behind(spec.model_copy(update={"rounds": 3}))
    before, digest = code_behind(spec), kept_runs._sha256
    for name, same in (("training.py", False), ("controller.py", True), ("templates.py", True)):
        monkeypatch.setattr(kept_runs, "_sha256", lambda f, n=name: "x" if f.name == n else digest(f))
        assert (code_behind(spec) == before) == same


def test_a_repeated_run_says_how_far_its_cells_moved(kept, runs):
    _, _, row = kept
    assert repeated(row, 101, runs[0])["moved"] == 0
    assert repeated(row, 101, runs[1])["moved"] > 0
    assert largest_move(cells_of(runs[0]), {}) == float("inf")
    assert largest_move({"a": None}, {"a": 0.5}) == float("inf")
    assert largest_move({"a": None}, {"a": None}) == 0
