"""What a run cost its sites, on the run's page: each person sees the sites they may see."""

import pytest

from platform_web.accounts.models import Role
from platform_web.training import selectors, tasks
from tests.platform_web import world
from tests.platform_web.fake_flare import FakeFlare

COST = {"seconds": 2.0, "bytes_up": 1000.0, "bytes_down": 500.0, "peak_memory_mb": 300.0}


@pytest.fixture
def run(dana, make_site):
    sites = [world.bring_online(make_site(name)) for name in ("site-a", "site-b")]
    run = world.submitted_run(dana, world.open_study(dana), sites)
    flare = FakeFlare()
    flare.lines = [{"kind": "start"}, *(world.round_line(number, ["site-a", "site-b"]) for number in (1, 2))]
    for number, line in enumerate(flare.lines[1:], start=1):
        line["site_metrics"] = {
            "site-a": {"local": {"train_loss": 0.5}, "system": {**COST, "seconds": float(number)}},
            "site-b": None,
        }
    tasks.follow(str(run.pk), flare)
    return run


def test_costs_are_added_over_the_rounds(run, dana):
    (row,) = selectors.footprint_rows(run, dana)
    assert row["site"].name == "site-a"
    assert (row["rounds"], row["seconds"], row["round_seconds"]) == (2, 3.0, 1.5)
    assert (row["bytes_up"], row["bytes_down"], row["peak_memory_mb"]) == (2000, 1000, 300.0)
    assert row["energy_j"] is None  # not every round had it


def test_the_page_shows_it_and_only_sites_that_share(run, client, dana):
    client.force_login(dana)
    page = client.get(f"/runs/{run.pk}/").content.decode()
    assert 'id="footprint"' in page
    assert "2.0" in page


def test_nobody_sees_another_sites_cost(run, person):
    own, other = run.sites.order_by("name")
    assert selectors.footprint_rows(run, person("mallory", Role.SITE_OPERATOR, other)) == []
    assert len(selectors.footprint_rows(run, person("olaf", Role.SITE_OPERATOR, own))) == 1
