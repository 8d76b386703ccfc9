import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pytest

from fl_jobs.catalog import ALGORITHMS, LOOP, MODELS, check_masking, validate_hyper_parameters, validate_model
from fl_jobs.errors import SpecError


def test_defaults_are_filled_in_for_the_kind_of_task():
    values = validate_hyper_parameters("dbe", {}, "tabular")
    assert set(values) == {setting.name for setting in LOOP} | {"kappa", "offset_rate"}
    assert values["batch_size"] == 16


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kappa": -1.0}, "choose a value from"),
        ({"kappa": float("nan")}, "choose a value from"),
        ({"kappa": "much"}, "must be a number"),
        ({"batch_size": 2.5}, "must be a whole number"),
        ({"batch_size": True}, "must be a whole number"),
        ({"mu": 1.0}, "has no setting “mu”"),
    ],
)
def test_a_bad_hyper_parameter_gets_a_sentence(values, words):
    with pytest.raises(SpecError, match=words):
        validate_hyper_parameters("dbe", values)


def test_unknown_names_list_what_there_is():
    with pytest.raises(SpecError, match="dbe"):
        validate_hyper_parameters("fedx", {})
    with pytest.raises(SpecError, match="tabular_mlp"):
        validate_model("resnet", {}, "image")
    with pytest.raises(SpecError, match="image_cnn"):
        validate_model("tabular_mlp", {}, "image")


def test_every_entry_can_be_imported_and_agrees_with_its_server_step():
    for algorithm in ALGORITHMS.values():
        module, _, name = algorithm.path.partition(":")
        fold_module, _, fold = algorithm.fold.partition(":")
        assert getattr(import_module(module), name).fold is getattr(import_module(fold_module), fold)
    for model in MODELS.values():
        module, _, name = model.path.partition(":")
        assert callable(getattr(import_module(module), name))


def test_the_torch_free_floor_loads_no_torch():
    code = (
        "import sys, fl_jobs.catalog, fl_jobs.server_session, fl_jobs.data, fl_jobs.benefit;"
        "import fl_jobs.tensor_files;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_algorithm_that_needs_single_updates_is_refused_under_masks(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "fedavg", replace(ALGORITHMS["fedavg"], needs_updates=True))
    check_masking("fedavg", secure_aggregation=False)
    with pytest.raises(SpecError, match="shows it sums only"):
        check_masking("fedavg", secure_aggregation=True)
