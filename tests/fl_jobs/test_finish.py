"""The end of a run at a site: one reading of the test part, by the analysis that the digest covers."""

import json

import pytest
from pydantic import ValidationError

import fl_jobs.site_session.session as site_module
from fl_jobs.aggregation import gather
from fl_jobs.benefit.__main__ import main
from fl_jobs.benefit.evidence import EVIDENCE, read_evidence
from fl_jobs.errors import ModelFileError
from fl_jobs.packaging.spec import AnalysisSpec, RunSpec
from fl_jobs.server_session import ServerSession
from fl_jobs.simulate import run_in_process
from fl_jobs.site_session import SiteSession
from tests.fl_jobs.sites import TABULAR, make_spec, tabular_home, tabular_homes


@pytest.fixture
def asked(monkeypatch):
    """Which parts the sites read, in order."""
    found = []
    real = site_module.load_part
    monkeypatch.setattr(site_module, "load_part", lambda *args: found.append(args[2]) or real(*args))
    return found


def up_to_finish(spec, homes, *, share=True):
    """The sites, and the order that ends the run."""
    server = ServerSession(spec)
    sites = {
        name: SiteSession(spec, run_id="run", site=name, site_home=home, share_site_metrics=share)
        for name, home in homes.items()
    }
    while (order := server.next_order()).name != "finish":
        answers = {name: site.execute(order) for name, site in sites.items()}
        server.fold(order, gather(order, spec, answers))
    return sites, order


def test_the_test_part_is_read_once_however_often_the_answer_is_asked_for(tmp_path, asked):
    homes = tabular_homes(tmp_path)
    sites, order = up_to_finish(make_spec("dbe"), homes)
    assert "test" not in asked
    first = sites["a"].execute(order)
    again, _ = up_to_finish(make_spec("dbe"), homes)  # the site's process was started anew
    assert again["a"].execute(order).metrics == first.metrics
    assert asked.count("test") == 1


def test_another_version_is_another_reading(tmp_path, asked):
    sites, order = up_to_finish(make_spec("dbe"), tabular_homes(tmp_path))
    sites["a"].execute(order)
    order.header["chosen"]["global"] = 1
    sites["a"].execute(order)
    assert asked.count("test") == 2


def test_a_policy_that_changed_is_kept_to_by_a_repeated_answer(tmp_path):
    homes = tabular_homes(tmp_path)
    sites, order = up_to_finish(make_spec("dbe"), homes)
    assert sites["a"].execute(order).metrics["site"]["finish"]["cells"]
    silent, _ = up_to_finish(make_spec("dbe"), homes, share=False)
    assert silent["a"].execute(order).metrics["site"]["finish"]["cells"] is None


def test_an_answer_that_cannot_be_read_stops_the_site(tmp_path):
    sites, order = up_to_finish(make_spec("dbe"), tabular_homes(tmp_path))
    sites["a"].execute(order)
    (path,) = (sites["a"].store.folder / "answers").glob("finish-*.json")
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("{}")
    with pytest.raises(ModelFileError, match="cannot be read"):
        sites["a"].execute(order)


def test_the_report_says_all_figures_of_all_arms(tmp_path):
    finish = run_in_process(make_spec("dbe"), tabular_homes(tmp_path))[-1]
    for report in finish["sites"].values():
        for cell in report["cells"].values():
            assert {
                "accuracy",
                "auroc",
                "macro_f1",
                "ece",
                "ece_bins",
                "sensitivity",
                "low",
                "high",
            } <= cell.keys()
            assert cell["low"] <= cell["balanced_accuracy"] <= cell["high"]
        for difference in report["differences"].values():
            assert difference["margin"] == 0.02
            assert difference["validation"]["error"] > 0


def test_the_analysis_of_the_specification_is_the_one_that_is_used(tmp_path):
    homes = tabular_homes(tmp_path, count=400)
    spec = make_spec("fedavg", rounds=1)
    strict = spec.model_copy(
        update={"analysis": AnalysisSpec(endpoint="accuracy", margin=0.1, minimum_groups=10, specificity=0.5)}
    )
    report = run_in_process(strict, homes)[-1]["sites"]["a"]
    found = report["differences"]["global"]
    assert (found["metric"], found["margin"]) == ("accuracy", 0.1)
    assert found["verdict"] != "cannot be tested here"


