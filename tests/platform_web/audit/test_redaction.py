"""Erasing a body: two people, one an administrator; never below the floor; the tree stays as it is."""

import base64
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import DatabaseError, IntegrityError, connection, transaction

from compliance import verify
from compliance.events import CLASSES, FLOORS
from compliance.note import COSIGNATURE_V1, Checkpoint, SignedNote, cosign, verifier_key
from platform_web.accounts.models import Role
from platform_web.audit import (
    bodies,
    cli,
    exports,
    redaction,
    retention,
    selectors,
    services,
    triggers,
    witnessing,
)
from platform_web.audit.errors import RedactionError
from platform_web.audit.models import AuditBody, AuditEvent, AuditRedaction
from platform_web.audit.verification import verify_all
from platform_web.registry.evidence.log_checks import log_kept
from tests.platform_web.audit.test_sequencer import behind_the_triggers

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime.now(UTC)


@pytest.fixture
def people(ann, otto, person):
    return SimpleNamespace(
        ann=ann, otto=otto, oda=person("oda", Role.AUDITOR), bea=person("bea", Role.ADMINISTRATOR)
    )


@pytest.fixture
def typed(transactional_db, monkeypatch):
    """``typed(act, age)``: an entry so old, with something typed as its body."""

    def write(act="site.suspended", age=timedelta()):
        with monkeypatch.context() as patch, transaction.atomic():
            patch.setattr(services.timezone, "now", lambda: NOW - age)
            return services.record(act=act, site="site-a", body={"reason": "of Mr Zhang, room 4"})

    return write


def erase(people, event, basis="misplaced"):
    asked = redaction.request_redaction(actor=people.otto, event=event, basis=basis)
    redaction.confirm_redaction(actor=people.ann, redaction=asked)
    return asked


def commitment(event):
    return services.envelope_of(event)["body_c"]


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ("ann", "ann", "another person has to confirm"),
        ("otto", "otto", "another person has to confirm"),
        ("otto", "oda", "has to be an administrator"),
    ],
)
def test_it_takes_two_people_and_an_administrator(people, typed, first, second, sentence):
    event = typed()
    asked = redaction.request_redaction(actor=getattr(people, first), event=event, basis="misplaced")
    before = AuditEvent.objects.count()
    with pytest.raises(RedactionError, match=sentence):
        redaction.confirm_redaction(actor=getattr(people, second), redaction=asked)
    assert bodies.body_of(event, commitment(event)) == {"reason": "of Mr Zhang, room 4"}
    assert AuditEvent.objects.count() == before
    asked.refresh_from_db()
    assert (asked.closed_by, asked.confirmed_at) == (None, None)


@pytest.mark.parametrize(("first", "second"), [("otto", "ann"), ("ann", "otto"), ("ann", "bea")])
def test_the_second_person_erases_the_body_and_the_entry_says_who_and_why(people, typed, first, second):
    event = typed()
    one, other = getattr(people, first), getattr(people, second)
    asked = redaction.request_redaction(actor=one, event=event, basis="misplaced")
    redaction.confirm_redaction(actor=other, redaction=asked)
    assert not AuditBody.objects.exists()
    assert bodies.body_of(event, commitment(event)) is None
    entry = json.loads(bytes(AuditEvent.objects.latest("number").leaf))
    assert (entry["act"], entry["actor"]["id"]) == ("log.redacted", str(other.pk))
    assert entry["data"] == {"basis": "misplaced", "requested_by": str(one.pk)}
    assert entry["obj"][0]["id"] == str(event.event_id)
    for again in (redaction.confirm_redaction, redaction.withdraw_redaction):
        with pytest.raises(RedactionError, match="closed already"):
            again(actor=other, redaction=asked)


def test_a_role_that_was_given_beside_another_does_not_count_as_an_administrator(people, typed):
    people.ann.groups.add(people.otto.groups.get())
    asked = redaction.request_redaction(actor=people.otto, event=typed(), basis="misplaced")
    with pytest.raises(RedactionError, match="has to be an administrator"):
        redaction.confirm_redaction(actor=people.ann, redaction=asked)
    assert AuditBody.objects.exists()


