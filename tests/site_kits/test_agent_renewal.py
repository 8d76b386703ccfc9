"""Certificates at the site: renewed in place, found again when damaged, said when they do not count."""

import logging
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from site_kits.agent import __main__ as command
from site_kits.agent import preflight, renewal
from site_kits.agent.children import Child
from site_kits.agent.enrolment import enrol, stored_identity
from site_kits.agent.fencing import Fence
from site_kits.agent.heartbeat import Heartbeat
from site_kits.agent.leaving import secrets_of
from site_kits.agent.portal import PortalDoor
from site_kits.agent.processes import ChildRecord, HomeLock
from site_kits.agent.renewal import Credentials, Renewer
from site_kits.agent.run import Agent
from site_kits.agent.status import StatusBoard, render_status
from site_kits.site_home import read_state
from tests.site_kits.site_doubles import PIN, SITE, TOKEN, add_cytology, wait_until

DUE = timedelta(seconds=10)  # of which two thirds are over after seven seconds


class Site:
    """An enrolled site without a running agent."""

    def __init__(self, home, portal):
        self.home, self.portal = home, portal
        self.manifest = preflight.load_manifest(home)
        self.door = PortalDoor(portal.url, home.root_ca)
        self.credentials = Credentials(home, self.manifest, enrol(home, self.manifest, self.door, TOKEN, PIN))
        self.board = StatusBoard(home)
        self.client = Child(
            home=home,
            name="client",
            command=lambda: [sys.executable, "-c", "import time; time.sleep(60)"],
            python=Path(sys.executable),
            record=ChildRecord(home),
        )
        children = {"client": self.client, "inference": self.client, "console": self.client}
        stop = threading.Event()
        self.heartbeat = Heartbeat(home, self.credentials, self.door, self.board, children, Fence(home), stop)

    def problems(self):
        return read_state(self.home.status_json).get("problems", {})


@pytest.fixture(autouse=True)
def log_file():
    """The command's handler keeps its file open until the process ends."""
    logger = logging.getLogger("consilium.site")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    for handler in set(logger.handlers) - set(before[0]):
        handler.close()
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture
def site(home, portal):
    made = Site(home, portal)
    yield made
    made.client.held = "the test is over"
    made.client.tick()
    made.door.close()


@pytest.fixture
def due(home, portal, monkeypatch):
    """A site whose certificate is two thirds through its life."""
    portal.lifetime = DUE
    made = Site(home, portal)
    past = renewal.renew_from(made.credentials.current.certificate) - timedelta(seconds=7)
    for module in ("site_kits.agent.renewal", "tests.site_kits.site_doubles"):
        monkeypatch.setattr(
            f"{module}.renew_from", lambda held: past if held.serial_number == first else late
        )
    first = made.credentials.current.certificate.serial_number
    late = past + timedelta(days=60)
    yield made
    made.door.close()


