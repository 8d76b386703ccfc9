# ruff: noqa: F811 - pytest takes fixtures by the name of the argument
"""The portal's side of a receipt: the proof that it was kept, and the complaint that it was not."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.test import Client
from django.utils import timezone

from compliance.merkle import is_included, leaf_hash
from compliance.note import Checkpoint, SignedNote, decode_base64, sign
from fl_jobs.approval import site_log
from platform_web.audit import promises, receipts, selectors, standing
from platform_web.audit.errors import UnfitError
from platform_web.audit.models import AuditEvent
from site_kits.agent.portal import PortalRefusedError
from site_kits.site_home import read_state
from tests.platform_web.audit.test_sequencer import behind_the_triggers
from tests.platform_web.audit.test_witnessed_log import witness  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("platform_web.agent_urls")]
_TWO_MINUTES = timedelta(seconds=121)
YEAR = datetime.now(UTC).year


@pytest.fixture
def signing(monkeypatch, signer):
    monkeypatch.setattr("platform_web.audit.receipts.signer", lambda: signer)
    return signer


@pytest.fixture
def late(monkeypatch):
    """From ``late()`` on two minutes and a second have passed for both sides."""
    real_now, real_time = timezone.now, time.time

    def wait():
        monkeypatch.setattr(timezone, "now", lambda: real_now() + _TWO_MINUTES)
        monkeypatch.setattr(time, "time", lambda: real_time() + _TWO_MINUTES.total_seconds())

    return wait


def anchored(witness):
    site_log.record(witness._home.root, "update.sent", run="r", rnd=1, sha256="0" * 64)
    witness.anchor()
    return AuditEvent.objects.filter(act="site.anchored").latest("number")


def problem_of(witness):
    return read_state(witness._home.status_json).get("problems", {}).get("receipts")


def waiting(witness):
    return read_state(witness._home.root / site_log.FOLDER / "receipts.json").get("waiting", [])


def test_a_kept_promise_is_proven_under_the_head_that_the_site_signed(witness, grown, signing, late):
    grown(3)
    assert witness.visit()
    event = anchored(witness)
    assert len(waiting(witness)) == 1
    grown(2)
    assert witness.visit()
    witness.demand()
    assert waiting(witness) == []
    late()
    witness.demand()
    assert problem_of(witness) is None
    head = selectors.latest_head()
    index, proof, leaf = promises.inclusion(
        site="site-a", event_id=str(event.event_id), year=head.shard, size=head.size
    )
    root = Checkpoint.parse(SignedNote.parse(head.note).text).root
    assert is_included(leaf_hash(leaf), index, head.size, proof, root)


def test_a_row_that_vanishes_before_it_has_a_place_is_an_alarm_at_both_ends(witness, grown, signing, late):
    grown(3)
    assert witness.visit()
    event = anchored(witness)
    behind_the_triggers("DELETE FROM audit_event WHERE pk = %s", event.number)
    grown(2)
    assert witness.visit(), "the tree only grew: no witness can see this"
    witness.demand()
    assert problem_of(witness) is None
    assert standing.standing().unkept == 0
    late()
    witness.demand()
    assert "HAS NOT KEPT ITS WORD" in problem_of(witness)
    now = standing.standing()
    assert (now.unkept, now.is_good) == (1, False)
    entry = json.loads(bytes(AuditEvent.objects.get(act="log.promise_missed").leaf))
    assert (entry["site"], entry["obj"][0]["id"]) == ("site-a", str(event.event_id))
    witness.demand()
    assert AuditEvent.objects.filter(act="log.promise_missed").count() == 1


@pytest.mark.urls("platform_web.urls")
def test_the_log_s_page_says_it(witness, entries, grown, signing, late, otto, settings):
    grown(2)
    [lost] = entries(1)
    receipt = str(receipts.receipt_of(lost))
    behind_the_triggers("DELETE FROM audit_event WHERE pk = %s", lost.number)
    late()
    assert promises.complain(site="site-a", receipt=receipt)
    client = Client()
    client.force_login(otto, backend="django.contrib.auth.backends.ModelBackend")
    assert "a signed receipt for 1 entry that is not in this log" in client.get("/audit/").content.decode()


def test_what_is_no_overdue_promise_of_this_log_is_not_taken(grown, entries, signing, late, ann):
    grown(1)
    [event] = entries(1)
    receipt = str(receipts.receipt_of(event))
    with pytest.raises(UnfitError, match="not over yet"):
        promises.complain(site="site-a", receipt=receipt)
    late()
    forged = SignedNote.parse(receipt).text.replace(str(event.event_id), "x")
    other = Ed25519PrivateKey.generate()
    for text in (
        "rubbish",
        str(sign(forged, selectors.origin_of(YEAR), other)),
        receipt.replace('"within_s":60', '"within_s":61'),
        selectors.latest_head().note,
    ):
        with pytest.raises(UnfitError, match="no receipt"):
            promises.complain(site="site-a", receipt=text)
    grown(1)
    assert promises.complain(site="site-a", receipt=receipt) is False, "it is in the log"
    assert not AuditEvent.objects.filter(act="log.promise_missed").exists()


def test_another_site_s_entry_is_not_shown_with_its_proof(witness, grown, entries, signing):
    grown(3)
    assert witness.visit()
    head = selectors.latest_head()
    mine = AuditEvent.objects.filter(site="site-a", seq__idx__lt=head.size).first()
    foreign = AuditEvent.objects.exclude(site="site-a").filter(seq__idx__lt=head.size).first()

    def ask(event, **changes):
        values = {"year": head.shard, "size": head.size} | changes
        query = "&".join(f"{name}={value}" for name, value in values.items())
        signer = witness._credentials.current.signer()
        return json.loads(witness._door.ask(signer, "GET", f"/audit/v1/inclusion/{event.event_id}?{query}"))

    assert decode_base64(ask(mine)["entry"]) == bytes(mine.leaf)
    for event, changes in (
        (foreign, {}),
        (mine, {"size": selectors.place_of(mine).idx}),
        (mine, {"size": head.size + 1000}),
        (mine, {"year": 1999}),
    ):
        with pytest.raises(PortalRefusedError) as refused:
            ask(event, **changes)
        assert refused.value.status == 404
    with pytest.raises(PortalRefusedError) as refused:
        ask(mine, size="x")
    assert refused.value.status == 422
