"""The bench of defaults: what it tries, on what, and what it says of rubbish."""

import json

import pytest

from tests.bench.defaults import main, settings_of

CYTOLOGY = ["--study", "cytology", "--algorithms", "dbe", "--rounds", "1"]


def test_every_try_is_measured_in_every_fold(capsys):
    tries = ["", "kappa=0,learning_rate=0.05"]
    assert main([*CYTOLOGY, "--folds", "2", "--json", *(f"--try={words}" for words in tries)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["try"] for row in rows] == tries * 2
    assert all(0 < row[arm] <= 1 for row in rows for arm in ("local", "global", "tuned", "personal"))
    assert rows[0]["local"] != rows[1]["local"]
    assert rows[0]["local"] != rows[2]["local"]  # another fold


def test_a_table_says_what_was_tried(capsys):
    assert main(CYTOLOGY) == 0
    assert "as it is" in capsys.readouterr().out


def test_words_become_fields_of_the_form():
    found = settings_of("learning_rate=0.001,optimiser=sgd,arg_hidden=64")
    assert found == {"hp_learning_rate": 0.001, "hp_optimiser": "sgd", "arg_hidden": 64}
    assert settings_of("") == {}
    with pytest.raises(SystemExit, match="NAME=VALUE"):
        settings_of("learning_rate")
