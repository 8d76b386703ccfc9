"""What the anchors' intervals show, and what they do not."""

import json

import pytest

from tests.bench.anchor_table import main
from tests.bench.anchors import ratios, shown, verdicts
from tests.bench.kept_rows import KeptRows


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.009, 0.009, "equivalent"),
        (-0.009, 0.02, "equivalent or better"),
        (0.02, 0.03, "equivalent or better"),
        (-0.02, 0.02, "not shown"),
        (-0.03, -0.02, "worse"),
    ],
)
def test_an_interval_shows_what_two_one_sided_tests_show(low, high, word):
    assert shown(low, high) == word


def row(seed, ours, theirs, *, together=True, cost=1.0):
    base = {"partition": "p", "algorithm": "a", "seed": seed, "side_by_side": together}
    base |= {"last_five": ours, "pfllib_last_five": theirs, "best": ours, "pfllib_best": theirs}
    for name in ("cpu_s_per_round", "cpu_s_per_evaluation", "rss_mb"):
        base |= {name: cost, f"pfllib_{name}": 2.0}
    return base


def test_pairs_that_move_together_are_told_by_their_differences():
    seeds = enumerate([0.80, 0.90, 0.85, 0.70, 0.95])
    rows = [row(seed, value + 0.001 * (seed % 2), value) for seed, value in seeds]
    assert verdicts(rows)[0]["shown"] == "equivalent"
    apart = [one | {"side_by_side": False} for one in rows]
    assert verdicts(apart)[0]["shown"] == "not shown"


def test_one_seed_tests_nothing():
    line = verdicts([row(0, 0.9, 0.8)])[0]
    assert (line["shown"], line["difference"]) == ("not tested", pytest.approx(0.1))


def test_ratios_come_from_runs_side_by_side_only():
    found = ratios([row(0, 0.9, 0.9), row(1, 0.9, 0.9, cost=1.8), row(2, 0.9, 0.9, together=False, cost=9.0)])
    assert found["cpu"] == {"median": pytest.approx(0.7), "worst": pytest.approx(0.9)}
    assert ratios([row(0, 0.9, 0.9, together=False)]) == {}


def test_rows_are_kept_for_the_code_that_measured_them(tmp_path):
    path = tmp_path / "rows.jsonl"
    KeptRows(path, "one").add({"seed": 0})
    KeptRows(path, "two").add({"seed": 1})
    KeptRows(path, "").add({"seed": 2})  # a changed tree
    with path.open("a") as file:
        file.write('{"seed": 3, "comm')  # killed while writing
    KeptRows(path, "one").add({"seed": 4})
    KeptRows(path, "one").add({"seed": 5})
    assert [row["seed"] for row in KeptRows(path, "one").rows] == [0, 5]
    assert KeptRows(path, "").rows == KeptRows(None, "one").rows == []


def test_a_file_of_rows_becomes_a_table(tmp_path, capsys):
    (tmp_path / "rows").write_text(json.dumps(row(0, 0.9, 0.8)) + "\n")
    assert main([str(tmp_path / "rows")]) == 0
    assert "| p | a | 1 | 90.00% / 80.00% |" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "", "rubbish", "[1]", '{"a": 1}', "3", "[" * 100_000])
def test_what_holds_no_rows_is_refused_in_one_sentence(tmp_path, capsys, text):
    if text is not None:
        (tmp_path / "rows").write_text(text)
    assert main([str(tmp_path / "rows")]) == 2
    assert main([]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
