# ruff: noqa: F811 - pytest takes fixtures by the name of the argument
"""A receipt is kept until its entry is proven; a log that gives one and leaves the entry out is denounced."""

import json
import time

import pytest

from compliance.canonical import canonical_bytes
from compliance.merkle import leaf_hash
from compliance.note import SignedNote, encode_base64, sign
from fl_jobs.approval import site_log
from site_kits.agent import anchoring, receipts, witnessing
from site_kits.agent.doctor.examination import Outcome, Patient, examine
from site_kits.agent.portal import PortalUnreachableError
from site_kits.agent.receipts import overdue
from site_kits.agent.status import render_status
from site_kits.site_home import read_state
from tests.site_kits.test_witnessing import LOCAL, site  # noqa: F401 - a fixture


@pytest.fixture
def clock(monkeypatch):
    """``clock(100)`` lets 100 s pass for the deadlines."""
    real, passed = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + passed[0])

    def wait(seconds):
        passed[0] += seconds

    return wait


def anchored(site, portal):
    """Something happens at the site, and its head goes to the portal."""
    site.witness.visit()
    site_log.record(site.home.root, "update.sent", run="r", rnd=1, sha256="0" * 64)
    site.witness._anchoring._last = -1000.0
    site.witness.anchor()
    assert "site log" not in problems(site)


def visits(site):
    site.witness.visit()
    site.witness.demand()


def problems(site):
    return read_state(site.home.status_json).get("problems", {})


def waiting(site):
    return read_state(site.home.root / site_log.FOLDER / "receipts.json").get("waiting", [])


def test_a_receipt_is_kept_until_the_entry_is_proven_and_then_forgotten(site, portal, clock):
    anchored(site, portal)
    assert len(waiting(site)) == 1
    site.witness.demand()
    assert len(waiting(site)) == 1, "the head that this site signed last is older than the entry"
    visits(site)
    assert waiting(site) == []
    clock(10_000)
    visits(site)
    assert "receipts" not in problems(site)
    assert portal.log.complaints == []


def test_a_log_that_never_includes_the_entry_is_denounced_after_its_time(site, portal, clock):
    portal.log.omits = True
    anchored(site, portal)
    portal.log.log.grown(50)
    visits(site)
    clock(119)
    visits(site)
    assert "receipts" not in problems(site)
    assert overdue(site.home, time.time()) is None
    clock(2)
    portal.log.log.grown(50)
    visits(site)
    assert "HAS NOT KEPT ITS WORD" in problems(site)["receipts"]
    assert "HAS NOT KEPT ITS WORD" in overdue(site.home, time.time())
    [complaint] = portal.log.complaints
    assert SignedNote.parse(complaint).text == SignedNote.parse(waiting(site)[0]["receipt"]).text
    visits(site)
    assert len(portal.log.complaints) == 1, "said once"


def test_operator_and_doctor_hear_of_it_also_after_a_restart(site, portal, clock, monkeypatch):
    portal.log.omits = True
    anchored(site, portal)
    clock(121)
    site.restart()
    visits(site)
    monkeypatch.setattr("site_kits.agent.status._absent", lambda *_: "")
    text, is_good = render_status(site.home)
    assert "HAS NOT KEPT ITS WORD" in text
    assert not is_good
    [found] = [one for one in examine(Patient(site.home), LOCAL) if one.code == "portal_log"]
    assert (found.outcome, "KEPT ITS WORD" in found.sentence) == (Outcome.FAILED, True)


def test_an_entry_that_comes_late_ends_the_alarm(site, portal, clock):
    portal.log.omits = True
    anchored(site, portal)
    clock(200)
    visits(site)
    assert "receipts" in problems(site)
    [(name, (leaf, _index))] = portal.log.leaves.items()
    portal.log.leaves[name] = leaf, portal.log.log.size
    portal.log.log.leaves.append(leaf_hash(leaf))
    visits(site)
    assert "receipts" not in problems(site)
    assert waiting(site) == []


def another_leaf(answer, portal):
    leaf = canonical_bytes({"data": {"note": "x"}, "id": "y"})
    return answer | {"entry": encode_base64(leaf)}


@pytest.mark.parametrize(
    "bend",
    [
        lambda answer, portal: answer | {"index": answer["index"] + 1},
        lambda answer, portal: answer | {"proof": answer["proof"][1:]},
        lambda answer, portal: answer | {"proof": [encode_base64(bytes(32)) for _ in answer["proof"]]},
        another_leaf,
        lambda answer, portal: {},
        lambda answer, portal: [],
        lambda answer, portal: answer | {"entry": 5},
    ],
)
def test_only_a_proof_under_the_head_this_site_signed_counts(site, portal, clock, bend, monkeypatch):
    anchored(site, portal)
    true = portal.log._inclusion
    monkeypatch.setattr(portal.log, "_inclusion", lambda *asked: (200, bend(true(*asked)[1], portal)))
    site.witness.visit()
    clock(200)
    site.witness.demand()
    assert len(waiting(site)) == 1
    assert "receipts" in problems(site)
    monkeypatch.undo()


