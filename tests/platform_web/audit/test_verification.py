import re

import pytest
from django.db import connection

from compliance.note import Checkpoint, sign
from platform_web.audit import selectors, triggers, verification
from platform_web.audit.models import AuditEvent, AuditHead
from platform_web.audit.verification import verify_all
from tests.platform_web.audit.test_sequencer import YEAR, behind_the_triggers


def test_a_log_that_was_not_touched_is_whole(grown, entries):
    for count in (1, 255, 260, 300):
        grown(count)
    entries(2)
    result = verify_all()
    assert (result.entries, result.verified, result.heads) == (818, 818, 4)
    assert result.is_whole, result.findings


@pytest.mark.parametrize("last", [256, 300, 511, 512, 600])
def test_a_log_of_several_pages_is_read_to_its_end(grown, last, monkeypatch):
    monkeypatch.setattr(verification, "PAGE", 256)
    for size in (3, 256, last):
        if size > AuditEvent.objects.count():
            grown(size - AuditEvent.objects.count())
    result = verify_all()
    assert (result.entries, result.is_whole) == (last, True), result.findings
    behind_the_triggers("DELETE FROM audit_seq WHERE idx = %s", last - 1)
    result = verify_all()
    assert any("entries below the signed head" in one for one in result.findings), result.findings


def test_a_tile_beyond_the_last_page_is_found(grown, monkeypatch):
    monkeypatch.setattr(verification, "PAGE", 256)
    grown(512)
    behind_the_triggers("DELETE FROM audit_seq WHERE idx >= 256")
    behind_the_triggers("DELETE FROM audit_head")
    assert any("there are tiles of entries" in one for one in verify_all().findings)


def test_a_log_without_a_tree_yet_is_whole(entries):
    entries(3)
    assert (verify_all().entries, verify_all().is_whole) == (3, True)


@pytest.mark.parametrize(
    "columns",
    [
        {"act": "kit.issued"},
        {"site": "site-b"},
        {"actor": "user:1"},
        {"ts": "2020-01-01T00:00:00Z"},
        {"leaf_hash": b"\0" * 32},
        {"leaf": b'{"act":"kit.issued"}'},
        {"leaf": b'{"id":"a","ts":"2026-"}'},
        {"leaf": b"rubbish"},
    ],
)
def test_an_entry_altered_behind_the_triggers_is_found(grown, columns):
    grown(3)
    with connection.schema_editor() as editor:
        triggers.drop(editor)
    AuditEvent.objects.filter(pk=AuditEvent.objects.earliest("number").pk).update(**columns)
    result = verify_all()
    assert (result.entries, result.verified, result.is_whole) == (3, 2, False)
    assert bool(result.findings) == ("leaf" in columns)  # then the signed head does not fit either


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "DELETE FROM audit_event WHERE pk = (SELECT event FROM audit_seq WHERE idx = 7)",
            "entry 7 is missing",
        ),
        ("DELETE FROM audit_seq WHERE idx = 299", "the signed head of 300 are missing"),
        ("DELETE FROM audit_tile WHERE n = 0", "tile 0 is not"),
        ("UPDATE audit_tile SET root = (SELECT leaf_hash FROM audit_seq WHERE idx = 1)", "tile 0 is not"),
        ("DELETE FROM audit_seq WHERE idx > 100", "there are tiles of entries that are missing"),
        ("UPDATE audit_head SET note = 'x' WHERE size = 300", "head of 300 does not fit"),
        ("UPDATE audit_seq SET event = 999999 - event", "entry 0 is missing|head of 300 are missing"),
    ],
)
def test_a_tree_altered_behind_the_triggers_is_found(grown, statement, finding):
    grown(300)
    behind_the_triggers(statement)
    result = verify_all()
    assert not result.is_whole
    assert any(re.search(finding, one) for one in result.findings), result.findings


def test_a_place_that_is_not_the_entrys_is_found(grown):
    grown(3)
    behind_the_triggers("UPDATE audit_seq SET leaf_hash = (SELECT leaf_hash FROM audit_event LIMIT 1)")
    result = verify_all()
    assert (result.entries, result.verified) == (3, 1)


def test_a_head_that_the_log_signed_over_other_entries_is_found(grown, signer):
    grown(3)
    origin = selectors.origin_of(YEAR)
    forged = sign(str(Checkpoint(origin, 2, b"\1" * 32)), origin, signer._key)
    AuditHead.objects.create(shard=YEAR, size=2, note=str(forged), created=AuditEvent.objects.first().ts)
    result = verify_all()
    assert result.findings == [f"{origin}: the head of 2 does not fit its entries."]
