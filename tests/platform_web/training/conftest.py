"""A masked run of four sites whose first job has committed three rounds."""

import pytest

from tests.platform_web import world
from tests.platform_web.fake_flare import FakeFlare
from tests.platform_web.training.beats import NAMES


@pytest.fixture
def four_sites(make_site):
    return [world.bring_online(make_site(name)) for name in NAMES]


@pytest.fixture
def masked_run(dana, four_sites):
    return world.submitted_run(dana, world.open_study(dana), four_sites)


@pytest.fixture
def job_of_three_rounds():
    fake = FakeFlare()
    fake.lines = [{"kind": "start", "epoch": 1}, *(world.round_line(n, NAMES) for n in (1, 2, 3))]
    return fake