def test_what_cannot_be_asked(people, typed):
    event = typed()
    with transaction.atomic():
        plain = services.record(act="site.suspended", site="site-a")
    asked = redaction.request_redaction(actor=people.otto, event=event, basis="misplaced")
    for changes, sentence in (
        ({"event": plain}, "no body"),
        ({"basis": "because"}, "Choose why"),
        ({}, "waits for a second person already"),
    ):
        with pytest.raises(RedactionError, match=sentence):
            redaction.request_redaction(
                **{"actor": people.ann, "event": event, "basis": "misplaced"} | changes
            )
    redaction.withdraw_redaction(actor=people.ann, redaction=asked)
    with pytest.raises(RedactionError, match="closed already"):
        redaction.confirm_redaction(actor=people.ann, redaction=asked)
    assert AuditBody.objects.exists()


def test_when_the_entry_cannot_be_written_nothing_is_erased(people, typed, monkeypatch):
    event = typed()
    asked = redaction.request_redaction(actor=people.otto, event=event, basis="misplaced")

    def full(**_):
        raise IntegrityError("disk full")

    monkeypatch.setattr(services, "record", full)
    with pytest.raises(IntegrityError):
        redaction.confirm_redaction(actor=people.ann, redaction=asked)
    assert AuditBody.objects.exists()
    asked.refresh_from_db()
    assert asked.confirmed_at is None


def test_tree_bundle_and_fsck_are_whole_after_an_erasure(people, typed, grown, tmp_path, monkeypatch):
    """verify.py judges the bundle of before and of after, and the entry's own proof, as verified."""
    monkeypatch.setattr(selectors, "witness_keys", selectors.witness_keys_of_all)
    key = Ed25519PrivateKey.generate()
    name = witnessing.witness_name("site-a")
    witnessing.register_witness(site="site-a", key_text=str(verifier_key(name, key, COSIGNATURE_V1)))
    event = typed()
    for step in ("before", "after"):
        head = grown(3)
        line = str(cosign(SignedNote.parse(head.note).text, name, key, int(NOW.timestamp())))
        witnessing.add_cosignature(site="site-a", size=head.size, line=line)
        text, count = exports.bundle_of(exports.Selection(), head.shard)
        assert count == head.size
        (tmp_path / step).write_text(text)
        (tmp_path / "policy").write_text(str(selectors.witness_policy(head.shard)))
        policy = ["--policy", str(tmp_path / "policy")]
        assert verify.main([str(tmp_path / step), *policy, "--complete"]) == 0
        if step == "before":
            old = head
            erase(people, event)
    assert base64.b64encode(bytes(event.leaf)).decode() in (tmp_path / "after").read_text().split("\n")
    assert "Zhang" not in (tmp_path / "after").read_text()
    assert verify_all().is_whole
    assert (cli.main(["fsck"]), cli.main(["prove", str(event.event_id), "--out", str(tmp_path)])) == (0, 0)
    pair = [str(tmp_path / f"{event.event_id}{end}") for end in (".json", ".tlog-proof")]
    assert verify.main(["--entry", *pair, *policy]) == 0
    root = Checkpoint.parse(SignedNote.parse(old.note).text).root
    assert selectors.subtree(old.shard, old.size)(0, old.size) == root


CASES = [("request.refused", "operation"), ("site.suspended", "processing"), ("model.promoted", "clinical")]


@pytest.mark.parametrize("basis", ["erasure", "expired"])
@pytest.mark.parametrize(("act", "kind"), CASES)
def test_nothing_goes_below_its_floor_but_what_was_misplaced(people, typed, act, kind, basis):
    floor = FLOORS[kind]
    young = typed(act, floor - timedelta(hours=1))
    old = typed(act, floor + timedelta(hours=1))
    with pytest.raises(RedactionError, match="are kept until"):
        redaction.request_redaction(actor=people.otto, event=young, basis=basis)
    erase(people, old, basis)
    erase(people, young, "misplaced")
    assert not AuditBody.objects.exists()
    assert retention.removed_too_early() == retention.Removed(0, 0)


