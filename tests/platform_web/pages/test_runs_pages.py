import dataclasses
import re

import pytest

from fl_jobs import catalog
from platform_web.audit.models import AuditEvent
from platform_web.outbox.models import Task
from platform_web.registry.models import Promotion, SiteModel
from platform_web.training.models import Run, RunApproval, Study
from tests.platform_web import world

STUDY = {
    "slug": "cells",
    "title": "Cells",
    "purpose": "Tell cells apart.",
    "dataset": "cytology",
    "kind": "tabular",
    "labels": "benign\nmalignant",
    "features": "radius\ntexture",
    "channels": 3,
    "height": 64,
    "width": 64,
    "teaching": "on",
}


@pytest.fixture
def form(run_form):
    return {**run_form, "algorithm": "dbe"}


def test_a_study_is_opened_from_its_form(scientist):
    assert scientist.post("/studies/add/", STUDY).url == "/studies/cells/"
    assert Study.objects.get().task_spec().features == ("radius", "texture")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slug": "Cells!"}, "small letters, digits and hyphens"),
        ({"slug": "../../etc"}, "small letters, digits and hyphens"),
        ({"slug": "add"}, "is a page of the portal itself"),
        ({"labels": "benign\n" + "x" * 201}, "at most 200 printable characters"),
        ({"labels": "benign\nmalig\x07nant"}, "at most 200 printable characters"),
        ({"labels": "benign"}, "between 2 and 200 labels"),
        ({"labels": "benign\nbenign"}, "stands there twice"),
        ({"features": ""}, "write one feature per line"),
        ({"kind": "sound"}, "Select a valid choice"),
        ({"kind": "image", "height": 50000}, "less than or equal to 1024"),
        ({"title": ""}, "This field is required"),
    ],
)
def test_a_study_that_cannot_be_is_a_sentence(scientist, changes, words):
    answer = scientist.post("/studies/add/", STUDY | changes)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Study.objects.exists()


def test_a_run_starts_with_the_defaults_of_the_catalog(scientist, form):
    answer = scientist.post("/runs/add/", form)
    run = Run.objects.get()
    assert answer.url == f"/runs/{run.pk}/"
    assert run.hyper_parameters["local_epochs"] == 2  # tuned for tables
    assert set(run.sites.values_list("name", flat=True)) == set(form["sites"])


def test_a_run_is_masked_unless_the_scientist_ticks_the_box(scientist, form):
    scientist.post("/runs/add/", form)
    scientist.post(
        "/runs/add/", form | {"server_sees_updates": "on", "min_sites": 2, "sites": form["sites"][:2]}
    )
    assert list(Run.objects.order_by("created").values_list("server_sees_updates", flat=True)) == [
        False,
        True,
    ]


def test_an_algorithm_that_needs_masks_is_refused_without(scientist, form, monkeypatch):
    needing = dataclasses.replace(catalog.ALGORITHMS["dbe"], needs_masking=True)
    monkeypatch.setitem(catalog.ALGORITHMS, "dbe", needing)
    answer = scientist.post("/runs/add/", form | {"server_sees_updates": "on"})
    assert "sends personal parts inside masked sums only" in answer.content.decode()
    assert not Run.objects.exists()


def test_the_form_brings_a_seed_of_its_own_and_says_what_three_sites_mean(scientist, form):
    pages = [scientist.get("/runs/add/?study=breast-cytology").content.decode() for _ in range(2)]
    seeds = {re.search(r'name="seed" value="(\d+)"', page).group(1) for page in pages}
    assert len(seeds) == 2
    assert "Four sites tolerate one dropout." in pages[0]


def test_only_settings_of_the_chosen_algorithm_count(scientist, form):
    scientist.post("/runs/add/", form | {"algorithm": "fedavg", "hp_kappa": "5", "hp_learning_rate": "0.01"})
    found = Run.objects.get().hyper_parameters
    assert found.keys() == {setting.name for setting in catalog.LOOP}
    assert (found["learning_rate"], found["batch_size"], found["local_epochs"]) == (0.01, 16, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sites": ["site-a", "site-b", "nowhere"]}, "There is no site called “nowhere”"),
        ({"sites": ["site-a", "site-b"]}, "each could work out the other"),
        ({"sites": ["site-a", "site-b"], "server_sees_updates": "on"}, "only 2 were chosen"),
        ({"min_sites": 2}, "a round needs at least 3 sites"),
        ({"sites": []}, "Choose the sites that take part"),
        ({"hp_learning_rate": "7"}, "less than or equal to 1.0"),
        ({"hp_batch_size": "many"}, "Enter a whole number"),
        ({"algorithm": "magic"}, "does not fit this study"),
        ({"model": "image_cnn"}, "does not fit this study"),
        ({"rounds": 0}, "greater than or equal to 1"),
        ({"rounds": 10**9}, "less than or equal to 1000"),
        ({"rounds": "9" * 5000}, "Enter a whole number"),
        ({"hp_learning_rate": "nan"}, "Enter a number"),
        ({"min_sites": 1}, "greater than or equal to 2"),
        ({"study": "nothing"}, "There is no study called"),
    ],
)
def test_a_run_that_cannot_be_is_a_sentence_and_changes_nothing(scientist, form, changes, words):
    before = AuditEvent.objects.count()
    answer = scientist.post("/runs/add/", form | changes)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert (Run.objects.count(), Task.objects.count(), AuditEvent.objects.count()) == (0, 0, before)


