import pytest

from platform_web.accounts.models import Role
from tests.platform_web import world


@pytest.fixture
def dana(person):
    return person("dana", Role.DATA_SCIENTIST)


@pytest.fixture
def rows(portal, ann, dana, two_sites, make_site):
    """A world in which site A and site C work together and site B does not take part."""
    c = make_site("site-c")
    return world.build(ann, dana, [two_sites.a, c])
