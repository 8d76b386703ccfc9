"""The portal's door and the site's witness together: growth is co-signed, a rewritten log convicted."""

import json
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection
from django.test import Client

from compliance.evidence_file import Evidence
from compliance.note import COSIGNATURE_V1, SignedNote, cosign, verifier_key
from compliance.signer.core import Signer
from fl_jobs.approval import site_log
from platform_web.audit import cli, selectors, triggers, witnessing
from platform_web.audit.models import AuditEvent, AuditEvidence, AuditHead
from platform_web.audit.sequencer import Sequencer
from site_kits.agent.portal import PortalRefusedError
from site_kits.agent.status import StatusBoard
from site_kits.agent.witnessing import Witnessing
from site_kits.signing import sign_request
from site_kits.site_home import SiteHome, read_state

pytestmark = pytest.mark.urls("platform_web.agent_urls")


class Door:
    """What the agent knows of its ``PortalDoor``: requests that go to the real views."""

    def ask(self, signer, method, path, body=b""):
        answer = Client().generic(
            method, path, body, content_type="application/json", headers=signer(method, path, body)
        )
        if answer.status_code >= 300:
            problem = answer.json()
            raise PortalRefusedError(problem["detail"], status=answer.status_code, code=problem["code"])
        return answer.content


@pytest.fixture
def witness(tmp_path, enrolment, site_key, settings):
    def signer(method, path, body):
        return sign_request(
            site_key, site="site-a", serial=enrolment.serial, method=method, path=path, body=body
        )

    home = SiteHome(tmp_path / "site")
    manifest = SimpleNamespace(federation=settings.CONSILIUM_FEDERATION, site="site-a")
    credentials = SimpleNamespace(current=SimpleNamespace(signer=lambda: signer))
    return Witnessing(home, manifest, credentials, Door(), StatusBoard(home), threading.Event())


def problem_of(witness):
    return read_state(witness._home.status_json).get("problems", {}).get("witness")


def delete_behind_everything(number):
    """What a root DBA does: triggers away, a row gone, and every trace of the tree with it."""
    with connection.schema_editor() as editor:
        triggers.drop(editor)
    with connection.cursor() as cursor:
        for table in ("audit_seq", "audit_head", "audit_tile", "audit_shard"):
            cursor.execute(f"DELETE FROM {table}")
        cursor.execute("DELETE FROM audit_event WHERE pk = %s", [number])
    with connection.schema_editor() as editor:
        triggers.create(editor)


def thief(tmp_path):
    """The signer's key with an empty memory, on a machine of the thief's own."""
    stolen = tmp_path / "stolen"
    stolen.mkdir(mode=0o700)
    for path in (tmp_path / "log-key").iterdir():
        if path.name != "state.json" and path.is_file():
            (stolen / path.name).write_bytes(path.read_bytes())
            (stolen / path.name).chmod(0o600)
    (stolen / "state.json").write_text("{}")
    (stolen / "state.json").chmod(0o600)
    return Signer(stolen)


def test_a_log_that_grows_is_co_signed(witness, grown):
    for count in (3, 300, 1):
        head = grown(count)
        assert witness.visit(), problem_of(witness)
        assert selectors.witnessed_head(head.shard).size == head.size
    assert cli.main(["fsck"]) == 0


def test_a_deleted_row_is_convicted_by_the_site(witness, grown, tmp_path, entries, capsys):
    grown(20)
    assert witness.visit(), problem_of(witness)
    delete_behind_everything(entries(1)[0].number - 10)
    signer = thief(tmp_path)
    forger = Sequencer(signer)
    entries(2)
    while forger.step():
        pass
    forger.checkpoint()
    signer.close()
    assert not witness.visit()
    assert "CONTRADICTS ITSELF" in problem_of(witness)
    [kept] = AuditEvidence.objects.all()
    assert Evidence.parse(kept.text).is_proven_for(selectors.log_key(AuditHead.objects.get().shard))