def test_the_form_shows_bounds_and_help_of_every_setting(scientist, form):
    page = scientist.get("/runs/add/?study=breast-cytology&algorithm=fedavg").content.decode()
    assert 'name="hp_kappa"' in page
    assert "Step size of the optimiser in every arm." in page
    assert '<option value="fedavg" selected>' in page


def test_data_json_has_what_a_reader_needs(client, dana, rows):
    client.force_login(dana)
    answer = client.get(f"/runs/{rows.done.pk}/data.json").json()
    assert (answer["state"], len(answer["rounds"]), len(answer["versions"])) == ("COMPLETED", 10, 4)
    assert answer["rounds"][0]["number"] == 1
    model = answer["versions"][-1]["site_models"][0]
    assert set(model) >= {
        "id",
        "site",
        "arm",
        "personal_sha256",
        "cells",
        "difference",
        "proposal",
        "promoted",
    }


def test_the_run_page_says_what_the_server_sees_and_what_is_proven(client, dana, rows):
    client.force_login(dana)
    page = client.get(f"/runs/{rows.done.pk}/").content.decode()
    for words in (
        "The server sees each site",
        "Teaching study.",
        "no proven difference",
        "helps",
        "in use",
        "proposed",
    ):
        assert words in page
    assert "Promote" not in page


def test_only_a_run_that_ended_reloads_its_page(client, dana, rows):
    client.force_login(dana)
    assert "HX-Refresh" not in client.get(f"/runs/{rows.running.pk}/live/")
    assert client.get(f"/runs/{rows.done.pk}/live/")["HX-Refresh"] == "true"


def test_promoting_against_the_proposal_needs_a_reason(client, ann, rows):
    client.force_login(ann)
    model = SiteModel.objects.get(version__run=rows.done, site__name="site-a", version__arm="global")
    answer = client.post(f"/site-models/{model.pk}/promote/", {"reason": ""}, follow=True)
    assert "Type the reason for choosing it" in answer.content.decode()
    assert not Promotion.objects.filter(site_model=model).exists()
    client.post(f"/site-models/{model.pk}/promote/", {"reason": "Asked for by the board."})
    assert Promotion.objects.filter(site_model=model, withdrawn=None).exists()


def test_verifying_the_log_counts_every_entry_and_is_one(client, otto, rows):
    client.force_login(otto)
    before = AuditEvent.objects.count()
    answer = client.post("/audit/verify/").json()
    assert answer["entries"] == answer["verified"] == before + 1  # the entry that says who began to read
    assert AuditEvent.objects.filter(act="log.verified").count() == 1


def test_the_page_shows_who_is_waited_for_and_starts_with_those_who_approved(scientist, dana, make_site):
    sites = [world.bring_online(make_site(name)) for name in ("site-a", "site-b", "site-c", "site-d")]
    run = world.asked_run(dana, world.open_study(dana), sites)
    world.approve(run, sites[:3])
    page = scientist.get(f"/runs/{run.pk}/").content.decode()
    assert page.count("pill good") >= 3
    assert "not decided yet" in page
    assert scientist.get(f"/runs/{run.pk}/data.json").json()["approvals"]["site-d"] == "WAITING"
    scientist.post(f"/runs/{run.pk}/start-with-approved/")
    run.refresh_from_db()
    assert run.state == Run.State.PREPARING
    sites[3].heartbeat |= {"refusals": [{"run": str(run.pk), "sentence": "The job holds 'custom'."}]}
    sites[3].save()
    assert "The job holds" in scientist.get(f"/runs/{run.pk}/live/").content.decode()


def test_when_all_have_decided_nobody_is_waited_for(scientist, dana, make_site):
    sites = [world.bring_online(make_site(name)) for name in ("site-a", "site-b", "site-c")]
    run = world.asked_run(dana, world.open_study(dana), sites)
    RunApproval.objects.filter(run=run).update(state="APPROVED")  # the worker has not started it yet
    page = scientist.get(f"/runs/{run.pk}/").content.decode()
    assert "Every site has decided; the run is about to start." in page
    assert 'id="start-with-approved"' not in page
    assert "of the model" in page
    assert "the own figures of sites that share them" in page
