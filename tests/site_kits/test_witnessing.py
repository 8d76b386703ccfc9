"""A site as a witness: what it signs, what it keeps, what its operator reads."""

import stat
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.evidence_file import Evidence
from compliance.note import SignedNote, cosign, verifier_key, verify
from site_kits.agent import __main__ as command
from site_kits.agent import preflight, witnessing
from site_kits.agent.doctor.checks import CHECKS
from site_kits.agent.doctor.examination import Outcome, Patient, examine
from site_kits.agent.enrolment import enrol
from site_kits.agent.portal import PortalDoor
from site_kits.agent.renewal import Credentials
from site_kits.agent.status import StatusBoard
from site_kits.agent.witness_words import status_line
from site_kits.agent.witnessing import Witnessing
from site_kits.site_home import read_state
from tests.compliance.logs import Log
from tests.site_kits.log_double import ORIGIN, PortalLog
from tests.site_kits.site_doubles import PIN, TOKEN

LOCAL = [check for check in CHECKS if check.is_local]
NAME = "test/hospital-a/witness"


class Site:
    """An enrolled site whose witness is called by hand."""

    def __init__(self, home, portal, credentials=None):
        self.home, self.portal = home, portal
        manifest = preflight.load_manifest(home)
        self.door = PortalDoor(portal.url, home.root_ca)
        self.credentials = credentials or Credentials(
            home, manifest, enrol(home, manifest, self.door, TOKEN, PIN)
        )
        self.witness = Witnessing(
            home, manifest, self.credentials, self.door, StatusBoard(home), threading.Event()
        )

    def restart(self):
        self.door.close()
        self.__init__(self.home, self.portal, self.credentials)

    def said(self):
        return read_state(self.home.status_json).get("problems", {}).get("witness", "")


@pytest.fixture
def site(home, portal):
    portal.log = PortalLog()
    made = Site(home, portal)
    yield made
    made.door.close()


def lines_fit(portal_log):
    key = portal_log.witnesses[NAME]
    return all(
        verify(SignedNote.parse(portal_log.log.note(size)).text, line, key) for size, line in portal_log.lines
    )


def test_a_site_registers_its_key_and_signs_each_step(site, portal):
    for _ in range(3):
        assert site.witness.visit()
        portal.log.log.grown(4)
    assert [size for size, _ in portal.log.lines] == [5, 9, 13]
    assert lines_fit(portal.log)
    key = site.home.witness / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (site.home.witness / "policy.txt").read_text().startswith(f"log {ORIGIN}+")
    site.restart()
    assert site.witness.visit()
    assert lines_fit(portal.log)
    assert len(portal.log.witnesses) == 1


def test_a_portal_without_a_log_or_without_an_answer_is_no_problem_of_the_witness(site, portal):
    portal.log = None
    assert not site.witness.visit()
    site.door.url = "https://localhost:9"
    assert not site.witness.visit()
    assert site.said() == ""


def test_a_rewritten_log_is_proven_kept_and_sent(site, portal):
    site.witness.visit()
    honest = portal.log.log
    portal.log.log = honest.fork(2).grown(3)
    assert not site.witness.visit()
    assert "CONTRADICTS ITSELF" in site.said()
    [path] = site.home.witness.glob("evidence-*.txt")
    assert str(path) in site.said()
    assert portal.log.evidence == [path.read_text()]
    assert Evidence.parse(path.read_text()).is_proven_for(verifier_key(ORIGIN, honest.key))
    portal.log.log = honest.grown(1)  # put back as if nothing had been
    site.restart()
    assert not site.witness.visit()
    assert "CONTRADICTS ITSELF" in site.said()
    assert [size for size, _ in portal.log.lines] == [5]


def test_evidence_that_the_portal_does_not_take_is_kept_and_offered_again(site, portal):
    site.witness.visit()
    portal.log.log, portal.log.refuses = portal.log.log.fork(0), "evidence"
    assert not site.witness.visit()
    assert "CONTRADICTS ITSELF" in site.said()
    portal.log.refuses = ""
    site.witness.visit()
    site.witness.visit()
    assert len(portal.log.evidence) == 1


def test_a_shorter_log_is_said_and_signed_again_when_it_is_whole(site, portal):
    site.witness.visit()
    whole = portal.log.log
    portal.log.log = Log(whole.leaves[:4], whole.key, ORIGIN)
    assert not site.witness.visit()
    assert "SHORTER" in site.said()
    portal.log.log = whole
    assert site.witness.visit()
    assert site.said() == ""


def test_a_proof_that_leads_nowhere_is_said(site, portal):
    site.witness.visit()
    portal.log.log.grown(2)
    portal.log.bends_proof = True
    assert not site.witness.visit()
    assert "cannot show that its log only grew" in site.said()


def test_a_log_with_another_key_is_not_signed(site, portal):
    site.witness.visit()
    portal.log.log = Log(portal.log.log.leaves, origin=ORIGIN)
    assert not site.witness.visit()
    assert "ANOTHER KEY" in site.said()
    portal.log.log = Log(origin="else/audit/2026")
    assert not site.witness.visit()
    assert "not this federation" in site.said()


def test_a_year_begins_a_tree_of_its_own_under_the_same_key(site, portal):
    site.witness.visit()
    portal.log.log = Log(key=portal.log.log.key, origin="test/audit/2027").grown(1)
    assert site.witness.visit()
    portal.log.log.grown(1)
    assert site.witness.visit()
    assert [size for size, _ in portal.log.lines] == [5, 1, 2]


