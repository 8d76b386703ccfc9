"""A log with a signer in the test's own process, and a sequencer that works when it is told to."""

import pytest
from django.db import transaction

from compliance.signer.core import Signer, create
from platform_web.audit import services
from platform_web.audit.sequencer import Sequencer


@pytest.fixture
def signer(tmp_path, settings):
    create(tmp_path / "log-key", f"{settings.CONSILIUM_FEDERATION}/audit")
    signer = Signer(tmp_path / "log-key")
    yield signer
    signer.close()


@pytest.fixture
def sequencer(signer):
    return Sequencer(signer)


@pytest.fixture
def entries(transactional_db):
    """``entries(5)`` writes five, each in a transaction of its own, and returns them."""

    def write(count, **changes):
        written = []
        for number in range(count):
            with transaction.atomic():
                obj = [("site", f"site-{number}", "")]
                written.append(
                    services.record(**{"act": "site.resumed", "site": "site-a", "obj": obj} | changes)
                )
        return written

    return write


@pytest.fixture
def grown(entries, sequencer):
    """``grown(5)`` writes five entries and has them sequenced and signed; returns the head."""

    def grow(count):
        entries(count)
        while sequencer.step():
            pass
        return sequencer.checkpoint()

    return grow
