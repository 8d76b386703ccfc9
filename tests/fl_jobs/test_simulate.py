"""The simulator: many sites, partial participation, bounded memory, and the numbers of a real run."""

import csv
from xml.etree import ElementTree

import numpy as np
import pytest

from fl_jobs.errors import SpecError
from fl_jobs.packaging.spec import ModelSpec
from fl_jobs.simulate import Options, PartitionFolder, Simulation, SiteFolders, make_spec, run_in_process
from fl_jobs.simulate.__main__ import main
from tests.fl_jobs.partitions import write_partition
from tests.fl_jobs.sites import TABULAR, tabular_homes
from tests.fl_jobs.sites import make_spec as plain_spec

CONV = ModelSpec(name="image_conv2", arguments={"filters": 4, "kernel": 3, "padding": 1, "feature_dim": 8})
MLP = ModelSpec(name="tabular_mlp", arguments={"hidden": 8, "feature_dim": 4})
SGD = {"optimiser": "sgd", "learning_rate": 0.1, "batch_size": 10, "local_epochs": 1}


def play(source, scratch, *, algorithm="fedavg", model=CONV, rounds=2, seed=3, only=(), **options):
    spec = make_spec(source, algorithm, model, rounds=rounds, seed=seed, hyper_parameters=SGD, only=only)
    simulation = Simulation(spec, source, scratch, Options(**{"stacked": "off"} | options))
    return simulation, list(simulation.rows())


def cells(rows):
    return [(r.round, r.arm, r.validation_accuracy, r.test_accuracy, r.train_loss) for r in rows]


def test_every_round_and_arm_has_a_row_and_learning_shows(tmp_path):
    folder = write_partition(tmp_path / "p", (80, 70, 60), shape=(9,), test=40)
    _, rows = play(PartitionFolder(folder, validation=0.2), tmp_path / "s", model=MLP, rounds=8)
    assert [(r.round, r.arm) for r in rows] == [(n, arm) for n in range(9) for arm in ("local", "global")]
    assert rows[-1].test_accuracy > rows[1].test_accuracy + 0.2
    assert rows[0].train_loss is None
    assert rows[-1].train_loss < rows[2].train_loss


def test_two_plays_of_one_seed_are_equal_to_the_last_bit_and_another_seed_is_not(tmp_path):
    source = PartitionFolder(write_partition(tmp_path / "p"), validation=0.2)
    first = cells(play(source, tmp_path / "a")[1])
    assert cells(play(source, tmp_path / "b")[1]) == first
    assert cells(play(source, tmp_path / "c", seed=4)[1]) != first


@pytest.mark.parametrize("algorithm", ["dbe", "fedper", "ditto"])
def test_parts_on_disk_and_in_memory_give_the_same_numbers(tmp_path, algorithm):
    source = PartitionFolder(write_partition(tmp_path / "p"), validation=0.2)
    in_memory, first = play(source, tmp_path / "a", algorithm=algorithm)
    on_disk, second = play(source, tmp_path / "b", algorithm=algorithm, memory_bytes=0)
    assert cells(first) == cells(second)
    assert in_memory.session.arena.on_disk == 0
    assert on_disk.session.arena.on_disk == 3 * 3  # sites × arms


def test_a_share_of_the_sites_trains_and_the_draw_follows_from_the_seed(tmp_path):
    source = PartitionFolder(write_partition(tmp_path / "p", (12,) * 10))
    simulation, _ = play(source, tmp_path / "s", fraction=0.3, rounds=5)
    drawn = [simulation.sampled(number) for number in range(1, 6)]
    assert all(len(set(sites)) == 3 and list(sites) == sorted(sites) for sites in drawn)
    assert len(set(drawn)) > 1
    again, _ = play(source, tmp_path / "t", fraction=0.3, rounds=5)
    assert [again.sampled(number) for number in range(1, 6)] == drawn


def test_sites_that_were_not_drawn_keep_their_part(tmp_path):
    source = PartitionFolder(write_partition(tmp_path / "p", (12,) * 6))
    simulation, _ = play(source, tmp_path / "s", only=("local",), fraction=0.34, rounds=3)
    ever = {site for number in range(1, 4) for site in simulation.sampled(number)}
    for site in source.sites:
        simulation.session.visit(site)
        assert (simulation.session.arena.read_newest("local", 3) is not None) == (site in ever)


