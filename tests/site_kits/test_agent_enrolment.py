import json
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from site_kits.agent import preflight
from site_kits.agent.__main__ import main
from site_kits.agent.enrolment import enrol, load_or_make_key, stored_identity
from site_kits.agent.portal import PortalDoor, PortalRefusedError, PortalUnreachableError
from site_kits.errors import AgentError, SiteKitError
from site_kits.provisioning.ca import create_ca
from tests.site_kits.site_doubles import SITE, Portal, unpack_kit


@pytest.fixture
def door(portal, home):
    door = PortalDoor(portal.url, home.root_ca)
    yield door
    door.close()


def test_enrolment_leaves_a_private_key_and_a_certificate_that_fit(home, door):
    manifest = preflight.load_manifest(home)
    identity = enrol(home, manifest, door)
    assert stored_identity(home, manifest).serial == identity.serial
    assert stat.S_IMODE(home.key.stat().st_mode) == 0o600
    assert 80 < identity.days_left <= 90
    assert not home.token.exists()


def test_the_key_is_rsa_2048_and_made_once(home):
    key = load_or_make_key(home)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048
    assert load_or_make_key(home).private_numbers() == key.private_numbers()


def test_a_used_token_is_said_and_stores_nothing(home, door, portal):
    portal.token = "another"
    with pytest.raises(AgentError, match=r"used before.*new kit"):
        enrol(home, preflight.load_manifest(home), door)
    assert not home.certificate.exists()


def test_a_name_the_portal_does_not_grant_is_said(portal, tmp_path):
    home = unpack_kit(tmp_path / "other", portal, site="hospital-b")
    door = PortalDoor(portal.url, home.root_ca)
    with pytest.raises(AgentError, match="refuses the name hospital-b"):
        enrol(home, preflight.load_manifest(home), door)
    door.close()
    assert not home.certificate.exists()


def test_an_interrupted_enrolment_goes_on_with_the_answer_it_had(home, door, portal):
    manifest = preflight.load_manifest(home)
    enrol(home, manifest, door)
    (home.state / "enrolment_answer.pem").write_bytes(home.certificate.read_bytes())
    home.certificate.unlink()  # the crash: answer written down, certificate not yet in place
    assert enrol(home, manifest, door).site == SITE
    assert home.certificate.exists()


def test_a_certificate_of_another_root_is_not_stored(home, door, portal):
    manifest = preflight.load_manifest(home)
    portal.ca_key, portal.ca_cert = create_ca("Somebody else")
    with pytest.raises(AgentError, match="not issued by the root of this kit"):
        enrol(home, manifest, door)
    assert not home.certificate.exists()


def test_a_portal_of_another_root_gets_nothing(portal, tmp_path):
    home = unpack_kit(tmp_path / "foreign", Portal(*create_ca("Another")), agents_url=portal.url)
    door = PortalDoor(portal.url, home.root_ca)
    with pytest.raises(PortalUnreachableError, match="not of this federation"):
        enrol(home, preflight.load_manifest(home), door)
    door.close()
    assert portal.token == "token-1"


def test_a_portal_that_does_not_answer_is_a_sentence(home):
    door = PortalDoor("https://localhost:9", home.root_ca)
    with pytest.raises(PortalUnreachableError, match=r"does not answer.*firewall"):
        door.probe()
    door.close()


def test_an_expired_certificate_is_said(home, portal):
    manifest = preflight.load_manifest(home)
    key = load_or_make_key(home)
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, SITE)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(portal.ca_cert.subject)
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now - timedelta(days=9)).not_valid_after(now - timedelta(days=1))
    certificate = builder.sign(portal.ca_key, SHA256())
    home.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    with pytest.raises(AgentError, match="expired on"):
        stored_identity(home, manifest)


def test_an_expired_kit_is_said(portal, tmp_path):
    home = unpack_kit(tmp_path / "old", portal, kit_expires="2026-01-01T00:00:00+00:00")
    with pytest.raises(AgentError, match="expired on 2026-01-01"):
        preflight.check_kit_expiry(preflight.load_manifest(home))


def test_an_incomplete_kit_names_what_is_missing(home):
    (home.flare / "startup" / "sub_start.sh").unlink()
    with pytest.raises(AgentError, match=r"flare/startup/sub_start.sh is missing"):
        preflight.load_manifest(home)


def test_mixed_kits_are_recognised_by_the_root_fingerprint(home):
    facts = json.loads(home.site_json.read_text()) | {"root_fingerprint_sha256": "0" * 64}
    home.site_json.write_text(json.dumps(facts))
    with pytest.raises(AgentError, match="two kits are mixed"):
        preflight.load_manifest(home)


def test_a_damaged_site_json_is_a_sentence(home):
    home.site_json.write_text("{")
    with pytest.raises(SiteKitError, match="kit"):
        preflight.load_manifest(home)


def test_a_damaged_token_leads_to_a_new_kit(home, door, monkeypatch):
    def refuse(*_arguments):
        raise PortalRefusedError("token: too short.", status=422, code="invalid")

    monkeypatch.setattr(door, "enrol", refuse)
    with pytest.raises(AgentError, match=r"token: too short.*new kit"):
        enrol(home, preflight.load_manifest(home), door)
    assert home.token.exists()


def test_only_a_folder_below_data_is_registered(home, capsys):
    assert main(["--home", str(home.root), "register", "../elsewhere"]) == 2
    assert "Give its name without a path" in capsys.readouterr().err


def test_a_full_disk_is_a_sentence(home, monkeypatch):
    monkeypatch.setenv("CONSILIUM_MIN_FREE_MB", str(10**9))
    with pytest.raises(AgentError, match="MiB are free"):
        preflight.check_disk(home)


def test_a_training_server_that_does_not_answer_is_a_sentence(home):
    with pytest.raises(AgentError, match="training server at localhost:9"):
        preflight.check_flare(preflight.load_manifest(home))