def test_a_receipt_of_an_older_entry_does_not_pass_for_the_new_one(site, portal, clock):
    """The log signs once more what it promised before, which is in the tree, and omits the new entry."""
    anchored(site, portal)
    visits(site)
    old = str(sign(_text_of(portal.log), portal.log.log.origin, portal.log.log.key)).encode()
    portal.log._receipt = lambda _content: old
    anchored(site, portal)
    visits(site)
    clock(200)
    visits(site)
    assert "receipts" in problems(site)


def _text_of(log):
    [(name, (leaf, _index))] = log.leaves.items()
    promise = {"id": name, "leaf_hash": leaf_hash(leaf).hex(), "ts": "2026-01-01T00:00:00Z"}
    return canonical_bytes(promise | {"index": None, "within_s": 60}).decode() + "\n"


@pytest.mark.parametrize("answer", [b"", b"{}", b"\xff", b"of another key", b"no receipt"])
def test_what_is_no_receipt_of_the_known_log_is_said_and_not_kept(site, portal, clock, answer):
    site.witness.visit()
    log = portal.log.log
    text = {b"of another key": _any_promise(), b"no receipt": "a\nb\n"}.get(answer)
    if text:
        key = log.key if answer == b"no receipt" else type(log)().key
        answer = str(sign(text, log.origin, key)).encode()
    portal.log._receipt = lambda _content: answer
    site_log.record(site.home.root, "update.sent", run="r", rnd=1, sha256="0" * 64)
    site.witness.anchor()
    assert "gave no receipt" in problems(site)["site log"]
    assert waiting(site) == []


def _any_promise():
    promise = {"id": "a", "index": None, "leaf_hash": "b", "ts": "c", "within_s": 60}
    return canonical_bytes(promise).decode() + "\n"


def test_a_portal_that_is_away_is_not_accused(site, portal, clock):
    portal.log.omits = True
    anchored(site, portal)
    clock(500)
    portal_log, portal.log = portal.log, None  # answers 404 to all: that is a refusal, and counts
    site.witness.demand()
    assert "receipts" in problems(site)
    portal.log = portal_log
    site.witness._board.problem("receipts", None)

    def away(*_arguments, **_named):
        raise PortalUnreachableError("away")

    site.door.ask = away
    site.witness.demand()
    assert "receipts" not in problems(site)


def test_a_run_that_starts_and_each_round_are_witnessed_and_anchored_at_once(site, portal, monkeypatch):
    """Without a round the next anchor waits for its minute; short rounds share one."""
    now = [1000.0]
    monkeypatch.setattr(anchoring.time, "monotonic", lambda: now[0])
    site.witness.visit()
    anchors = site.witness._anchoring
    site_log.record(site.home.root, "operator.signed_in")
    assert not anchors.has_new_round()
    site.witness.anchor()
    assert len(portal.log.anchors) == 1
    for act, is_round in (("operator.signed_out", False), ("run.started", True), ("update.sent", True)):
        now[0] += anchoring.ROUND_EVERY_S
        site_log.record(site.home.root, act, run="r" if is_round else "")
        assert anchors.has_new_round() is is_round
        before = len(portal.log.anchors)
        site.witness.anchor()
        assert len(portal.log.anchors) - before == is_round
    now[0] += 1
    site_log.record(site.home.root, "update.sent", run="r", rnd=2)
    assert not anchors.has_new_round(), "too soon"
    now[0] += anchoring.ROUND_EVERY_S
    assert anchors.has_new_round(), "not forgotten"


def test_the_witness_thread_looks_at_once_when_a_round_ends(site, portal, monkeypatch):
    monkeypatch.setattr(witnessing, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(anchoring, "ROUND_EVERY_S", 0.0)
    site_log.record(site.home.root, "operator.signed_in")
    site.witness.start()
    try:
        _until(lambda: len(portal.log.anchors) == 1)
        site.witness._stop_event.wait(0.3)
        portal.log.log.grown(3)
        site_log.record(site.home.root, "update.sent", run="r", rnd=1)
        _until(lambda: len(portal.log.anchors) == 2)
        _until(lambda: len({size for size, _line in portal.log.lines}) >= 2)
    finally:
        site.witness._stop_event.set()
        site.witness.join(10)


def _until(holds):
    for _ in range(100):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("not within 10 s; the next ordinary visit comes after 15 s")


def test_the_file_of_receipts_does_not_grow_for_ever(site, portal, clock, monkeypatch):
    monkeypatch.setattr(receipts, "MOST", 2)
    portal.log.omits = True
    for _ in range(4):
        anchored(site, portal)
    kept = [json.loads(SignedNote.parse(one["receipt"]).text)["id"] for one in waiting(site)]
    assert kept == list(portal.log.leaves)[:2], "the oldest convict"
