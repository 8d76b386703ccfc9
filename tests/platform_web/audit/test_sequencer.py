import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, connections, transaction

from compliance import merkle
from compliance.canonical import canonical_bytes, parse_canonical
from compliance.note import Checkpoint, encode_base64, open_checkpoint
from compliance.signer.core import Signer, SignerError, create
from compliance.signer.door import SignerAwayError, SignerClient
from platform_web.audit import selectors, services, storage, triggers
from platform_web.audit import sequencer as program
from platform_web.audit.models import AuditEvent, AuditHead, AuditSeq, AuditShard, AuditTile
from platform_web.audit.sequencer import RewrittenError, Sequencer

YEAR = datetime.now(UTC).year


def alarms():
    acts = AuditEvent.objects.filter(act="log.alarm").order_by("number")
    return [parse_canonical(bytes(event.leaf))["data"]["reason"] for event in acts]


def behind_the_triggers(statement, *values):
    with connection.schema_editor() as editor:
        triggers.drop(editor)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
    with connection.schema_editor() as editor:
        triggers.create(editor)


def in_the_year(monkeypatch, year):
    moment = datetime(year, 1, 1, 0, 0, 1, tzinfo=UTC)
    monkeypatch.setattr(services.timezone, "now", lambda: moment)


def test_entries_get_their_places_in_order_and_a_signed_head(entries, sequencer):
    written = entries(5)
    assert sequencer.step() == 5
    head = sequencer.checkpoint()
    places = AuditSeq.objects.order_by("idx").values_list("shard", "idx", "event")
    assert list(places) == [(YEAR, at, event.number) for at, event in enumerate(written)]
    checkpoint, _ = open_checkpoint(head.note, selectors.log_key(YEAR))
    leaves = [merkle.leaf_hash(bytes(event.leaf)) for event in written]
    assert checkpoint == Checkpoint(selectors.origin_of(YEAR), 5, merkle.root_hash(leaves))
    assert (sequencer.step(), sequencer.checkpoint()) == (0, None)


def test_every_entry_has_a_proof_and_every_head_begins_with_the_former(grown):
    heads = [grown(count) for count in (1, 2, 254, 3, 300)]
    assert [head.size for head in heads] == [1, 3, 257, 260, 560]
    for place in AuditSeq.objects.order_by("idx")[::37]:
        proof = selectors.proof(place, heads[-1])
        assert proof.leads_to_its_checkpoint(bytes(place.event.leaf))
    roots = [Checkpoint.parse(head.note.partition("\n\n")[0] + "\n").root for head in heads]
    for old, new, first, second in zip(heads, heads[1:], roots, roots[1:], strict=False):
        proof = selectors.consistency(selectors.subtree(YEAR, new.size), old.size)
        assert merkle.is_consistent(old.size, new.size, proof, first, second)
    assert AuditTile.objects.filter(level=0).count() == 2


def test_a_batch_is_bounded(entries, sequencer, monkeypatch):
    monkeypatch.setattr(program, "BATCH", 3)
    entries(7)
    assert [sequencer.step() for _ in range(4)] == [3, 3, 1, 0]