def test_all_sites_are_shown_one_head_until_it_has_its_quorum(witness, grown, monkeypatch):
    monkeypatch.setattr(selectors, "witness_keys", selectors.witness_keys_of_all)
    keys = {site: Ed25519PrivateKey.generate() for site in ("site-b", "site-c")}
    for site, key in keys.items():
        name = witnessing.witness_name(site)
        witnessing.register_witness(site=site, key_text=str(verifier_key(name, key, COSIGNATURE_V1)))
    head = grown(2)
    assert witness.visit()
    newest = grown(2)
    assert selectors.head_to_witness(0).size == selectors.head_to_witness(head.size).size == head.size
    assert selectors.head_to_witness(newest.size).size == newest.size
    text = SignedNote.parse(head.note).text
    line = cosign(text, witnessing.witness_name("site-b"), keys["site-b"], int(time.time()))
    witnessing.add_cosignature(site="site-b", size=head.size, line=str(line))
    assert selectors.head_to_witness(0).size == newest.size  # two of three are the quorum
    assert witness.visit()
    assert selectors.head_to_witness(0).size == newest.size


def test_a_head_that_gets_no_quorum_gives_way(witness, grown, monkeypatch):
    monkeypatch.setattr(selectors, "witness_keys", selectors.witness_keys_of_all)
    for site in ("site-b", "site-c"):
        key = verifier_key(witnessing.witness_name(site), Ed25519PrivateKey.generate(), COSIGNATURE_V1)
        witnessing.register_witness(site=site, key_text=str(key))
    grown(2)
    assert witness.visit()
    newest = grown(2)
    monkeypatch.setattr(selectors, "GATHERING_S", -1)
    assert selectors.head_to_witness(0).size == newest.size


def test_fsck_names_what_was_changed(grown, capsys):
    grown(5)
    with connection.schema_editor() as editor:
        triggers.drop(editor)
    with connection.cursor() as cursor:
        number = AuditEvent.objects.earliest("number").number
        cursor.execute("UPDATE audit_event SET leaf = %s WHERE pk = %s", [b"{}", number])
    with connection.schema_editor() as editor:
        triggers.create(editor)
    assert cli.main(["fsck"]) == 1
    said = capsys.readouterr().out
    assert f"Entry number {number} is not what was written" in said
    assert "does not fit its entries" in said


def test_prove_and_export_make_files_that_verify(grown, witness, tmp_path, capsys):
    grown(8)
    assert witness.visit()
    event = AuditEvent.objects.earliest("number")
    assert cli.main(["prove", str(event.event_id), "--out", str(tmp_path)]) == 0
    files = [str(tmp_path / f"{event.event_id}{end}") for end in (".json", ".tlog-proof")]
    assert witness.visit()  # now the policy names this site
    policy = witness._home.witness / "policy.txt"
    assert cli.main(["verify", "--entry", *files, "--policy", str(policy)]) == 0
    assert cli.main(["export", "--out", str(tmp_path / "all.bundle"), "--site", "site-a"]) == 0
    assert cli.main(["verify", str(tmp_path / "all.bundle"), "--policy", str(policy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.strip().split("\n")[-1])["verdict"] == "verified"


def test_the_sites_log_and_the_portals_hold_each_other(witness, grown, signer, settings, monkeypatch):
    """A lost answer, and an entry that vanished from the site's log."""
    monkeypatch.setattr("platform_web.audit.receipts.signer", lambda: signer)
    grown(3)
    assert witness.visit()
    home = witness._home
    site_log.record(home.root, "update.sent", run="r", rnd=1, sha256="0" * 64)
    witness.anchor()
    [entry] = AuditEvent.objects.filter(act="site.anchored")
    log = site_log.open_log(home.root, datetime.now(UTC).year)
    assert "portal.checkpoint" in b"".join(log.leaves(0, 9)).decode()
    assert json.loads(bytes(entry.leaf))["data"]["size"] == log.size() == 2
    assert str(entry.event_id) in (home.root / site_log.FOLDER / "receipt.txt").read_text()
    witness.anchor()  # nothing new: nothing is sent
    (home.root / site_log.FOLDER / "anchored.json").unlink()  # as if the answer had been lost
    for _ in range(2):
        witness._anchoring._last = -1000.0
        site_log.record(home.root, "update.sent", run="r", rnd=2, sha256="1" * 64)
        witness.anchor()
        assert "site log" not in read_state(home.status_json).get("problems", {})
    assert AuditEvent.objects.filter(act="site.anchored").count() == 3
