"""A disk that is full or alters files: the site goes on and says so."""

import errno
import logging
import sys
import threading
from pathlib import Path

import pytest

from site_kits.agent import heartbeat as module
from site_kits.agent import preflight
from site_kits.agent.children import Child
from site_kits.agent.enrolment import enrol
from site_kits.agent.fencing import Fence
from site_kits.agent.heartbeat import Heartbeat, Puller
from site_kits.agent.portal import PortalDoor
from site_kits.agent.processes import ChildRecord
from site_kits.agent.renewal import Credentials
from site_kits.agent.status import StatusBoard
from site_kits.site_home import ServingState, read_state, write_state
from tests.site_kits.site_doubles import PIN, TOKEN, sha256, wait_until

FULL = OSError(errno.ENOSPC, "No space left on device")
SHARED = b"shared part"
ORDER = {
    "promotion": 1,
    "study": "cytology",
    "algorithm": "dbe",
    "run": "0e92ffb3-4721-4287-8db0-f3a8ff197439",
    "run_digest": "ab" * 32,
    "arm": "personal",
    "round": 2,
    "shared_sha256": sha256(SHARED),
    "personal_sha256": "cd" * 32,
    "version_label": "v1",
}


def full_disk(*_arguments):
    raise FULL


@pytest.fixture
def site(home, portal):
    """Door, identity and board of an enrolled site."""
    door = PortalDoor(portal.url, home.root_ca)
    manifest = preflight.load_manifest(home)
    identity = enrol(home, manifest, door, TOKEN, PIN)
    yield door, Credentials(home, manifest, identity), StatusBoard(home)
    door.close()


def child(home):
    command = [sys.executable, "-c", "import time; time.sleep(9)"]
    return Child(
        home=home,
        name="client",
        command=lambda: command,
        python=Path(sys.executable),
        record=ChildRecord(home),
    )


def test_a_full_disk_costs_a_beat_and_not_the_heartbeat(home, portal, site, monkeypatch, caplog):
    door, credentials, board = site
    portal.orders = [ORDER]
    stop = threading.Event()
    children = {"client": child(home), "inference": child(home), "console": child(home)}
    monkeypatch.setattr(module, "INTERVAL_S", 0.05)
    monkeypatch.setattr(module, "LONGEST_INTERVAL_S", 0.05)
    keep = module.write_state
    monkeypatch.setattr(module, "write_state", full_disk)
    beating = Heartbeat(home, credentials, door, board, children, Fence(home), stop)
    with caplog.at_level(logging.INFO, "consilium.site"):
        beating.start()
        wait_until(lambda: len(portal.heartbeats) > 2)
        wait_until(lambda: "No space left" in read_state(home.status_json)["problems"].get("disk", ""))
        monkeypatch.setattr(module, "write_state", keep)
        wait_until(lambda: "disk" not in read_state(home.status_json)["problems"])
    assert beating.is_alive()
    stop.set()
    beating.join(5)
    assert read_state(home.serving_json)["orders"][0]["promotion"] == 1


def test_a_full_disk_does_not_end_what_watches_the_children(home, monkeypatch):
    monkeypatch.setattr("site_kits.agent.processes.write_state", full_disk)
    monkeypatch.setattr("site_kits.agent.status.write_state", full_disk)
    StatusBoard(home).put(site="hospital-a")
    started = child(home)
    started.tick()
    assert started.state == "running"
    started._process.kill()
    started.stopped()


def test_a_child_that_cannot_be_started_is_tried_again(home):
    broken = child(home)
    broken.command = lambda: [str(home.root / "not-there")]
    broken.tick()
    assert broken.state == "backing off"
    assert "cannot be started now" in broken.detail


def test_an_altered_shared_part_is_fetched_again(home, portal, site):
    door, credentials, board = site
    portal.artifacts = {sha256(SHARED): SHARED}
    state = ServingState.model_validate({"orders": [ORDER]})
    write_state(home.serving_json, state.model_dump(mode="json"))
    puller = Puller(home, credentials, door, board, threading.Event())
    path = home.artifact(sha256(SHARED))
    for content in (None, b"shared PART", b"short"):
        if content is not None:
            path.write_bytes(content)
        assert puller.pull_missing()
        assert path.read_bytes() == SHARED
