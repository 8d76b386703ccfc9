import pytest

from tests.secure_agg.cohort import Cohort
from tests.secure_agg.oracle import Oracle


@pytest.fixture
def cohort():
    """Four sites that have agreed on their keys."""
    return Cohort(4)


@pytest.fixture
def watch(monkeypatch):
    """Make the oracle of a cohort; before its first round."""

    def make(names, **settings):
        return Oracle(monkeypatch, names, **settings)

    return make