def test_inputs_of_a_partition_are_taken_as_they_are(tmp_path):
    source = PartitionFolder(write_partition(tmp_path / "p"))
    simulation, _ = play(source, tmp_path / "s")
    simulation.session.visit(source.sites[1])
    loaded = simulation.session.models.load("global", {}, 0).algorithm
    x = simulation.session.training_cases.x
    assert loaded.scaler(x) is x


def test_full_participation_gives_the_numbers_of_a_real_run_to_the_last_bit(tmp_path):
    homes = tabular_homes(tmp_path / "real")
    spec = plain_spec("dbe", TABULAR, rounds=3, masked=True)
    records = run_in_process(spec, homes)
    source = SiteFolders(tmp_path / "real", tmp_path / "scratch")
    twin = make_spec(source, "dbe", spec.model, rounds=3, seed=spec.seed)
    rows = list(Simulation(twin, source, tmp_path / "s", Options(stacked="off")).rows())
    rounds = {record["round"]: record for record in records if record["kind"] == "round"}
    for row in rows:
        if row.round:
            assert row.train_loss == rounds[row.round]["cohort"][row.arm]["train_loss"]
    validated = {r["validated"]["round"]: r["validated"]["cohort"] for r in records if r.get("validated")}
    for row in rows:
        if row.round in validated:
            expected = validated[row.round][row.arm]
            assert (row.validation_accuracy, row.validation_loss) == (
                expected["val_accuracy"], expected["val_loss"],
            )  # fmt: skip


def test_the_command_writes_a_table_and_a_plot(tmp_path, capsys):
    folder = write_partition(tmp_path / "p", shape=(9,))
    arguments = ["--rounds", "2", "--seeds", "2", "--algorithm", "fedper", "--arms", "personal"]
    assert main([str(folder), *arguments, "--set", "optimiser=sgd", "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "rounds.csv").open() as handle:
        lines = list(csv.DictReader(handle))
    assert [(x["seed"], x["round"], x["arm"]) for x in lines] == [
        (str(seed), str(number), "personal") for seed in (0, 1) for number in (0, 1, 2)
    ]
    assert all(0 <= float(line["test_accuracy"]) <= 1 for line in lines)
    plot = ElementTree.parse(tmp_path / "out" / "rounds.svg").getroot()
    assert len(plot.findall("{http://www.w3.org/2000/svg}polyline")) == 2  # test and validation
    assert "personal, round 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "kappa"], "is not name=value"),
        (["--set", "nothing=1"], "has no setting “nothing”"),
        (["--fraction", "0"], "choose one above 0"),
        (["--rounds", "0"], "rounds: Input should be greater"),
        (["--algorithm", "magic"], "There is no algorithm “magic”"),
        (["--algorithm", "fedavg", "--arms", "personal"], "has no arm “personal”"),
        (["--model", "image_cnn"], "does not fit tabular tasks"),
        (["--validation", "1"], "choose one from 0 to below 1"),
        (["--validation", "0.99"], "no training case left"),
        (["--every", "0"], "Measure at least"),
        (["--seeds", "0"], "--seeds is 0; choose at least one"),
        (["--algorithm", "[/b] [red]x"], "There is no algorithm “[/b] [red]x”"),
        (["--choose", "3", "--arms", "local"], "Leave --arms out"),
        (["--choose", "3", "--every", "5"], "Leave --every out"),
        (["--choose", "3", "--algorithm", "local_only"], "nothing to choose"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path, capsys, arguments, sentence):
    folder = write_partition(tmp_path / "p", shape=(9,))
    assert main([str(folder), *arguments, "--out", str(tmp_path / "out")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path, capsys):
    folder = write_partition(tmp_path / "p", shape=(9,))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        assert main([str(folder), "--rounds", "1", "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert "--out" in said
        assert "seed" not in said  # said before anything is played


def test_an_unknown_share_is_refused():
    with pytest.raises(SpecError, match="above 0"):
        Options(fraction=1.5)
    assert np.isclose(Options(fraction=1.0).fraction, 1.0)
