"""A federation's root, a portal over real TLS and an unpacked kit."""

import pytest

from site_kits.provisioning.ca import create_ca
from tests.site_kits.inference_doubles import Served
from tests.site_kits.site_doubles import Portal, serve_portal, unpack_kit


@pytest.fixture(scope="session")
def authority():
    return create_ca("Test federation")


@pytest.fixture
def portal(authority, tmp_path):
    portal = Portal(*authority)
    server = serve_portal(tmp_path, portal)
    yield portal
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(portal, tmp_path):
    return unpack_kit(tmp_path / "site", portal)


@pytest.fixture
def tabular(home):
    return Served(home, "tabular")


@pytest.fixture
def image(home):
    return Served(home, "image")


@pytest.fixture
def text(home):
    return Served(home, "text")