def test_a_clear_gain_on_validation_and_test_is_proposed_and_a_clear_loss_is_not(tmp_path):
    """The neighbour's many cases help, unless its labels mean the opposite."""
    analysis = AnalysisSpec(minimum_groups=10)

    def proposal(flip):
        homes = {
            "a": tabular_home(tmp_path / f"a{flip}", 250),
            "b": tabular_home(tmp_path / f"b{flip}", 900, seed=7, flip=flip),
        }
        spec = make_spec("fedavg", rounds=3, learning_rate=0.005, local_epochs=1)
        spec = spec.model_copy(update={"analysis": analysis})
        return run_in_process(spec, homes, run_id=f"r{flip}")[-1]["sites"]["a"]

    assert proposal(flip=False)["proposal"] in ("global", "tuned")
    harmed = proposal(flip=True)
    assert harmed["differences"]["global"]["verdict"] == "harms"
    assert harmed["proposal"] == "local"


def test_the_evidence_stays_at_the_site_and_joins_runs(tmp_path, capsys):
    homes = tabular_homes(tmp_path, count=400)
    files = []
    for seed in (1, 2):
        run_in_process(make_spec("dbe", rounds=1, seed=seed), homes, run_id=f"seed{seed}")
    for home in homes.values():
        files += sorted(home.glob(f"personal/study/dbe/*/{EVIDENCE}"))
    assert len(files) == 6
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert set(read_evidence(files[0]).answers.right_GC) == {"local", "global", "tuned", "personal"}
    assert main([*map(str, files), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sites"].keys() == {"a", "b", "c"}
    assert sum(found["sites"]["a"]["personal"]["groups"].values()) == 80


def test_the_analysis_is_part_of_the_digest_and_frozen():
    spec = make_spec("dbe")
    other = spec.model_copy(update={"analysis": AnalysisSpec(margin=0.03)})
    assert spec.digest() != other.digest()
    with pytest.raises(ValidationError, match="frozen"):
        spec.analysis.margin = 0.5


def test_a_specification_of_the_first_version_keeps_its_digest():
    stored = json.loads(make_spec("dbe").canonical()) | {"version": 1}
    del stored["analysis"]
    old = RunSpec.model_validate_json(json.dumps(stored))
    assert json.loads(old.canonical()) == stored
    with pytest.raises(ValidationError, match="no analysis"):
        RunSpec.model_validate_json(json.dumps(stored | {"analysis": {"margin": 0.1}}))


@pytest.mark.parametrize(
    ("algorithm", "candidate", "found"),
    [
        ("dbe", None, "personal"),
        ("fedavg", None, "global"),
        ("local_only", None, None),
        ("fedavg", "tuned", "tuned"),
    ],
)
def test_the_candidate_is_the_runs_own_algorithm_unless_named(algorithm, candidate, found):
    spec = make_spec(algorithm)
    assert RunSpec(**dict(spec) | {"analysis": AnalysisSpec(candidate=candidate)}).candidate() == found


def test_an_analysis_that_does_not_fit_the_run_is_refused():
    spec = dict(make_spec("fedavg"))
    with pytest.raises(ValidationError, match="trains no arm"):
        RunSpec(**spec | {"analysis": AnalysisSpec(candidate="personal")})
    with pytest.raises(ValidationError, match="not one of the study's labels"):
        RunSpec(**spec | {"analysis": AnalysisSpec(positive=("melanoma",))})


def test_disease_is_the_second_of_two_labels_or_what_the_analysis_names():
    assert make_spec("dbe").positive_places() == (1,)
    three = TABULAR.model_copy(update={"labels": ("nevus", "melanoma", "carcinoma")})
    spec = make_spec("dbe", three)
    assert spec.positive_places() == ()
    named = spec.model_copy(update={"analysis": AnalysisSpec(positive=("melanoma", "carcinoma"))})
    assert named.positive_places() == (1, 2)