def test_the_floors_are_those_that_the_triggers_were_made_of():
    """Who changes this makes a migration that calls ``triggers.guard_bodies`` again."""
    assert {kind: floor.days for kind, floor in FLOORS.items()} == {
        "operation": 180,
        "processing": 1098,
        "clinical": 2196,
    }
    assert set(CLASSES) == {"request", "person", "witness", "model", "ticket", "policy", "log"}


@pytest.mark.parametrize(("act", "kind"), CASES)
def test_the_database_itself_keeps_a_body_whatever_the_portal_says(people, typed, act, kind):
    """A portal that was taken over writes its own requests: one person, or too early, is refused."""
    young, old = (
        typed(act, FLOORS[kind] - timedelta(hours=1)),
        typed(act, FLOORS[kind] + timedelta(hours=1)),
    )

    def agreed(event, second, basis, **changes):
        AuditRedaction.objects.create(
            **{"event_id": event.event_id, "basis": basis, "requested_by": people.otto}
            | {"closed_by": second, "confirmed_at": NOW}
            | changes
        )

    def is_kept(event):
        try:
            with transaction.atomic():
                AuditBody.objects.filter(event_id=event.event_id).delete()
        except DatabaseError as error:
            return "two people" in str(error)
        return False

    assert is_kept(young)
    assert is_kept(old)
    agreed(old, people.otto, "expired")
    agreed(old, people.ann, "expired", confirmed_at=None, withdrawn_at=NOW)
    assert is_kept(old)
    agreed(young, people.ann, "expired")
    assert is_kept(young)
    agreed(old, people.ann, "expired")
    assert not is_kept(old)
    agreed(young, people.ann, "misplaced")
    assert not is_kept(young)


@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        ("DELETE FROM audit_body", (0, 2)),
        ("DELETE FROM audit_event WHERE pk = (SELECT event FROM audit_seq WHERE idx = 4)", (1, 0)),
        ("DELETE FROM audit_seq WHERE idx = 4", (1, 0)),
        ("DELETE FROM audit_seq WHERE idx > 5", (5, 0)),
    ],
)
def test_what_is_gone_below_its_floor_is_found(people, typed, grown, statement, lost, capsys):
    for age in (timedelta(), timedelta(days=900), timedelta(days=1)):
        last = typed(age=age)
    erase(people, last)
    grown(2)
    assert log_kept(None).holds
    with connection.schema_editor() as editor:
        triggers.unguard_bodies(editor)
    behind_the_triggers(statement)
    with connection.schema_editor() as editor:
        triggers.guard_bodies(editor)
    assert retention.removed_too_early() == retention.Removed(*lost)
    finding = log_kept(None)
    assert (finding.holds, finding.facts["entries"], finding.facts["bodies"]) == (False, *lost)
    assert cli.main(["fsck"]) == 1
    assert "Gone before their time" in capsys.readouterr().out


@pytest.mark.parametrize(("basis", "lost"), [("expired", 1), ("erasure", 1), ("misplaced", 0)])
def test_an_erasure_that_came_too_early_is_found_though_the_log_names_it(people, typed, basis, lost):
    """A portal that was taken over erases and writes the entry, with the guard away."""
    event = typed()
    with connection.schema_editor() as editor:
        triggers.unguard_bodies(editor)
    AuditBody.objects.all().delete()
    with connection.schema_editor() as editor:
        triggers.guard_bodies(editor)
    with transaction.atomic():
        obj, data = [("entry", str(event.event_id), "")], {"basis": basis, "requested_by": "1"}
        services.record(act="log.redacted", actor=people.ann, obj=obj, data=data)
    assert retention.removed_too_early() == retention.Removed(0, lost)


def test_a_missing_guard_is_a_failed_control(typed):
    typed()
    assert log_kept(None).holds
    with connection.schema_editor() as editor:
        triggers.unguard_bodies(editor)
    try:
        assert (log_kept(None).holds, log_kept(None).facts["unguarded"]) == (False, "audit_body")
    finally:
        with connection.schema_editor() as editor:
            triggers.guard_bodies(editor)