def test_nothing_is_lost_between_places_and_signature(entries, signer, sequencer, monkeypatch):
    """Cut off after the signer signed and before the head was kept."""
    entries(3)
    sequencer.step()
    with monkeypatch.context() as cut:
        cut.setattr(AuditHead.objects, "create", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sequencer.checkpoint()
    assert signer.state(selectors.origin_of(YEAR)).size == 3
    again = Sequencer(signer)
    assert again.checkpoint().size == 3
    entries(2)
    again.step()
    assert again.checkpoint().size == 5


def test_a_signer_that_is_away_leaves_the_log_unsigned_and_says_since_when(
    entries, tmp_path, sequencer, monkeypatch
):
    first = entries(2)[0]
    away = Sequencer(SignerClient(tmp_path / "nobody"))
    with pytest.raises(SignerAwayError):
        away.step()  # the first tree needs the key
    sequencer.step()
    with pytest.raises(SignerAwayError):
        away.checkpoint()
    assert selectors.unsigned_since() is None  # for seconds that is nothing unusual
    monkeypatch.setattr(selectors, "GRACE", timedelta(0))
    assert selectors.unsigned_since() == first.ts
    sequencer.checkpoint()
    assert selectors.unsigned_since() is None
    later = entries(1)[0]
    assert selectors.unsigned_since() == later.ts


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_seq SET leaf_hash = (SELECT leaf_hash FROM audit_seq WHERE idx = 1) WHERE idx = 514",
        "UPDATE audit_tile SET root = (SELECT root FROM audit_tile WHERE n = 1) WHERE n = 0",
        "DELETE FROM audit_seq WHERE idx = 513",
        "DELETE FROM audit_tile WHERE n = 1",
    ],
)
def test_nothing_is_signed_above_tables_that_were_changed(grown, entries, sequencer, statement):
    grown(515)
    behind_the_triggers(statement)
    entries(1)
    with pytest.raises(RewrittenError):
        sequencer._turn()


def test_a_rewritten_database_that_fits_itself_gets_no_signature(grown, entries, signer):
    """The attacker also removes the heads: only the signer still knows."""
    grown(20)
    for table in ("audit_seq", "audit_head", "audit_tile"):
        behind_the_triggers(f"DELETE FROM {table}")
    behind_the_triggers("DELETE FROM audit_event WHERE pk = %s", AuditEvent.objects.earliest("number").number)
    entries(5)
    again = Sequencer(signer)
    again.step()
    with pytest.raises(SignerError, match="does not begin"):
        again.checkpoint()
    assert not AuditHead.objects.exists()


def test_a_database_from_an_older_copy_gets_no_signature(grown, signer, sequencer):
    grown(20)
    behind_the_triggers("DELETE FROM audit_head")
    behind_the_triggers("DELETE FROM audit_seq WHERE idx > 9")
    behind_the_triggers("DELETE FROM audit_event WHERE pk > %s", AuditSeq.objects.latest("idx").event_id)
    with pytest.raises(RewrittenError, match="were signed; the tables have 10"):
        sequencer.checkpoint()


def test_a_signer_with_another_key_is_not_believed(grown, entries, tmp_path, settings):
    grown(2)
    create(tmp_path / "other", f"{settings.CONSILIUM_FEDERATION}/audit")
    other = Sequencer(Signer(tmp_path / "other"))
    entries(1)
    other.step()
    with pytest.raises(SignerError, match="another key"):
        other.checkpoint()
    other._signer.close()


def insert(leaf, event_id):
    with transaction.atomic():
        AuditEvent.objects.create(
            event_id=event_id, leaf=leaf, leaf_hash=b"\0" * 32, ts=datetime.now(UTC), act="x.y", actor=""
        )


def test_bytes_that_no_verifier_could_read_get_no_place_and_an_alarm_once(grown, entries, sequencer):
    grown(1)
    good = parse_canonical(bytes(AuditEvent.objects.get().leaf))
    insert(b"rubbish", uuid4())
    insert(canonical_bytes(good), uuid4())  # a second entry under the id of the first
    insert(canonical_bytes({"id": "1"}), uuid4())
    insert(b" " + canonical_bytes(good | {"id": str(uuid4())}), uuid4())
    for _ in range(3):
        sequencer.step()
    assert alarms() == ["entry"] * 4
    entries(1)
    while sequencer.step():
        pass
    places = AuditSeq.objects.order_by("idx").values_list("event__act", flat=True)
    assert list(places) == ["site.resumed", *["log.alarm"] * 4, "site.resumed"]
    assert sequencer.checkpoint().size == 6


def test_bad_bytes_do_not_hold_up_the_others(entries, sequencer, monkeypatch):
    monkeypatch.setattr(program, "BATCH", 2)
    for _ in range(5):
        insert(b"rubbish", uuid4())
    written = entries(1)[0]
    for _ in range(6):
        sequencer.step()
    assert selectors.place_of(written) is not None


