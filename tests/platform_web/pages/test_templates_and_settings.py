"""The run form: templates fill it, rare settings stand aside, one name may mean two settings."""

import re
from dataclasses import replace

import pytest

from fl_jobs import catalog
from platform_web.federation.models import Dataset
from platform_web.training.models import Run


@pytest.fixture
def form(run_form):
    return {**run_form, "rounds": 3}


PAGE = "/runs/add/?study=breast-cytology"


def value_of(page, field):
    tag = re.search(rf"<input[^>]*name=\"{field}\"[^>]*>", page).group()
    return re.search(r'value="([^"]*)"', tag).group(1)


def test_every_template_is_one_a_run_could_be_made_of():
    for template in catalog.TEMPLATES.values():
        assert template.per_algorithm.keys() <= catalog.ALGORITHMS.keys()
        for algorithm in template.per_algorithm:
            filled = catalog.fill_template(template.name, algorithm)
            catalog.validate_hyper_parameters(algorithm, filled.hyper_parameters, template.kind)
            catalog.validate_model(filled.model, filled.arguments, template.kind)
            catalog.check_masking(algorithm, secure_aggregation=True)
    assert {template.kind for template in catalog.TEMPLATES.values()} == set(catalog.KINDS)


def test_the_form_offers_what_fits_the_study_and_nothing_else(scientist, form):
    page = scientist.get(PAGE).content.decode()
    assert "template=cytology-table--dbe" in page
    assert "template=cytology-table--fedcp" in page
    assert "hotline-intent" not in page


def test_a_template_fills_the_form_and_posting_it_starts_that_run(scientist, form):
    page = scientist.get(f"{PAGE}&template=cytology-table--gpfl").content.decode()
    filled = catalog.fill_template("cytology-table", "gpfl")
    assert '<option value="gpfl" selected>' in page
    assert value_of(page, "rounds") == str(filled.rounds)
    for name, value in filled.hyper_parameters.items():
        if not isinstance(value, str):
            assert float(value_of(page, f"hp_{name}")) == value
    for name, value in filled.arguments.items():
        assert float(value_of(page, f"arg_{name}")) == value
    typed = {name: value_of(page, name) for name in ("rounds", "hp_weight_decay", "arg_hidden")}
    scientist.post("/runs/add/", form | typed | {"algorithm": "gpfl"})
    run = Run.objects.get()
    assert (run.algorithm, run.rounds) == ("gpfl", filled.rounds)
    assert run.hyper_parameters["weight_decay"] == filled.hyper_parameters["weight_decay"]


@pytest.mark.parametrize(
    "name", ["hotline-intent--dbe", "cytology-table--magic", "cytology-table", "x", "--"]
)
def test_a_template_that_is_not_there_is_a_sentence(scientist, form, name):
    answer = scientist.get(f"{PAGE}&template={name}")
    assert answer.status_code == 200
    assert "There is no such template for this study" in answer.content.decode()


def test_rarely_changed_settings_stand_under_advanced(scientist, form):
    page = scientist.get(PAGE).content.decode()
    advanced = page[page.index('<details id="advanced">') :]
    advanced = advanced[: advanced.index("</details>")]
    for name in catalog.RARELY_CHANGED:
        assert f'name="hp_{name}"' in advanced
        assert page.count(f'name="hp_{name}"') == 1
    assert 'name="hp_learning_rate"' not in advanced


def test_an_error_under_advanced_is_seen(scientist, form):
    page = scientist.post("/runs/add/", form | {"algorithm": "dbe", "hp_weight_decay": "7"}).content.decode()
    assert '<details id="advanced" open>' in page


def test_a_setting_that_means_something_else_in_another_algorithm_has_its_own_field(
    scientist, form, monkeypatch
):
    entry = catalog.ALGORITHMS["fedprox"]
    settings = [
        replace(setting, default=0.001, per_kind={}) if setting.name == "learning_rate" else setting
        for setting in entry.hyper_parameters
    ]
    monkeypatch.setitem(catalog.ALGORITHMS, "fedprox", replace(entry, hyper_parameters=tuple(settings)))
    scientist.post("/runs/add/", form | {"algorithm": "fedprox"})
    scientist.post("/runs/add/", form | {"algorithm": "ditto", "hp_learning_rate": "0.5", "seed": 8})
    typed = {"hp_learning_rate--fedprox": "0.25", "hp_learning_rate": "0.5"}
    scientist.post("/runs/add/", form | typed | {"algorithm": "fedprox", "seed": 9})
    rates = {run.seed: run.hyper_parameters["learning_rate"] for run in Run.objects.all()}
    assert rates == {7: 0.001, 8: 0.5, 9: 0.25}


def test_synthetic_data_are_called_so_on_every_page_that_shows_them(scientist, form):
    pages = ("/studies/breast-cytology/", PAGE, "/studies/", "/sites/site-a/")
    for path in pages:
        assert "ynthetic data" not in scientist.get(path).content.decode(), path
    Dataset.objects.filter(site__name="site-a").update(synthetic=True)
    for path in pages:
        assert "ynthetic data" in scientist.get(path).content.decode(), path
