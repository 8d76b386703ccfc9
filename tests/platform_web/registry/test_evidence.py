"""A pack of a completed run: whole, signed, the same twice, verified by its own verifier."""

import csv
import io
import json
import subprocess
import sys
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.contrib.auth.models import User
from django.utils import timezone, translation
from django_otp import DEVICE_ID_SESSION_KEY

from compliance.evidence import archive, dsse
from compliance.evidence.statement import PAYLOAD_TYPE
from platform_web.accounts import services as accounts
from platform_web.accounts.models import Role
from platform_web.audit.models import AuditEvent
from platform_web.outbox.models import Task
from platform_web.outbox.runner import run_task
from platform_web.registry.evidence.case import Case
from platform_web.registry.evidence.control import assess
from platform_web.registry.evidence.controls import CONTROLS
from platform_web.registry.evidence.pack import MANIFEST_TYPE, build_pack
from platform_web.registry.models import EvidencePack, ModelVersion
from tests.platform_web.evidence_switches import switched
from tests.platform_web.evidence_world import PASSWORD, EvidenceWorld

# on PostgreSQL the sequencer sees only what was committed
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def made(portal, site_key, tmp_path, settings):
    settings.CONSILIUM_SECOND_FACTOR = "required"
    made = EvidenceWorld(tmp_path, site_key)
    made.version = made.completed()
    made.promote(made.version)
    made.witness()
    yield made
    made.close()


@pytest.fixture
def pack(made):
    return build_pack(Case(made.version, timezone.now()), "en")


def test_the_pack_is_its_manifests_and_signed(pack):
    assert archive.problems_of(pack.files) == []
    keys = json.loads(pack.files["keys.json"])
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(keys["evidence_ed25519_hex"]))
    manifest = dsse.open_envelope(pack.files["MANIFEST.dsse.json"], MANIFEST_TYPE, key)
    assert manifest == pack.files["MANIFEST.json"]
    said = json.loads(dsse.open_envelope(pack.files["provenance.intoto.jsonl"], PAYLOAD_TYPE, key))
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert len(said["predicate"]["runDetails"]["byproducts"]) == 10


def test_what_holds_and_what_does_not_in_this_world(pack):
    failing = {claim.control.name for claim in pack.claims if not claim.holds}
    assert failing == {"differential_privacy", "pages_encrypted"}


def test_made_twice_it_has_the_same_bytes(made):
    moment = timezone.now()
    one, two = (build_pack(Case(made.version, moment), "zh-hans") for _ in range(2))
    assert one.archive == two.archive
    names = zipfile.ZipFile(io.BytesIO(one.archive)).namelist()
    assert names == sorted(names)


def test_the_bundle_verifies_offline_with_the_packs_own_verifier(pack, tmp_path):
    zipfile.ZipFile(io.BytesIO(pack.archive)).extractall(tmp_path / "pack")
    command = [sys.executable, "-I", "verify.py", "proofs/bundle.txt", "--policy", "proofs/policy.txt"]
    done = subprocess.run(command, cwd=tmp_path / "pack", env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_access_report_has_every_entry_and_no_formula(pack, made):
    rows = list(csv.DictReader(io.StringIO(pack.files["access-report.csv"].decode())))
    assert {row["act"] for row in rows} >= {
        "run.started",
        "run.approved",
        "round.committed",
        "model.promoted",
    }
    assert len(rows) == len(Case(made.version, timezone.now()).entries)
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())


def enter(client, person):
    """Signed in with the second factor."""
    client.force_login(person)
    session = client.session
    session[DEVICE_ID_SESSION_KEY] = person.second_factor.persistent_id
    session.save()


def test_it_is_asked_for_made_and_fetched_with_entries(made, client):
    enter(client, made.otto)
    page = f"/models/{made.version.pk}/evidence/"
    client.post(page, {"language": "zh-hans"})
    run_task(Task.objects.get(name="registry.make_pack").pk)
    row = EvidencePack.objects.get()
    answer = client.get(f"/evidence/{row.pk}/")
    content = b"".join(answer.streaming_content)
    files = {name: zipfile.ZipFile(io.BytesIO(content)).read(name) for name in _names(content)}
    assert archive.problems_of(files) == []
    acts = list(AuditEvent.objects.filter(act__startswith="evidence.").order_by("number"))
    assert [event.act for event in acts] == ["evidence.asked", "evidence.issued", "evidence.fetched"]
    issued = json.loads(bytes(acts[1].leaf))
    assert issued["obj"][0]["digest"] == row.manifest_sha256
    assert "second_factor" in client.get(page).content.decode()


def test_below_the_quorum_no_pack_is_made(made, client, monkeypatch):
    monkeypatch.setattr("platform_web.audit.standing._unwitnessed_since", lambda *_: timezone.now())
    enter(client, made.ann)
    client.post(f"/models/{made.version.pk}/evidence/", {"language": "en"})
    assert not EvidencePack.objects.exists()
    assert not AuditEvent.objects.filter(act__startswith="evidence.").exists()


def _names(content):
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


@pytest.mark.parametrize("name", [control.name for control in CONTROLS])
def test_one_control_turned_over_changes_exactly_its_sentence(name, made):
    moment = timezone.now()
    before = sentences(made.version, moment)
    with switched(name, made, made.version):
        after = sentences(ModelVersion.objects.get(pk=made.version.pk), moment)
    assert [one for one in before if before[one] != after[one]] == [name]
    assert sentences(ModelVersion.objects.get(pk=made.version.pk), moment) == before


def second_factor(made):
    return next(
        (claim.holds, claim.sentence)
        for claim in assess(CONTROLS, Case(made.version, timezone.now()))
        if claim.control.name == "second_factor"
    )


def test_the_second_factor_counts_people_and_names_nobody(made, settings):
    assert second_factor(made) == (True, "All 2 administrators and auditors sign in with a second factor.")
    add = accounts.add_person
    add(actor=None, username="bea-e", password=PASSWORD, role=Role.ADMINISTRATOR)
    add(actor=None, username="xi-e", password=PASSWORD, role=Role.DATA_SCIENTIST)
    said = "A second factor is not in force for administrators and auditors: required: %s; without one: %s."
    assert second_factor(made) == (False, said % ("yes", "1 of 3"))
    settings.CONSILIUM_SECOND_FACTOR = "optional"
    assert second_factor(made) == (False, said % ("no", "1 of 3"))
    accounts.deactivate_person(actor=made.ann, person=User.objects.get(username="bea-e"))
    assert second_factor(made) == (False, said % ("no", "0 of 2"))
    settings.CONSILIUM_SECOND_FACTOR = "required"
    assert second_factor(made)[0]
    settings.WEB_MIDDLEWARE = [name for name in settings.WEB_MIDDLEWARE if "Gate" not in name]
    assert second_factor(made) == (False, said % ("no", "0 of 2"))


def sentences(version, moment):
    """Control → its sentence in both languages."""
    found = {}
    for language in ("en", "zh-hans"):
        with translation.override(language):
            for claim in assess(CONTROLS, Case(version, moment)):
                found.setdefault(claim.control.name, []).append((claim.holds, claim.sentence))
    return found
