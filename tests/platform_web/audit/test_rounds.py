# ruff: noqa: F811 - pytest takes fixtures by the name of the argument
"""The portal's own rounds: what somebody with the database did is on the page and told to the sites."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.template.loader import render_to_string
from django.utils import timezone

from platform_web.audit import recounting, rounds, selectors, standing, tasks
from platform_web.audit.errors import UnwitnessedError
from platform_web.audit.models import AuditEvent, AuditHead, AuditRound, AuditSeq
from platform_web.audit.sequencer import Sequencer
from site_kits.agent.recounting import portals_own_check
from site_kits.site_home import read_state
from tests.platform_web.audit import test_recounting as attacks
from tests.platform_web.audit.test_sequencer import YEAR, behind_the_triggers, in_the_year
from tests.platform_web.audit.test_witnessed_log import witness  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("platform_web.agent_urls")]


def page():
    return render_to_string("audit/standing.html", {"standing": standing.standing()})


def told(witness):
    witness.visit()
    return read_state(witness._home.status_json).get("problems", {}).get("portal's check")


@pytest.fixture
def small(monkeypatch):
    """Pieces of eight entries, so that a log of forty has some."""
    monkeypatch.setattr(recounting, "PIECE", 8)
    monkeypatch.setattr(rounds, "PIECE", 8)


def test_before_the_first_tick_nothing_is_said(grown, witness):
    grown(3)
    assert rounds.checked() is None
    assert "hashed again" not in page()
    assert told(witness) is None


def test_an_empty_log_is_no_finding(transactional_db):
    assert (rounds.go_on().findings, rounds.go_on().size) == (0, 0)


def test_a_whole_log_is_said_to_be_whole(grown, witness):
    head = grown(20)
    before = timezone.now()
    tasks.check_stored()
    found = rounds.checked()
    assert (found.size, found.findings, found.first) == (head.size, 0, "")
    assert before <= found.since <= found.at
    assert f"Each of the {head.size} stored entries was hashed again" in page()
    assert standing.standing().checked == found
    assert told(witness) is None
    assert AuditRound.objects.count() == 1


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (attacks.delete, "gone or were changed: 7."),
        (attacks.change, "gone or were changed: 7."),
        (attacks.delete_with_its_place, "gone or were changed: 7."),
        (attacks.change_with_its_hash, "from entry 0 on does not lead to the signed head"),
    ],
)
def test_what_was_done_to_a_row_is_said_everywhere(grown, witness, attack, said):
    grown(20)
    rounds.go_on()
    attack(7)
    found = rounds.go_on()
    assert found.findings == 1
    assert said in found.first
    assert 'class="note bad"' in page()
    assert said in page()
    assert "is as it was signed" not in page()
    with pytest.raises(UnwitnessedError, match="gone or were changed"):
        standing.require_witnessed()
    assert "THE PORTAL ITSELF SAYS that 1 pieces" in told(witness)
    rounds.go_on()
    assert AuditEvent.objects.filter(act="log.entry_altered").count() == 1, "said once"


def test_the_end_cut_off_with_its_places_is_found(grown):
    grown(20)
    attacks.delete_with_its_place(selectors.sequenced_size(YEAR) - 1)
    assert rounds.go_on().findings == 1


def test_a_head_in_the_table_that_the_log_did_not_sign_proves_nothing(grown):
    head = grown(20)
    note = head.note.replace("\n\n", "\n\n— somebody AAAA\n", 1).replace("20\n", "19\n", 1)
    behind_the_triggers("UPDATE audit_head SET note = %s WHERE size = %s", note, head.size)
    assert rounds.go_on().findings == 1


def test_what_comes_back_ends_the_alarm(grown, witness):
    grown(20)
    event = AuditEvent.objects.get(pk=attacks.number_at(7))
    attacks.change(7)
    assert rounds.go_on().findings == 1
    behind_the_triggers("UPDATE audit_event SET leaf = %s WHERE pk = %s", event.leaf, event.pk)
    assert rounds.go_on().findings == 0
    assert "hashed again" in page()
    assert told(witness) is None


def test_a_long_log_is_gone_through_in_ticks(grown, small):
    head = grown(40)
    seen = [rounds.go_on(budget_s=0.0) for _ in range(5)]
    assert [one.since is not None for one in seen] == [False, False, False, False, True]
    assert seen[-1].size == head.size
    attacks.delete(20)  # the third piece
    assert [rounds.go_on(budget_s=0.0).findings for _ in range(4)] == [0, 0, 1, 1]
    begun = rounds.go_on(budget_s=0.0)
    assert begun.since > seen[-1].since
    assert begun.findings == 1, "a round later it is still said"


def test_the_newest_piece_is_looked_at_in_every_tick(grown, small):
    grown(40)
    attacks.delete(39)
    assert rounds.go_on(budget_s=0.0).findings == 1


def test_a_piece_that_was_broken_is_looked_at_in_every_tick(grown, small):
    grown(40)
    event = AuditEvent.objects.get(pk=attacks.number_at(3))
    attacks.change(3)
    assert rounds.go_on(budget_s=0.0).findings == 1
    behind_the_triggers("UPDATE audit_event SET leaf = %s WHERE pk = %s", event.leaf, event.pk)
    assert rounds.go_on(budget_s=0.0).findings == 0


def test_many_broken_pieces_are_bounded(grown, small, monkeypatch):
    monkeypatch.setattr(rounds, "MOST_BROKEN", 3)
    grown(40)
    for index in range(0, 40, 8):
        attacks.delete(index)
    assert rounds.go_on().findings == 3
    assert AuditEvent.objects.filter(act="log.entry_altered").count() == 5


def test_a_log_with_an_altered_last_piece_comes_to_rest(grown, entries, sequencer, witness):
    """Each site and tick sees a longer piece once the alarm itself is an entry; it is written once."""
    grown(20)
    attacks.delete(7)
    for _ in range(4):
        rounds.go_on()
        witness.visit()
        witness.recount()
        while sequencer.step():
            pass
        sequencer.checkpoint()
    assert AuditEvent.objects.filter(act="log.entry_altered").count() == 1


def test_what_was_altered_behind_the_first_find_is_named_too(grown):
    grown(20)
    attacks.delete(7)
    rounds.go_on()
    grown(5)
    attacks.delete(22)
    assert standing.standing().altered == [f"{YEAR}/7", f"{YEAR}/22"]


def test_no_alarm_while_entries_are_written_and_sequenced(grown, entries, signer):
    """The sequencer works in another thread all the while."""
    if connection.vendor == "sqlite":
        pytest.skip("the tests' database is in memory: one connection")
    grown(300)
    stop = threading.Event()

    def work():
        try:
            Sequencer(signer).run(stop)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            entries(15)
            assert rounds.go_on().findings == 0
    finally:
        stop.set()
        thread.join(30)
    assert AuditHead.objects.count() > 1
    last = Sequencer(signer)  # a stop does not wait for what was written last to be signed
    last.step()
    last.checkpoint()
    assert rounds.go_on().size == AuditSeq.objects.count()
    assert not AuditEvent.objects.filter(act="log.entry_altered").exists()


def test_a_row_of_a_former_year(grown, entries, sequencer, monkeypatch):
    with monkeypatch.context() as then:
        in_the_year(then, YEAR - 1)
        grown(12)
    grown(5)
    assert (rounds.go_on().findings, rounds.go_on().size) == (0, 12 + 1 + 5)
    old = AuditSeq.objects.get(shard=YEAR - 1, idx=3)
    behind_the_triggers("DELETE FROM audit_event WHERE pk = %s", old.event_id)
    found = rounds.go_on()
    assert (found.findings, found.first) == (
        1,
        f"In the log of {YEAR - 1} these entries are gone or were changed: 3.",
    )


def test_a_portal_that_lies_is_not_found_out_by_asking_it(grown, witness):
    """What it answered before the row went fits for ever: see docs/audit-log.md for who finds that."""
    witness.visit()
    grown(20)
    witness.visit()
    honest, answers = witness._door.ask, {}
    witness._door.ask = lambda signer, method, path, body=b"": answers.setdefault(
        path, honest(signer, method, path, body)
    )
    witness.recount()
    attacks.delete(7)
    witness._door.ask = lambda _signer, _method, path, _body=b"": answers[path]
    witness.recount()
    assert attacks.problem_of(witness) is None
    witness._door.ask = honest
    witness.recount()
    assert "number 7" in attacks.problem_of(witness)


def test_ticks_that_stay_away_are_said(grown, witness):
    grown(3)
    rounds.go_on()
    AuditRound.objects.update(checked=timezone.now() - timedelta(minutes=11))
    assert "are beat and worker running?" in page()
    assert not standing.standing().is_good
    assert "has not checked its stored log since" in told(witness)


@pytest.mark.parametrize("said", [None, [], "x", 3])
def test_a_portal_that_does_not_say(said):
    assert portals_own_check(said, 0.0) is None


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"checked": "now", "findings": 0},
        {"checked": 1e9, "findings": 0},
        {"checked": 10**30, "findings": 1},
    ],
)
def test_rubbish_of_the_portal(said):
    assert "not of this version" in portals_own_check(said, 0.0)
