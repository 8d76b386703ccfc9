"""Differential privacy in the portal: asked for where it holds, said on the run's page."""

import pytest

from fl_jobs import catalog
from fl_jobs.packaging.spec import PrivacySpec, RunSpec
from fl_jobs.privacy.rules import units_of
from platform_web.training.models import Run, Study
from platform_web.training.services.submitting import draft_spec
from tests.platform_web import world


@pytest.fixture
def form(run_form):
    features = Study.objects.get(slug=run_form["study"]).task_spec().features
    return {**run_form, "algorithm": "fedavg", "privacy_scaling": "\n".join("0 1" for _ in features)}


def test_without_a_tick_a_run_has_no_privacy(scientist, form):
    scientist.post("/runs/add/", form)
    run = Run.objects.get()
    assert run.privacy is None
    assert draft_spec(run).policy.privacy is None


def test_a_private_run_keeps_what_was_asked_for(scientist, form):
    numbers = {"privacy_noise": 2.5, "privacy_rate": 0.2, "privacy_epsilon": 6, "privacy_delta": 1e-6}
    scientist.post("/runs/add/", form | numbers | {"protect_patients": "on"})
    privacy = draft_spec(Run.objects.get()).policy.privacy
    assert (privacy.unit, privacy.noise_multiplier, privacy.clip_norm) == ("record", 2.5, 1.0)
    assert (privacy.sample_rate, privacy.epsilon_max, privacy.delta) == (0.2, 6.0, 1e-6)
    assert set(privacy.scaling) == {(0.0, 1.0)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protect_sites": "on", "protect_patients": "on"}, "Choose one of the two"),
        ({"protect_patients": "on", "algorithm": "dbe"}, "does not hold for"),
        ({"protect_patients": "on", "privacy_scaling": ""}, "public centre and spread"),
        ({"protect_patients": "on", "privacy_scaling": "0 x"}, "Write two numbers per line"),
        ({"protect_patients": "on", "privacy_scaling": "0 1 2"}, "Write two numbers per line"),
        ({"protect_patients": "on", "privacy_scaling": "0 0"}, "Write two numbers per line"),
        ({"protect_patients": "on", "privacy_epsilon": 0.1}, "This run would spend"),
        ({"protect_patients": "on", "hp_class_weights": "balanced"}, "Balanced class weights"),
        ({"protect_patients": "on", "privacy_noise": 0}, "greater than or equal to 0.3"),
        ({"protect_sites": "on", "server_sees_updates": "on"}, "needs secure aggregation"),
        ({"protect_sites": "on", "algorithm": "local_only"}, "no differential privacy to promise"),
    ],
)
def test_what_cannot_be_promised_is_a_sentence(scientist, form, changes, words):
    answer = scientist.post("/runs/add/", form | changes)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protect_patients": "on", "algorithm": "dbe"}, "对 FedAvg + DBE（个性化） 不成立"),
        ({"protect_patients": "on", "privacy_scaling": "0 1"}, "现给出 1 个"),
        ({"protect_patients": "on", "privacy_epsilon": 0.1}, "而上限为 0.1"),
        ({"protect_sites": "on", "server_sees_updates": "on"}, "需要安全聚合"),
    ],
)
def test_a_chinese_reader_is_told_in_chinese(scientist, form, changes, words):
    answer = scientist.post("/runs/add/", form | changes, headers={"Accept-Language": "zh-CN"})
    assert answer.status_code == 422
    assert words in answer.content.decode()


def test_the_option_is_shown_only_for_algorithms_it_holds_for(scientist, form):
    page = scientist.get(f"/runs/add/?study={form['study']}").content.decode()
    patients = [name for name in catalog.ALGORITHMS if "record" in units_of(name)]
    any_unit = [name for name in catalog.ALGORITHMS if units_of(name)]
    assert f'<div data-part="algorithm" data-shown-for="{" ".join(patients)}"><label class="check"' in page
    assert f'<details data-part="algorithm" data-shown-for="{" ".join(any_unit)}">' in page
    assert "local_only" not in any_unit


def private_run(dana, make_site, privacy):
    sites = [world.bring_online(make_site(name)) for name in ("site-a", "site-b", "site-c", "site-d")]
    study = world.open_study(dana)
    if privacy is not None and privacy["unit"] == "record":
        privacy = privacy | {"scaling": ((0.0, 1.0),) * len(study.task_spec().features)}
    asked = None if privacy is None else PrivacySpec(**privacy)
    return world.prepared_run(dana, study, sites, algorithm="fedavg", hyper_parameters={}, privacy=asked)


def page_of(client, run):
    return " ".join(client.get(f"/runs/{run.pk}/").content.decode().split())


def test_the_runs_page_says_epsilon_unit_adjacency_and_delta(scientist, dana, make_site):
    privacy = {"unit": "record", "noise_multiplier": 2.0, "clip_norm": 1.0, "sample_rate": 0.25}
    run = private_run(dana, make_site, privacy | {"epsilon_max": 20.0})
    page = page_of(scientist, run)
    assert "Differential privacy is on." in page
    assert "at δ = 1e-05 for adding or removing one patient" in page
    assert "stay at the sites" in page


def test_four_sites_are_told_what_noise_for_whole_sites_does(scientist, dana, make_site):
    privacy = {"unit": "site", "noise_multiplier": 4.0, "clip_norm": 1.0, "epsilon_max": 20.0}
    page = page_of(scientist, private_run(dana, make_site, privacy))
    assert "one site&#x27;s update" in page
    assert "with 1 of 4 sites" in page
    assert "No useful accuracy is to be expected." in page


def test_a_run_without_privacy_does_not_mention_it(scientist, dana, make_site):
    run = private_run(dana, make_site, None)
    assert 'id="privacy"' not in page_of(scientist, run)
    assert RunSpec.model_validate(run.run_spec().model_dump()).policy.privacy is None