def test_an_entry_gets_one_place(grown):
    grown(2)
    with pytest.raises(IntegrityError), transaction.atomic():
        storage.insert_places(YEAR, 7, [(AuditEvent.objects.first().number, b"1" * 32)])


def test_a_new_year_begins_a_new_tree_that_names_the_last_head(
    grown, entries, sequencer, signer, monkeypatch
):
    in_the_year(monkeypatch, YEAR - 1)
    grown(3)
    entries(2)
    monkeypatch.undo()
    entries(2)
    in_the_year(monkeypatch, YEAR - 1)
    late = entries(1)[0]
    monkeypatch.undo()
    while sequencer.step():
        pass
    head = sequencer.checkpoint()
    assert [shard.year for shard in selectors.shards()] == [YEAR - 1, YEAR]
    last = selectors.latest_head(YEAR - 1)
    assert (last.size, head.shard, head.size) == (5, YEAR, 4)
    leaves = list(selectors.leaves(YEAR, 0, 4))
    opening = parse_canonical(leaves[0])
    root = Checkpoint.parse(last.note.partition("\n\n")[0] + "\n").root
    expected = {"origin": selectors.origin_of(YEAR - 1), "size": 5, "root": encode_base64(root)}
    assert (opening["act"], opening["data"]) == ("log.shard_opened", expected)
    assert leaves[3] == bytes(late.leaf)  # the old tree is closed
    assert Sequencer(signer).step() == 0
    assert AuditSeq.objects.count() == AuditEvent.objects.count() == 9


def test_a_new_year_waits_for_the_signer(grown, entries, signer, sequencer, monkeypatch):
    in_the_year(monkeypatch, YEAR - 1)
    grown(3)
    monkeypatch.undo()
    entries(1)
    with monkeypatch.context() as away:
        away.setattr(signer, "state", lambda _: (_ for _ in ()).throw(SignerAwayError("away")))
        with pytest.raises(SignerAwayError):
            sequencer.step()
    assert not AuditShard.objects.filter(year=YEAR).exists()
    assert sequencer.step() == 1


def run_for(sequencer, until, seconds=8.0):
    """Run the loop in a thread of its own until ``until()``."""
    stop = threading.Event()

    def work():
        try:
            sequencer.run(stop)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        time.sleep(0.05)
    stop.set()
    thread.join()
    assert until()


def test_the_loop_signs_within_a_second_and_says_each_trouble_once(entries, signer, monkeypatch):
    entries(3)
    sequencer = Sequencer(signer)
    run_for(sequencer, lambda: AuditHead.objects.filter(size=3).exists())
    with monkeypatch.context() as away:
        away.setattr(signer, "sign", lambda *_: (_ for _ in ()).throw(SignerAwayError("The signer is away.")))
        entries(1)
        monkeypatch.setattr(program, "TICK_S", 0.05)
        began = time.monotonic()
        run_for(sequencer, lambda: time.monotonic() - began > 2.5)
    assert alarms() == ["away"]
    run_for(sequencer, lambda: selectors.latest_head().size == 5)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the lock beside SQLite")
def test_there_is_one_leader_beside_sqlite(db):
    with storage.leadership() as first, storage.leadership() as second:
        assert (first, second) == (True, False)
    with storage.leadership() as third:
        assert third


def test_the_command_leads_until_it_is_asked_to_end(entries, signer, monkeypatch):
    stop = threading.Event()
    monkeypatch.setattr(Sequencer, "run", lambda self, stop: stop.set())
    program.lead(signer, stop)
    assert stop.is_set()


def test_a_lag_is_an_alarm(entries, sequencer, monkeypatch):
    entries(1)
    monkeypatch.setattr(program, "LAG_S", -1.0)
    sequencer._look_at_lag()
    sequencer._look_at_lag()
    assert alarms() == ["lag"]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="SQLite has one order")
def test_on_sqlite_the_order_is_that_of_the_numbers(entries):
    entries(3)
    numbers = [entry.number for entry in storage.waiting(10)]
    assert numbers == sorted(numbers)
