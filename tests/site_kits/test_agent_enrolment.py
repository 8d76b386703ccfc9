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
from tests.site_kits.site_doubles import LINK, PIN, SITE, TOKEN, Portal, unpack_kit


@pytest.fixture
def door(portal, home):
    door = PortalDoor(portal.url, home.root_ca)
    yield door
    door.close()


def test_enrolment_leaves_a_private_key_and_a_certificate_that_fit(home, door):
    manifest = preflight.load_manifest(home)
    identity = enrol(home, manifest, door, TOKEN, PIN)
    assert stored_identity(home, manifest).serial == identity.serial
    assert stat.S_IMODE(home.key.stat().st_mode) == 0o600
    assert 80 < identity.days_left <= 90
    for path in home.root.rglob("*"):  # neither link nor PIN is ever written down
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes()
            assert PIN.encode() not in path.read_bytes()


def test_the_key_is_rsa_2048_and_made_once(home):
    key = load_or_make_key(home)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048
    assert load_or_make_key(home).private_numbers() == key.private_numbers()


def test_a_wrong_pin_is_said_and_stores_nothing(home, door, portal):
    with pytest.raises(AgentError, match=r"does not accept the PIN.*4 attempts"):
        enrol(home, preflight.load_manifest(home), door, TOKEN, "87654321")
    assert not home.certificate.exists()


def test_an_unknown_link_is_said_and_stores_nothing(home, door, portal):
    portal.token = "another"
    with pytest.raises(AgentError, match=r"does not know this link.*new invitation"):
        enrol(home, preflight.load_manifest(home), door, TOKEN, PIN)
    assert not home.certificate.exists()


def test_a_name_the_portal_does_not_grant_is_said(portal, tmp_path):
    home = unpack_kit(tmp_path / "other", portal, site="hospital-b")
    door = PortalDoor(portal.url, home.root_ca)
    with pytest.raises(AgentError, match="refuses the name hospital-b"):
        enrol(home, preflight.load_manifest(home), door, TOKEN, PIN)
    door.close()
    assert not home.certificate.exists()


def test_an_interrupted_enrolment_goes_on_with_the_answer_it_had(home, door, portal):
    manifest = preflight.load_manifest(home)
    enrol(home, manifest, door, TOKEN, PIN)
    (home.state / "enrolment_answer.pem").write_bytes(home.certificate.read_bytes())
    home.certificate.unlink()  # the crash: answer written down, certificate not yet in place
    assert enrol(home, manifest, door, TOKEN, PIN).site == SITE
    assert home.certificate.exists()


def test_a_certificate_of_another_root_is_not_stored(home, door, portal):
    manifest = preflight.load_manifest(home)
    portal.ca_key, portal.ca_cert = create_ca("Somebody else")
    with pytest.raises(AgentError, match="not issued by the root of this kit"):
        enrol(home, manifest, door, TOKEN, PIN)
    assert not home.certificate.exists()


def test_a_portal_of_another_root_gets_nothing(portal, tmp_path):
    home = unpack_kit(tmp_path / "foreign", Portal(*create_ca("Another")), agents_url=portal.url)
    door = PortalDoor(portal.url, home.root_ca)
    with pytest.raises(PortalUnreachableError, match="not of this federation"):
        enrol(home, preflight.load_manifest(home), door, TOKEN, PIN)
    door.close()
    assert portal.token == TOKEN


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
    with pytest.raises(AgentError, match="ended on 2026-01-01"):
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


def test_a_damaged_link_leads_to_a_new_invitation(home, door, monkeypatch):
    def refuse(*_arguments):
        raise PortalRefusedError("token: too short.", status=422, code="invalid")

    monkeypatch.setattr(door, "enrol", refuse)
    with pytest.raises(AgentError, match=r"token: too short.*new invitation"):
        enrol(home, preflight.load_manifest(home), door, TOKEN, PIN)


def test_a_clock_a_day_off_is_said_before_anything_is_used_up(home, door, portal):
    portal.clock_offset_s = 86_400
    with pytest.raises(AgentError, match=r"24 h 0 min behind.*time synchronisation"):
        enrol(home, preflight.load_manifest(home), door, TOKEN, PIN)
    assert portal.token == TOKEN


def test_a_certificate_without_its_key_gets_no_new_key_beside_it(home, door):
    manifest = preflight.load_manifest(home)
    enrol(home, manifest, door, TOKEN, PIN)
    home.key.unlink()
    with pytest.raises(AgentError, match=r"private key .* is gone"):
        stored_identity(home, manifest)
    assert not home.key.exists()


@pytest.mark.parametrize("lost", ["client.key", "client.crt"])
def test_a_new_invitation_repairs_a_damaged_identity(home, door, portal, lost, monkeypatch, capsys):
    manifest = preflight.load_manifest(home)
    enrol(home, manifest, door, TOKEN, PIN)
    damaged = home.flare / "startup" / lost
    damaged.unlink() if lost == "client.key" else damaged.write_bytes(b"-----BEGIN")
    portal.token = TOKEN
    monkeypatch.setenv("CONSILIUM_PIN", PIN)
    assert main(["--home", str(home.root), "enrol", LINK]) == 0
    assert "The link is used for a new certificate" in capsys.readouterr().out
    assert stored_identity(home, manifest).certificate == portal.certificate


@pytest.mark.parametrize("rubbish", [b"", b"-----BEGIN", bytes(2000)])
def test_a_half_written_key_store_is_a_sentence_and_stays_as_it_is(home, door, rubbish, monkeypatch, capsys):
    manifest = preflight.load_manifest(home)
    enrol(home, manifest, door, TOKEN, PIN)
    home.key.write_bytes(rubbish)
    monkeypatch.setenv("CONSILIUM_PIN", PIN)
    assert main(["--home", str(home.root), "enrol", LINK]) == 2
    assert "move it away together with client.crt" in capsys.readouterr().err
    assert home.key.read_bytes() == rubbish


def test_the_command_enrols_once_with_link_and_pin_file(home, portal, tmp_path, capsys):
    (tmp_path / "pin").write_text("1234 5678\n")
    words = ["--home", str(home.root), "enrol", LINK, "--pin-file", str(tmp_path / "pin")]
    assert main(words) == 0
    assert "made here and stays here" in capsys.readouterr().out
    serial = portal.certificate.serial_number
    assert main(words) == 0
    assert "enrolled already" in capsys.readouterr().out
    assert portal.certificate.serial_number == serial


@pytest.mark.parametrize(
    ("link", "pin", "sentence"),
    [
        (LINK, "1234567", "has 8 digits; nothing was sent"),
        (LINK, "１２３４５６７８", "has 8 digits; nothing was sent"),
        (LINK, "", "has 8 digits; nothing was sent"),
        ("rubbish", PIN, "not the link of an invitation"),
        (LINK.removesuffix(f"{TOKEN}/"), PIN, "not the link of an invitation"),
        (LINK.replace("127.0.0.1:8080", "elsewhere.example"), PIN, "The link is of http://elsewhere.example"),
        ("http://127.0.0.1:8080/kits/" + "x" * 43, PIN, "does not know this link"),
    ],
)
def test_what_cannot_be_an_invitation_is_a_sentence(home, portal, link, pin, sentence, monkeypatch, capsys):
    monkeypatch.setenv("CONSILIUM_PIN", pin)
    assert main(["--home", str(home.root), "enrol", link]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1
    assert portal.token == TOKEN
    assert not home.certificate.exists()


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
