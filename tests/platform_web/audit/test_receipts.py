"""Receipts of a log whose signer is a process of its own: what they promise, and what its death costs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compliance.merkle import leaf_hash
from compliance.note import Checkpoint, NoteError, SignedNote, verify
from compliance.signer.core import SignerError
from platform_web.audit import receipts, selectors
from platform_web.audit.models import AuditEvent
from platform_web.audit.sequencer import Sequencer
from platform_web.audit.signing import make_key, own_folder, signer
from site_kits.signing import sign_request
from tests.platform_web.protected_acts import at_agents_door
from tests.platform_web.signed import is_problem

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.django_db(transaction=True)


class SignerProcess:
    """``python -m compliance.signer`` in the portal's own folder."""

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "compliance.signer", "--folder", str(own_folder())], cwd=ROOT
        )
        for _ in range(400):
            try:
                signer().state(selectors.origin_of(2026))
            except SignerError:
                time.sleep(0.05)
            else:
                return self
        raise AssertionError("the signer did not start")

    def kill(self, number=signal.SIGKILL):
        os.kill(self.process.pid, number)
        self.process.wait(10)


@pytest.fixture
def running(home):
    make_key()
    signing = SignerProcess().start()
    yield signing
    signing.process.kill()
    signing.process.wait(10)


@pytest.fixture
def ask(site_key, enrolment):
    def send(method, path, body=None):
        path, content = f"/audit/v1/{path}", b"" if body is None else json.dumps(body).encode()
        signed = {"site": "site-a", "serial": enrolment.serial, "method": method, "path": path}
        return at_agents_door(method, path, content, sign_request(site_key, **signed, body=content))

    return send


def sealed():
    sequencer = Sequencer(signer())
    while sequencer.step():
        pass
    return sequencer.checkpoint()


def promise_of(answer):
    """What the receipt says, after its signature was found to be the log's."""
    note = SignedNote.parse(answer.content.decode())
    shard = selectors.current_shard()
    verify(note.text, note.signatures[0], selectors.log_key(shard.year))
    with pytest.raises(NoteError):
        Checkpoint.parse(note.text)
    return json.loads(note.text)


def test_a_receipt_promises_the_entrys_bytes_and_later_names_its_place(running, ask):
    sealed()
    mine = AuditEvent.objects.filter(site="site-a").first()
    place = selectors.place_of(mine)
    first = promise_of(ask("GET", f"receipts/{mine.event_id}"))
    assert first == {
        "id": str(mine.event_id),
        "leaf_hash": leaf_hash(bytes(mine.leaf)).hex(),
        "ts": json.loads(bytes(mine.leaf))["ts"],
        "index": place.idx,
        "within_s": receipts.WITHIN_S,
    }


def test_an_entry_that_waits_has_no_place_yet_and_has_it_when_it_is_sequenced(running, ask, entries):
    sealed()
    [mine] = entries(1)
    assert promise_of(ask("GET", f"receipts/{mine.event_id}"))["index"] is None
    head = sealed()
    assert promise_of(ask("GET", f"receipts/{mine.event_id}"))["index"] == head.size - 1


def test_a_killed_signer_costs_a_receipt_and_no_entry(running, ask, entries):
    sealed()
    [mine] = entries(1)
    running.kill()
    began = time.monotonic()
    assert is_problem(ask("GET", f"receipts/{mine.event_id}"), 503, "no_receipt")
    assert time.monotonic() - began < 5
    with pytest.raises(SignerError):
        sealed()
    assert selectors.place_of(mine) is not None, "places do not wait for the signer"
    running.start()
    head = sealed()
    assert promise_of(ask("GET", f"receipts/{mine.event_id}"))["index"] == head.size - 1


def test_a_signer_that_is_stopped_is_not_waited_for(running, ask):
    sealed()
    mine = AuditEvent.objects.filter(site="site-a").first()
    os.kill(running.process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert is_problem(ask("GET", f"receipts/{mine.event_id}"), 503, "no_receipt")
        assert 1 < time.monotonic() - began < 6, "one deadline of the socket"
    finally:
        os.kill(running.process.pid, signal.SIGCONT)
    assert promise_of(ask("GET", f"receipts/{mine.event_id}"))["id"] == str(mine.event_id)


def test_a_signer_whose_memory_was_put_back_gives_no_second_history(running, ask, entries):
    """The folder's copy of yesterday: it signs on from there, and the portal's head of today is refused."""
    sealed()
    before = (own_folder() / "state.json").read_bytes()
    entries(3)
    head = sealed()
    running.kill(signal.SIGTERM)
    (own_folder() / "state.json").write_bytes(before)
    running.start()
    assert signer().state(selectors.origin_of(head.shard)).size < head.size
    entries(1)
    assert sealed().size > head.size, "the tables are those that were signed, so it goes on"
    running.kill(signal.SIGTERM)
    (own_folder() / "state.json").unlink()
    with pytest.raises(AssertionError, match="did not start"):
        running.start()


def test_no_receipt_before_the_first_checkpoint(running, ask):
    mine = AuditEvent.objects.filter(site="site-a").first()
    assert is_problem(ask("GET", f"receipts/{mine.event_id}"), 503, "no_receipt")