def test_a_lost_memory_retires_the_key(site, portal):
    site.witness.visit()
    before = str(portal.log.witnesses[NAME])
    (site.home.witness / "2026.json").unlink()
    site.restart()
    assert site.witness.visit()
    assert str(portal.log.witnesses[NAME]) != before
    assert len(list(site.home.witness.glob("retired-*/key.pem"))) == 1


def test_a_memory_put_back_is_told_by_the_sites_own_signature(site, portal):
    site.witness.visit()
    old = (site.home.witness / "2026.json").read_bytes()
    portal.log.log.grown(2)
    site.witness.visit()
    before, portal.log.others = str(portal.log.witnesses[NAME]), [portal.log.lines[-1][1]]
    (site.home.witness / "2026.json").write_bytes(old)
    assert not site.witness.visit()
    assert "more than it remembers" in site.said()
    assert site.witness.visit()
    assert str(portal.log.witnesses[NAME]) != before


def test_a_damaged_memory_signs_nothing(site, portal):
    site.witness.visit()
    (site.home.witness / "2026.json").write_text("{}")
    assert not site.witness.visit()
    assert "damaged" in site.said()
    assert len(portal.log.lines) == 1


def test_a_full_disk_is_said_and_nothing_is_signed(site, portal, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compliance.witness_store.os.fsync", full)
    assert not site.witness.visit()
    assert "cannot be used" in site.said()
    assert portal.log.lines == []


def test_an_answer_of_another_version_is_said(site, portal, monkeypatch):
    monkeypatch.setattr(portal.log, "answer", lambda _path, _body: (200, {"checkpoint": "x"}))
    assert not site.witness.visit()
    assert "not of this version" in site.said()


def test_other_sites_are_remembered_and_missed(site, portal, monkeypatch):
    others = {f"test/hospital-{letter}/witness": Ed25519PrivateKey.generate() for letter in "bc"}
    portal.log.witnesses |= {name: verifier_key(name, key, 4) for name, key in others.items()}
    text = SignedNote.parse(portal.log.log.note()).text
    portal.log.others = [cosign(text, name, key, 1000) for name, key in others.items()]
    assert site.witness.visit()
    seen = read_state(site.home.status_json)["witness"]["others"]
    assert seen == {name: {"size": 5, "at": 1000} for name in others}
    portal.log.others = []
    portal.log.log.grown(1)
    assert site.witness.visit()
    monkeypatch.setattr(witnessing, "ALONE_S", -1.0)
    assert not site.witness.visit()
    assert "too few other sites" in site.said()
    portal.log.others = [cosign("else", name, key, 1000) for name, key in others.items()]
    assert not site.witness.visit()
    assert "not its site's" in site.said()


def run(site, capsys, *arguments):
    status = command.main(["--home", str(site.home.root), *arguments])
    return status, capsys.readouterr().out


def test_the_operator_sees_what_was_signed(site, portal, capsys):
    assert run(site, capsys, "witness") == (
        1,
        "This site has not witnessed the portal's log yet. Is it running?\n",
    )
    other = Ed25519PrivateKey.generate()
    for letter in "bc":
        name = f"test/hospital-{letter}/witness"
        portal.log.witnesses[name] = verifier_key(name, other if letter == "b" else site_key(), 4)
    text = SignedNote.parse(portal.log.log.note()).text
    portal.log.others = [cosign(text, "test/hospital-b/witness", other, 1000)]
    site.witness.visit()
    status, said = run(site, capsys, "witness")
    assert status == 0
    assert "signed size:    5" in said
    assert text.split("\n")[2] in said
    assert "hospital-b: size 5, 1970-01-01T00:16:40+00:00" in said
    assert "hospital-c: not seen yet" in said
    assert "5 entries of the portal's log signed" in status_line(read_state(site.home.status_json))


def site_key():
    return Ed25519PrivateKey.generate()


def test_after_a_contradiction_only_the_operators_word_lets_the_site_sign_again(site, portal, capsys):
    site.witness.visit()
    before = str(portal.log.witnesses[NAME])
    portal.log.log = portal.log.log.fork(1)
    site.witness.visit()
    status, said = run(site, capsys, "witness")
    assert status == 1
    assert "CONTRADICTS ITSELF" in said
    findings = {one.code: one for one in examine(Patient(site.home), LOCAL) if one.code == "portal_log"}
    assert findings["portal_log"].outcome == Outcome.FAILED
    assert run(site, capsys, "witness", "trust-again")[0] == 0
    assert list(site.home.witness.glob("retired-*/evidence-*.txt"))
    assert site.witness.visit()
    assert str(portal.log.witnesses[NAME]) != before


def test_a_new_key_is_made_on_the_operators_word(site, portal, capsys):
    site.witness.visit()
    before = str(portal.log.witnesses[NAME])
    assert run(site, capsys, "witness", "new-key")[0] == 0
    assert site.witness.visit()
    assert str(portal.log.witnesses[NAME]) != before
    (site.home.witness / "key.pem").chmod(0o644)
    [found] = [one for one in examine(Patient(site.home), LOCAL) if one.code == "witness_key"]
    assert "chmod 600" in found.sentence
