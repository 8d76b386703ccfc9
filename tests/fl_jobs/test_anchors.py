"""What the anchors' intervals show, and what they do not."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_jobs import training
from fl_jobs.catalog import ALGORITHMS
from fl_jobs.packaging.spec import ModelSpec
from fl_jobs.simulate import Options, PartitionFolder, Simulation, make_spec
from fl_jobs.training import shuffled
from tests.bench import anchors, kept_rows
from tests.bench.again import drawn
from tests.bench.anchor_cells import DIGITS, LOOP, METHODS
from tests.bench.anchor_start import write_start
from tests.bench.anchor_table import main
from tests.bench.anchors import ratios, shown, verdicts
from tests.bench.authors_ways import WAYS
from tests.bench.kept_rows import KeptRows, processor
from tests.bench.pfllib_driver import Passes, copy_weights
from tests.bench.same_numbers import cut
from tests.fl_jobs.partitions import write_partition
from tests.prove import personalised_anchors


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


def test_rows_survive_a_kill_in_the_middle_of_one(tmp_path):
    path = tmp_path / "rows.jsonl"
    KeptRows(path).add({"seed": 0})
    with path.open("a") as file:
        file.write('{"seed": 3, "cod')  # killed while writing
    KeptRows(path).add({"seed": 4})
    KeptRows(path).add({"seed": 5})
    assert [row["seed"] for row in KeptRows(path).rows] == [0, 5]
    assert KeptRows(None).rows == []


KEPT = {"partition": "digits_a", "algorithm": "FedPer", "seed": 0, "rounds": 50, "peer": "", "code": "c"}


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({}, True),
        ({"code": "older"}, False),
        ({"rounds": 6}, False),
        ({"peer": "d832"}, False),
        ({"seed": 9}, False),
    ],
)
def test_a_kept_row_counts_only_where_it_would_be_measured_again(monkeypatch, change, counts):
    method = next(one for one in METHODS if one.tag == "FedPer")
    monkeypatch.setattr(anchors, "cells", lambda _options: [(Path("digits_a"), method, 0, None)])
    monkeypatch.setattr(anchors, "code_of", lambda _method: "c")
    known = anchors.known_rows([KEPT | change], argparse.Namespace(pfllib=None, rounds=0))
    assert bool(known) == counts


def test_a_repeated_row_says_how_far_the_curves_moved():
    before = {"processor": "x", "curve": [0.1, 0.5], "pfllib_curve": [0.1, 0.4]}
    after = {"processor": "x", "curve": [0.1, 0.52], "pfllib_curve": [0.1, 0.4]}
    change = anchors.moved(before, after)
    assert change == {"same_processor": True, "curve": pytest.approx(0.02), "pfllib_curve": 0.0}


@pytest.mark.parametrize(
    ("between", "declared", "same"),
    [
        ("import json", "{}", "True"),
        ("import fl_jobs.catalog", "{}", "False"),
        ("import json", "{'settings': {'kappa': 2.0}}", "False"),
    ],
)
def test_the_code_behind_a_row_is_what_the_process_loaded_and_took(between, declared, same):
    script = "from tests.bench.kept_rows import loaded_code as code; before = code({})\n"
    script += f"{between}; print(before == code({declared}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == same


def test_another_default_of_what_a_cell_sets_itself_moves_no_digest(monkeypatch):
    files = {kept_rows.CATALOG / "algorithms.py", kept_rows.CATALOG / "templates.py"}
    assert files == kept_rows.DECLARATIONS
    before = kept_rows.loaded_code({})
    true_digest = kept_rows._sha256
    for changed, same in ((files, True), ({kept_rows.CATALOG / "settings.py"}, False)):
        monkeypatch.setattr(kept_rows, "_sha256", lambda p, c=changed: "x" if p in c else true_digest(p))
        assert (kept_rows.loaded_code({}) == before) == same


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


def start_of(tmp_path, name, sizes=(30, 22, 7), **settings):
    """What a run of two rounds on a small partition writes for the other side, and its simulation."""
    source = PartitionFolder(write_partition(tmp_path / "p", sizes=sizes))
    spec = make_spec(
        source, name, ModelSpec(name="image_conv2", arguments=DIGITS),
        rounds=2, seed=5, hyper_parameters=LOOP | settings, only=("personal",),
    )  # fmt: skip
    write_start(spec, source, tmp_path / "start.npz")
    with np.load(tmp_path / "start.npz", allow_pickle=False) as arrays:
        return dict(arrays), Simulation(spec, source, tmp_path / "scratch", Options(stacked="off"))


@pytest.mark.parametrize("name", ["fedper", "fedrep", "dbe", "ditto", "gpfl", "fedcp"])
def test_the_other_side_is_told_the_order_that_training_takes(tmp_path, monkeypatch, name):
    start, simulation = start_of(tmp_path, name, local_epochs=2)
    taken = {site: [] for site in simulation.source.sites}

    def watched(cases, settings, order, device):
        taken[simulation.session.site].append(batches := list(shuffled(cases, settings, order, device)))
        return batches

    monkeypatch.setattr(training, "shuffled", watched)
    list(simulation.rows())
    for number, site in enumerate(simulation.source.sites):
        x = simulation.source.read(site, None).train.x
        told = start[f"orders_{number}"]
        one_round = len(told) - len(taken[site])  # the round PFLlib plays after its last measurement
        assert 0 < one_round <= len(told) // 3
        for places, batches in zip(told, taken[site], strict=False):
            assert np.array_equal(x[places], torch.cat([x_B for x_B, _ in batches]).numpy())


def test_the_other_side_is_told_the_weights_and_the_noise_of_ours(tmp_path, monkeypatch):
    start, simulation = start_of(tmp_path, "fedcp")
    algorithm = simulation.session.models.load("personal", {}, 0).algorithm
    for prefix, modules in {"model": ("base", "head"), "own": ("gate",)}.items():
        held = [p for name in modules for p in algorithm.get_submodule(name).parameters()]
        assert sum(key.startswith(prefix) for key in start) == len(held)
        for number, parameter in enumerate(held):
            assert np.array_equal(start[f"{prefix}_{number}"], parameter.detach().numpy())
    seeds, drawn = [], torch.nn.functional.gumbel_softmax

    def watched(*arguments, **names):
        seeds.append(torch.initial_seed())
        return drawn(*arguments, **names)

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", watched)
    list(simulation.rows())
    told = {int(seed) for number in range(3) for seed in start[f"noise_{number}"][:2]}
    assert set(seeds) == told


def test_the_driver_gives_a_pass_its_order_and_its_noise_and_ends_with_the_orders():
    orders, noise = np.array([[2, 0, 1], [1, 2, 0]]), np.array([7, 8])
    passes = Passes(orders, noise)
    assert len(passes) == 3
    for row, seed in zip(orders, noise, strict=True):
        assert list(passes) == list(row)
        assert torch.initial_seed() == seed
    with pytest.raises(StopIteration):
        iter(passes)


def test_the_driver_takes_weights_only_where_they_fit():
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    start = {f"own_{number}": p.detach().numpy() for number, p in enumerate(one.parameters())}
    copy_weights(start, "own_", [other])
    assert torch.equal(other.weight, one.weight)
    assert torch.equal(other.bias, one.bias)
    with pytest.raises(SystemExit, match="2 arrays own_… were given for 4"):
        copy_weights(start, "own_", [other, one])
    with pytest.raises(SystemExit, match=r"own_0 is \(3, 2\), not \(2, 3\)"):
        copy_weights(start, "own_", [torch.nn.Linear(3, 2)])


def test_a_partition_is_cut_to_whole_batches_and_keeps_its_test_cases(tmp_path):
    source = write_partition(tmp_path / "p", sizes=(30, 22, 41))
    assert cut(source, tmp_path / "cut", 10) == 3 * 9
    for number, count in enumerate((30, 20, 40)):
        name = f"client_{number:02d}.npz"
        with np.load(source / name) as before, np.load(tmp_path / "cut" / name) as after:
            assert np.array_equal(after["x_train"], before["x_train"][:count])
            assert np.array_equal(after["y_train"], before["y_train"][:count])
            assert np.array_equal(after["x_test"], before["x_test"])
    with pytest.raises(SystemExit, match="fewer than 25 training cases"):
        cut(source, tmp_path / "more", 25)


@pytest.mark.parametrize("name", sorted(WAYS))
def test_the_authors_way_differs_from_ours_only_where_it_says_so(tmp_path, monkeypatch, name):
    """Sites of one batch that hardly learn: the table stays, the last batch's mean is that of all cases."""
    module, _, kind = ALGORITHMS[name].path.partition(":")
    settings = {"sizes": (10, 10, 10), "learning_rate": 1e-5}
    _, simulation = start_of(tmp_path, name, **settings)
    ours = [row.train_loss for row in simulation.rows()][1:]
    monkeypatch.setattr(f"{module}.{kind}", WAYS[name])
    _, simulation = start_of(tmp_path / "authors", name, **settings)
    theirs = [row.train_loss for row in simulation.rows()][1:]
    if name == "gpfl":  # contexts: zero in the first round, then the site's own is not divided
        assert all(abs(one - other) > 0.01 for one, other in zip(ours, theirs, strict=True))
    else:
        assert ours == pytest.approx(theirs, abs=0.001)


def test_rows_of_this_processor_are_measured_again_before_others():
    here = {("p", "FedAvg", seed): processor() for seed in range(3)}
    known = {("p", "Local", seed): "another" for seed in range(50)} | here
    assert set(drawn(known, 2)) < set(here)
    assert len(chosen := set(drawn(known, 7))) == 7
    assert set(here) < chosen
    assert set(drawn(here, 6)) == set(here)


def test_a_campaign_that_ended_early_proves_nothing(monkeypatch):
    ended = subprocess.CompletedProcess([], 1, stdout='{"seed": 0}\n', stderr="RuntimeError: no such file")
    monkeypatch.setattr(personalised_anchors.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(RuntimeError, match="ended after 1 rows: RuntimeError: no such file"):
        personalised_anchors.bench("anchors")
