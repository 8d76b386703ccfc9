"""A site that was no part of a run, with a few labelled cases."""

import numpy as np
import pytest

from fl_jobs.aggregation import gather
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.catalog import ALGORITHMS
from fl_jobs.data import load_part
from fl_jobs.errors import SharedStateError, SpecError
from fl_jobs.passport import few_label_curve, main
from fl_jobs.server_session import ServerSession
from fl_jobs.site_session import SiteSession
from fl_jobs.tensor_files import write_tensors
from tests.fl_jobs.model_cases import make_run, make_task, write_checkpoint
from tests.fl_jobs.sites import make_spec, tabular_home, tabular_homes, text_home


@pytest.fixture
def spec():
    return make_spec("dbe", rounds=4, learning_rate=0.03)


@pytest.fixture
def shared(spec, tmp_path):
    """The shared part of a run between other sites."""
    server = ServerSession(spec)
    sites = {
        name: SiteSession(spec, run_id="run", site=name, site_home=home, share_site_metrics=True)
        for name, home in tabular_homes(tmp_path / "others").items()
    }
    while (order := server.next_order()) is not None:
        server.fold(order, gather(order, spec, {name: site.execute(order) for name, site in sites.items()}))
    return server.chosen_shared()["personal"]


@pytest.fixture
def new_site(tmp_path):
    return tabular_home(tmp_path / "new", 90, seed=5)


def parts(spec, home):
    return [
        load_part(home / "data" / "cases", home / "registered", name, spec.study.task)
        for name in ("train", "test")
    ]


def test_the_curve_has_a_point_for_each_number_the_site_can_give(spec, shared, new_site):
    points = few_label_curve(spec, shared, *parts(spec, new_site), counts=(0, 4, 20, 10_000), repeats=2)
    assert [point.k for point in points] == [0, 4, 20]
    assert points[0].local is None
    assert all(0 <= point.personal <= 1 and point.repeats in (1, 2) for point in points)


def test_the_common_model_helps_a_site_without_labels(spec, shared, new_site):
    (nothing,) = few_label_curve(spec, shared, *parts(spec, new_site), counts=(0,))
    assert nothing.personal > 0.7


def test_only_the_personal_part_is_fitted(spec, shared, new_site, monkeypatch):
    seen = []
    monkeypatch.setattr("fl_jobs.passport.predict_probabilities", watch(seen))
    few_label_curve(spec, shared, *parts(spec, new_site), counts=(10,), repeats=1)
    personal, local = seen
    for name, value in shared.items():
        assert np.array_equal(personal[name], value)
        assert not np.array_equal(local[name], value)
    assert np.abs(personal["offset_K"]).max() > 0


def watch(seen):
    from fl_jobs.evaluation import predict_probabilities

    def predict(model, x):
        seen.append({name: value.numpy().copy() for name, value in model.state_dict().items()})
        return predict_probabilities(model, x)

    return predict


def test_the_same_seed_gives_the_same_curve(spec, shared, new_site):
    curves = [few_label_curve(spec, shared, *parts(spec, new_site), counts=(6,), repeats=2) for _ in "ab"]
    assert curves[0] == curves[1]


def test_few_cases_already_show_every_label(spec, shared, new_site):
    from fl_jobs.passport import _draw

    train, _ = parts(spec, new_site)
    for seed in range(5):
        assert set(train.y[_draw(train.y, 2, seed)]) == {0, 1}
        assert len(set(_draw(train.y, 30, seed).tolist())) == 30


def test_a_model_that_does_not_fit_is_refused(spec, shared, new_site):
    with pytest.raises(SharedStateError, match="does not belong to this run"):
        few_label_curve(spec, {"base.x": np.zeros(2, np.float32)}, *parts(spec, new_site))
    with pytest.raises(SpecError, match="shares nothing"):
        few_label_curve(spec, {}, *parts(spec, new_site))


def test_numbers_that_are_not_finite_are_refused(spec, shared, new_site):
    with pytest.raises(SharedStateError, match="not finite"):
        few_label_curve(spec, {n: v * np.nan for n, v in shared.items()}, *parts(spec, new_site), counts=(0,))


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"local_only"}))
def test_every_algorithm_gives_a_new_site_a_curve(new_site, algorithm):
    spec = make_spec(algorithm, rounds=1)
    model = build_algorithm(spec, spec.arms()[-1])
    common = {name: value.numpy().copy() for name, value in model.shared_state().items()}
    points = few_label_curve(spec, common, *parts(spec, new_site), counts=(0, 4), repeats=1)
    assert [point.k for point in points] == [0, 4]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--counts", "-5"], "from 0 up"),
        (["--counts", "5000", "9000"], "Choose smaller --counts"),
        (["--repeats", "0"], "at least once"),
    ],
)
def test_a_table_without_a_row_is_refused(spec, shared, new_site, tmp_path, capsys, arguments, words):
    (tmp_path / "run_spec.json").write_bytes(spec.canonical())
    write_tensors(tmp_path / "shared.safetensors", shared)
    files = ["--spec", str(tmp_path / "run_spec.json"), "--shared", str(tmp_path / "shared.safetensors")]
    assert main(["--home", str(new_site), *files, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_command_prints_the_table(spec, shared, new_site, tmp_path, capsys):
    (tmp_path / "run_spec.json").write_bytes(spec.canonical())
    write_tensors(tmp_path / "shared.safetensors", shared)
    files = ["--spec", str(tmp_path / "run_spec.json"), "--shared", str(tmp_path / "shared.safetensors")]
    assert main(["--home", str(new_site), *files, "--counts", "0", "4", "--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    assert "labelled cases" in printed
    assert printed.count("±") == 3  # personal for 0 and 4 cases, local-only for 4


@pytest.mark.parametrize("broken", ["spec", "shared", "home"])
def test_rubbish_is_refused_with_one_sentence(spec, shared, new_site, tmp_path, capsys, broken):
    (tmp_path / "run_spec.json").write_bytes(b"{}" if broken == "spec" else spec.canonical())
    write_tensors(tmp_path / "shared.safetensors", shared)
    if broken == "shared":
        (tmp_path / "shared.safetensors").write_bytes(b"rubbish")
    home = tmp_path / "nowhere" if broken == "home" else new_site
    files = ["--spec", str(tmp_path / "run_spec.json"), "--shared", str(tmp_path / "shared.safetensors")]
    assert main(["--home", str(home), *files]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_texts_are_read_as_the_model_reads_them_and_weights_come_from_the_site(tmp_path, capsys):
    home = text_home(tmp_path / "new")
    weights = write_checkpoint(home / "weights")
    spec = make_run("text_checkpoint", make_task("text"), tensors=False, weights=weights)
    model = build_algorithm(spec, "global", home / "weights")
    write_tensors(tmp_path / "shared.safetensors", {n: v.numpy() for n, v in model.shared_state().items()})
    (tmp_path / "run_spec.json").write_bytes(spec.canonical())
    files = ["--spec", str(tmp_path / "run_spec.json"), "--shared", str(tmp_path / "shared.safetensors")]
    assert main(["--home", str(home), *files, "--counts", "0", "4", "--repeats", "1"]) == 0
    assert "0.5" in capsys.readouterr().out
