"""The log's door for sites: what fits is kept once, what does not is refused, strangers see nothing."""

import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.test import Client

from compliance.merkle import is_consistent
from compliance.note import COSIGNATURE_V1, Checkpoint, SignedNote, cosign, decode_base64, sign, verifier_key
from platform_web.audit import selectors, standing
from platform_web.audit.errors import UnwitnessedError
from platform_web.audit.models import AuditCosignature, AuditEvent, AuditEvidence
from platform_web.federation.models import Site
from site_kits.signing import sign_request
from tests.platform_web.protected_acts import at_agents_door
from tests.platform_web.protected_world import seal_log
from tests.platform_web.signed import is_problem

NAME = "consilium/site-a"


# on PostgreSQL the sequencer sees only what was committed
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def witness():
    return Ed25519PrivateKey.generate()


@pytest.fixture
def ask(site_key, enrolment):
    """``ask("GET", "checkpoint?old=0")`` as site A."""

    def send(method, path, body=None, site="site-a", key=site_key):
        path, content = f"/audit/v1/{path}", b"" if body is None else json.dumps(body).encode()
        headers = sign_request(
            key, site=site, serial=enrolment.serial, method=method, path=path, body=content
        )
        return at_agents_door(method, path, content, headers)

    return send


@pytest.fixture
def registered(ask, witness):
    key = str(verifier_key(f"{NAME}/witness", witness, COSIGNATURE_V1))
    assert ask("POST", "witnesses", {"key": key}).status_code == 201
    return key


def line(witness, moment=None, note=None):
    note = note or SignedNote.parse(selectors.latest_head().note)
    return str(cosign(note.text, f"{NAME}/witness", witness, int(moment or time.time())))


def test_a_checkpoint_comes_with_the_proof_from_the_size_asked_for(ask):
    assert is_problem(ask("GET", "checkpoint?old=0"), 404, "no_checkpoint")
    seal_log()
    first = ask("GET", "checkpoint").json()
    old = Checkpoint.parse(SignedNote.parse(first["checkpoint"]).text)
    AuditEvent.objects.latest("number")
    ask("POST", "witnesses", {"key": str(verifier_key(f"{NAME}/witness", Ed25519PrivateKey.generate(), 4))})
    seal_log()
    answer = ask("GET", f"checkpoint?old={old.size}").json()
    new = Checkpoint.parse(SignedNote.parse(answer["checkpoint"]).text)
    proof = [decode_base64(one) for one in answer["consistency"]]
    assert is_consistent(old.size, new.size, proof, old.root, new.root)
    assert "witness consilium/site-a/witness" in answer["witnesses"]
    assert ask("GET", f"checkpoint?old={new.size + 5}").json()["consistency"] == []


@pytest.mark.parametrize("old", ["-1", "x", "1.5", "9" * 17])
def test_a_size_that_is_none_is_refused(ask, old):
    assert is_problem(ask("GET", f"checkpoint?old={old}"), 422, "invalid")


def test_a_key_is_registered_once_and_another_retires_it(ask, registered, witness):
    assert ask("POST", "witnesses", {"key": registered}).status_code == 200
    other = str(verifier_key(f"{NAME}/witness", Ed25519PrivateKey.generate(), COSIGNATURE_V1))
    assert ask("POST", "witnesses", {"key": other}).status_code == 201
    assert str(selectors.witness_keys()["site-a"]) == other
    entry = json.loads(bytes(AuditEvent.objects.latest("number").leaf))
    assert entry["act"] == "witness.registered"
    assert entry["data"] == {"key": other, "retired": registered}


def test_only_a_witness_key_under_the_sites_own_name_is_taken(ask, witness, registered):
    for key in (
        "rubbish",
        str(verifier_key(f"{NAME}/witness", witness)),  # of a log
        str(verifier_key("consilium/site-b/witness", witness, COSIGNATURE_V1)),
    ):
        assert is_problem(ask("POST", "witnesses", {"key": key}), 422, "unfit")


def test_a_cosignature_that_fits_is_kept_once(ask, registered, witness):
    seal_log()
    size, text = selectors.latest_head().size, line(witness)
    assert ask("POST", "cosignatures", {"size": size, "line": text}).status_code == 201
    assert ask("POST", "cosignatures", {"size": size, "line": text}).status_code == 200
    assert text in ask("GET", "checkpoint").json()["checkpoint"]
    assert selectors.is_witnessed(selectors.latest_head())
    before = AuditEvent.objects.count()
    assert ask("POST", "cosignatures", {"size": size, "line": text}).status_code == 200
    assert AuditEvent.objects.count() == before, "no entry: it would make a head that asks for the next one"


