"""Choosing an arm by folds: what each fold reads, that the answer is repeatable, and what is refused."""

import json
from collections import Counter

import pytest

from fl_jobs.data import read_registration
from fl_jobs.errors import DataError, SpecError
from fl_jobs.packaging.spec import ModelSpec
from fl_jobs.simulate import SiteFolders, make_spec
from fl_jobs.simulate.__main__ import main
from fl_jobs.simulate.folds import KEPT, choose_by_simulation, fold_homes
from fl_jobs.simulate.simulation import as_run
from tests.fl_jobs.partitions import write_partition
from tests.fl_jobs.sites import tabular_homes

MLP = ModelSpec(name="tabular_mlp", arguments={"hidden": 8, "feature_dim": 4})


@pytest.fixture
def source(tmp_path):
    tabular_homes(tmp_path / "homes", ("a", "b", "c"))
    return SiteFolders(tmp_path / "homes", tmp_path / "scratch")


def specs_of(source, *seeds, algorithm="fedper"):
    return [as_run(make_spec(source, algorithm, MLP, rounds=2, seed=seed)) for seed in seeds]


def test_every_row_is_held_out_once_and_no_fold_reads_the_test_part(source, tmp_path):
    folds = list(fold_homes(source, "simulated", 4, tmp_path / "folds"))
    for site in source.sites:
        name = source.folders[site].name
        known = read_registration(source.registered(site), name)
        parts = [read_registration(homes[site] / "registered", name).parts for homes in folds]
        for row, part in enumerate(known.parts):
            found = Counter(fold[row] for fold in parts)
            once = Counter({"test": 1, "validation": 1, "train": 2})
            assert found == (Counter({KEPT: 4}) if part == "test" else once)


def test_the_choice_is_repeatable_and_another_seed_is_averaged_in(source, tmp_path):
    one = choose_by_simulation(source, specs_of(source, 1), 3, tmp_path / "1")
    again = choose_by_simulation(source, specs_of(source, 1), 3, tmp_path / "2")
    both = choose_by_simulation(source, specs_of(source, 1, 2), 3, tmp_path / "3")
    assert one == again
    assert one != both
    for choice in both.values():
        assert choice.gains.keys() == choice.pooled.keys() == {"global", "personal", "tuned"}
        best = max(choice.gains.values(), key=lambda gain: gain.value)
        assert (choice.arm == "local") == (best.value <= best.error)


@pytest.mark.parametrize(
    ("folds", "error", "words"), [(2, SpecError, "--choose 3"), (500, DataError, "fewer")]
)
def test_too_few_or_too_many_folds_are_refused(source, tmp_path, folds, error, words):
    with pytest.raises(error, match=words):
        choose_by_simulation(source, specs_of(source, 1), folds, tmp_path / "f")


def test_the_command_writes_the_choice(source, tmp_path, capsys):
    arguments = ["--algorithm", "fedper", "--rounds", "2", "--choose", "3", "--out", str(tmp_path / "out")]
    assert main([str(tmp_path / "homes"), *arguments]) == 0
    found = json.loads((tmp_path / "out" / "choice.json").read_text())
    assert found.keys() == {"a", "b", "c"}
    assert "P(gain)" in capsys.readouterr().err


def test_the_command_refuses_a_partition(tmp_path, capsys):
    write_partition(tmp_path / "p")
    assert main([str(tmp_path / "p"), "--choose", "3", "--out", str(tmp_path / "out")]) == 2
    assert "no patients" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
