# ruff: noqa: F811 - pytest takes fixtures by the name of the argument
"""Somebody with the database alone deletes or changes a row: the next site's visit says so, and the page."""

import json

import pytest

from platform_web.audit import recounting, selectors, standing
from platform_web.audit.errors import UnwitnessedError
from platform_web.audit.models import AuditEvent, AuditSeq
from site_kits.agent import recounting as at_the_site
from site_kits.agent.portal import PortalRefusedError, PortalUnreachableError
from site_kits.site_home import read_state
from tests.platform_web.audit.test_sequencer import YEAR, behind_the_triggers
from tests.platform_web.audit.test_witnessed_log import witness  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("platform_web.agent_urls")]


@pytest.fixture
def signed(entries, sequencer, witness):
    """The site has signed a log of some twenty entries."""
    witness.visit()
    entries(20)
    step(sequencer)
    assert witness.visit()
    return witness


def step(sequencer):
    while sequencer.step():
        pass
    sequencer.checkpoint()


def problem_of(witness):
    return read_state(witness._home.status_json).get("problems", {}).get("stored log")


def number_at(index):
    return AuditSeq.objects.get(shard=YEAR, idx=index).event_id


def test_a_whole_log_gives_no_alarm_also_while_it_grows(signed, entries, sequencer):
    for _ in range(5):
        entries(3)
        sequencer.step()
        signed.recount()
        assert problem_of(signed) is None
    assert standing.standing().altered == []
    assert not AuditEvent.objects.filter(act="log.entry_altered").exists()


def delete(index):
    behind_the_triggers("DELETE FROM audit_event WHERE pk = %s", number_at(index))


def change(index):
    leaf = bytes(AuditEvent.objects.get(pk=number_at(index)).leaf).replace(b'"ok"', b'"no"')
    behind_the_triggers("UPDATE audit_event SET leaf = %s WHERE pk = %s", leaf, number_at(index))


def change_with_its_hash(index):
    change(index)
    digest = recounting.merkle.leaf_hash(bytes(AuditEvent.objects.get(pk=number_at(index)).leaf))
    behind_the_triggers(
        "UPDATE audit_seq SET leaf_hash = %s WHERE shard = %s AND idx = %s", digest, YEAR, index
    )


def delete_with_its_place(index):
    delete(index)
    behind_the_triggers("DELETE FROM audit_seq WHERE shard = %s AND idx = %s", YEAR, index)


@pytest.mark.parametrize("attack", [delete, change, delete_with_its_place])
def test_a_row_that_is_not_as_it_was_is_said_at_both_ends(signed, attack):
    attack(7)
    signed.recount()
    assert "LOST OR CHANGED ENTRIES (number 7)" in problem_of(signed)
    kept = read_state(signed._home.witness / "altered.json")
    assert kept["signed"].startswith(selectors.origin_of(YEAR))
    assert json.loads(kept["answer"])["altered"] == [7]
    assert standing.standing().altered == [f"{YEAR}/7"]
    assert not standing.standing().is_good
    with pytest.raises(UnwitnessedError, match="gone or were changed"):
        standing.require_witnessed()
    signed.recount()
    assert AuditEvent.objects.filter(act="log.entry_altered").count() == 1, "said once"


def test_hashes_changed_along_with_the_bytes_do_not_lead_to_the_signed_head(signed):
    change_with_its_hash(7)
    signed.recount()
    assert "LOST OR CHANGED ENTRIES (it does not say which)" in problem_of(signed)


def test_the_end_of_the_log_cut_off(signed):
    last = selectors.sequenced_size(YEAR) - 1
    delete_with_its_place(last)
    signed.recount()
    assert "LOST OR CHANGED ENTRIES" in problem_of(signed)


def test_what_comes_back_from_a_backup_ends_the_alarm(signed):
    event = AuditEvent.objects.get(pk=number_at(7))
    leaf = bytes(event.leaf)
    change(7)
    signed.recount()
    assert problem_of(signed)
    behind_the_triggers("UPDATE audit_event SET leaf = %s WHERE pk = %s", leaf, event.pk)
    signed.recount()
    assert problem_of(signed) is None
    assert standing.standing().altered == []


class Silent:
    """A portal's door that does not answer in the way of ``error``."""

    def __init__(self, error):
        self.error = error

    def ask(self, *_):
        raise self.error


@pytest.mark.parametrize("status", [401, 429, 503])
def test_no_answer_is_no_alarm(signed, status):
    door = Silent(PortalRefusedError("not now", status=status, code="x"))
    assert at_the_site.recount(signed._home, signed._manifest.federation, door, None) is None


def test_a_door_that_is_gone_is_one(signed):
    door = Silent(PortalRefusedError("no such page", status=404, code="x"))
    assert "LOST OR CHANGED" in at_the_site.recount(signed._home, signed._manifest.federation, door, None)


def test_an_unreachable_portal_accuses_nobody(signed):
    signed._door.ask = Silent(PortalUnreachableError("away")).ask
    signed.recount()
    assert problem_of(signed) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"nodes": [], "proof": []}', '{"nodes": ["x"], "proof": 1}', "[" * 9999]
)
def test_rubbish_proves_nothing(signed, text):
    assert not at_the_site.stands(
        text, 0, at_the_site.files.memory(signed._home, signed._manifest.federation)
    )


@pytest.mark.parametrize(("size", "start"), [(5, 8192), (5, 1), (10**6, 0), (0, 0)])
def test_there_is_no_such_piece(signed, size, start):
    assert recounting.recount(year=YEAR, size=size, start=start) is None