def test_a_cosignature_that_does_not_fit_is_refused(ask, registered, witness):
    seal_log()
    size, note = selectors.latest_head().size, SignedNote.parse(selectors.latest_head().note)
    forged = SignedNote(str(Checkpoint("consilium/audit/2026", size, b"\1" * 32)), note.signatures)
    for body in (
        {"size": size, "line": line(witness, note=forged)},
        {"size": size, "line": line(Ed25519PrivateKey.generate())},
        {"size": size + 1, "line": line(witness)},
        {"size": size, "line": line(witness, moment=time.time() + 3600)},
        {"size": size, "line": "rubbish"},
    ):
        assert is_problem(ask("POST", "cosignatures", body), 422, "unfit")
    for body in ({"size": size}, {"size": -1, "line": "x"}, {"size": size, "line": "x" * 401}):
        assert is_problem(ask("POST", "cosignatures", body), 422, "invalid")
    assert not AuditCosignature.objects.exists()


def test_a_suspended_site_is_not_heard_and_not_counted(ask, registered, witness):
    seal_log()
    Site.objects.update(status=Site.Status.SUSPENDED)
    assert is_problem(ask("GET", "checkpoint"), 401, "suspended")
    assert selectors.witness_keys() == {}


def test_evidence_is_kept_when_it_is_proven_and_then_nothing_is_promoted(ask):
    split = seal_log()
    for text in ("rubbish", split.replace("split", "rewrite 0"), split[:-40] + "A" * 39 + "\n"):
        assert is_problem(ask("POST", "evidence", {"evidence": text}), 422, "unfit")
    standing.require_witnessed()
    assert ask("POST", "evidence", {"evidence": split}).status_code == 201
    assert ask("POST", "evidence", {"evidence": split}).status_code == 200
    assert AuditEvidence.objects.get().kind == "split"
    assert AuditEvent.objects.filter(act="log.contradicted").count() == 1
    with pytest.raises(UnwitnessedError, match="two versions"):
        standing.require_witnessed()


def test_an_anchor_is_an_entry_and_a_rewritten_site_log_is_found(ask, witness):
    def anchor(size, root, origin=f"{NAME}/log/2026", proof=()):
        note = sign(str(Checkpoint(origin, size, root)), origin, witness)
        return ask("POST", "anchors", {"checkpoint": str(note), "consistency": list(proof)})

    assert is_problem(anchor(5, b"\1" * 32), 503, "no_receipt"), "no signer runs in this test"
    assert is_problem(anchor(5, b"\1" * 32), 503, "no_receipt")
    assert AuditEvent.objects.filter(act="site.anchored").count() == 1, (
        "the same head again is the same entry"
    )
    assert is_problem(anchor(5, b"\2" * 32), 422, "unfit")
    assert is_problem(anchor(4, b"\1" * 32), 422, "unfit")
    assert is_problem(anchor(9, b"\1" * 32, origin="consilium/site-b/log/2026"), 422, "unfit")
    assert AuditEvent.objects.filter(act="site.anchor_refused").count() == 2
    assert AuditEvent.objects.filter(act="site.anchored").count() == 1


def test_a_site_reads_its_own_entries_and_hashes_of_the_others(ask):
    seal_log()
    text = ask("GET", "entries?start=0&end=100").content.decode()
    assert text.startswith("consilium-audit-bundle/v1\n")
    shown = [line for line in text.split("\n") if line.startswith("ey")]  # base64 of {"
    acts = [json.loads(decode_base64(line)) for line in shown]
    assert acts
    assert {entry["site"] for entry in acts} == {"site-a"}
    assert is_problem(ask("GET", "entries?start=5&end=5"), 422, "invalid")
    assert is_problem(ask("GET", "entries?start=0&end=10001"), 422, "invalid")


def test_a_receipt_is_for_the_entrys_own_site(ask, ann):
    entry = AuditEvent.objects.exclude(site="site-a").first()
    assert is_problem(ask("GET", f"receipts/{entry.event_id}"), 404, "not_found")
    mine = AuditEvent.objects.filter(site="site-a").first()
    assert is_problem(ask("GET", f"receipts/{mine.event_id}"), 503, "no_receipt")


DOORS = [
    ("GET", "checkpoint"), ("POST", "cosignatures"), ("POST", "witnesses"), ("POST", "evidence"),
    ("POST", "anchors"), ("GET", "entries?start=0&end=9"),
    ("GET", "receipts/00000000-0000-4000-8000-000000000000"), ("POST", "overdue"),
    ("GET", "inclusion/00000000-0000-4000-8000-000000000000?year=2026&size=5"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_who_does_not_sign_as_a_site_gets_nothing(ask, method, path, ann):
    assert is_problem(at_agents_door(method, f"/audit/v1/{path}", b"{}"), 401, "signature")
    client = Client()
    client.force_login(ann, backend="django.contrib.auth.backends.ModelBackend")
    assert client.generic(method, f"/audit/v1/{path}").status_code == 404, (
        "the people's door has no such address"
    )


def test_an_unsigned_body_changes_nothing(db):
    assert at_agents_door("POST", "/audit/v1/witnesses", b"x" * 2_000_000).status_code in {401, 413}
    assert not AuditEvent.objects.filter(act="witness.registered").exists()