def test_what_is_due_is_renewed_and_the_next_beat_is_signed_with_it(due):
    key, before = due.home.key.read_bytes(), due.credentials.current.serial
    assert Renewer(due.credentials, due.door, due.board, threading.Event()).renew_if_due()
    assert due.heartbeat.beat()
    after = due.credentials.current
    assert after.serial != before
    assert stored_identity(due.home, due.manifest).serial == after.serial
    assert due.home.key.read_bytes() == key
    assert not due.credentials.is_due()
    assert (due.home.certificate.stat().st_mode & 0o777) == 0o600


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "foreign"])
def test_a_damaged_certificate_is_fetched_again(site, damage, authority):
    path, whole = site.home.certificate, site.home.certificate.read_bytes()
    contents = {"cut": whole[: len(whole) // 2], "empty": b"", "foreign": site.home.root_ca.read_bytes()}
    path.unlink()
    if damage != "gone":
        path.write_bytes(contents[damage])
    identity = Agent(site.home)._identity(site.manifest, site.door)
    assert identity.serial == site.credentials.current.serial
    assert path.read_bytes() == whole


def test_a_site_cut_off_between_note_and_file_goes_on_with_the_old_pair(due, monkeypatch):
    """A crash at the one place where there are two certificates."""

    def power_cut(*_arguments, **_more):
        raise KeyboardInterrupt

    keep, calls = renewal.write_bytes, []

    def once(path, data, **more):
        if path == due.home.certificate:
            power_cut()
        calls.append(path)
        keep(path, data, **more)

    monkeypatch.setattr(renewal, "write_bytes", once)
    with pytest.raises(KeyboardInterrupt):
        due.credentials.renew(due.door)
    assert calls
    old = stored_identity(due.home, due.manifest)
    assert old.serial == due.credentials.current.serial
    monkeypatch.setattr(renewal, "write_bytes", keep)
    # the portal gives the same certificate again; with it the file is whole
    due.home.certificate.write_bytes(b"-----BEGIN")
    assert renewal.is_damaged(due.home)
    again = renewal.ask_again(due.home, due.manifest, due.door)
    assert again.serial == read_state(due.home.state / "enrolled.json")["serial"] != old.serial


@pytest.mark.parametrize(
    ("code", "word"), [("revoked", "REVOKED"), ("suspended", "SUSPENDED"), ("expired", "EXPIRED")]
)
def test_a_site_whose_certificate_does_not_count_says_so_and_stops_training(site, code, word):
    site.client.tick()
    process = site.client._process
    assert site.client.state == "running"
    site.portal.barred = code
    assert not site.heartbeat.beat()
    site.client.tick()
    assert process.poll() is not None
    assert site.client.state == "held"
    assert word in site.problems()["standing"]
    site.portal.barred = ""
    assert site.heartbeat.beat()
    site.client.tick()
    assert site.client.state == "running"
    assert "standing" not in site.problems()


def test_leaving_tells_the_portal_and_deletes_every_secret_but_no_data(site, capsys):
    add_cytology(site.home)
    serial = site.credentials.current.serial
    (site.home.root / "secagg").mkdir()
    (site.home.root / "secagg" / "ledger").write_bytes(b"secret")
    (site.home.root / "personal" / "s").mkdir(parents=True)
    (site.home.root / "personal" / "s" / "model").write_bytes(b"model")
    assert command.main(["--home", str(site.home.root), "leave", "--yes", SITE]) == 0
    assert site.portal.left == [serial]
    assert [path for path in secrets_of(site.home) if path.exists()] == []
    assert (site.home.data / "cytology" / "cases.csv").is_file()
    assert (site.home.root / "personal" / "s" / "model").is_file()
    assert "has left" in capsys.readouterr().out
    assert "has left" in (site.home.logs / "agent.log").read_text()
    assert "left the federation on" in render_status(site.home)[0]


def test_models_are_deleted_when_asked_for(site):
    (site.home.root / "personal").mkdir()
    (site.home.root / "artifacts" / "sha256").mkdir(parents=True)
    assert command.main(["--home", str(site.home.root), "leave", "--yes", SITE, "--wipe-models"]) == 0
    assert not (site.home.root / "personal").exists()
    assert not (site.home.root / "artifacts").exists()


@pytest.mark.parametrize("typed", ["", "hospital-b", "HOSPITAL-A"])
def test_without_the_sites_name_nothing_is_changed(site, typed, capsys):
    before = {path: path.read_bytes() for path in site.home.root.rglob("*.*") if path.is_file()}
    assert command.main(["--home", str(site.home.root), "leave", "--yes", typed]) == 2
    assert "Nothing was changed" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert site.portal.left == []


def test_leaving_works_without_the_portal_and_says_what_the_administrator_must_do(site, capsys):
    facts = site.home.site_json.read_text().replace(site.portal.url, "https://localhost:9")
    site.home.site_json.write_text(facts)
    assert command.main(["--home", str(site.home.root), "leave", "--yes", SITE]) == 1
    assert "Ask the administrator to revoke" in capsys.readouterr().out
    assert [path for path in secrets_of(site.home) if path.exists()] == []


def test_a_running_site_must_be_stopped_before_it_leaves(site, capsys):
    code = "import sys, time; from site_kits.agent.processes import HomeLock as L\n"
    code += "from site_kits.site_home import SiteHome; from pathlib import Path\n"
    code += "with L(SiteHome(Path(sys.argv[1]))): time.sleep(30)"
    agent = subprocess.Popen([sys.executable, "-c", code, str(site.home.root)])
    try:
        wait_until(lambda: HomeLock.holder(site.home.state / "agent.lock"))
        assert command.main(["--home", str(site.home.root), "leave", "--yes", SITE]) == 2
        assert "already running" in capsys.readouterr().err
        assert site.home.key.exists()
    finally:
        agent.kill()
        agent.wait()
