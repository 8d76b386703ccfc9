"""Pins of other sites' keys: what the operator types, what is refused, what a training job reads."""

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fl_jobs.errors import SiteHomeError
from fl_jobs.flare.site_home import PINS, note_seen, read_pins, read_seen, write_pins
from site_kits.agent.__main__ import main
from site_kits.agent.enrolment import enrol
from site_kits.agent.peers import grouped
from site_kits.agent.portal import PortalDoor
from site_kits.manifest import KitManifest
from tests.site_kits.site_doubles import PIN, TOKEN

KEY, OTHER = hashlib.sha256(b"riverside").hexdigest(), hashlib.sha256(b"lakeside").hexdigest()


@pytest.fixture
def site(home, portal):
    """An enrolled site, to which the portal named riverside's key: its own fingerprint."""
    portal.peers = {"riverside": KEY, "../etc": KEY, "lakeside": "rubbish"}
    manifest = KitManifest.read(home.site_json)
    door = PortalDoor(manifest.agents_url, home.root_ca)
    identity = enrol(home, manifest, door, TOKEN, PIN)
    door.close()
    spki = identity.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def run(home, *words: str) -> int:
    return main(["--home", str(home.root), *words])


def test_without_pins_the_command_says_who_vouches(home, site, capsys):
    assert run(home, "peers") == 0
    shown = capsys.readouterr().out
    assert grouped(site) in shown
    assert "CA alone" in shown
    assert read_pins(home.root) is None


def test_a_key_that_the_portal_named_is_a_suggestion_and_never_a_pin(home, site, capsys):
    assert run(home, "peers") == 0
    shown = capsys.readouterr().out
    assert "Not pinned yet. Ask for the fingerprint by phone" in shown
    assert grouped(KEY) in shown
    assert "rubbish" not in shown
    assert "etc" not in shown
    assert read_pins(home.root) is None
    assert run(home, "pin", "riverside", OTHER) == 0
    assert run(home, "peers") == 1
    assert "ANOTHER key by what the portal named" in capsys.readouterr().out
    assert read_pins(home.root) == {"riverside": OTHER}


def test_a_fingerprint_is_pinned_as_it_was_read_aloud(home, site, capsys):
    spoken = grouped(KEY).upper().split()
    assert run(home, "pin", "riverside", *spoken) == 0
    assert run(home, "pin", "lakeside", ":".join(OTHER[at : at + 2] for at in range(0, 64, 2))) == 0
    assert read_pins(home.root) == {"riverside": KEY, "lakeside": OTHER}
    assert json.loads((home.root / PINS).read_text()) == {
        "version": 1,
        "peers": {"riverside": KEY, "lakeside": OTHER},
    }
    capsys.readouterr()
    assert run(home, "peers") == 0
    assert grouped(KEY) in capsys.readouterr().out


def test_a_pinned_key_is_not_replaced_in_passing(home, site, capsys):
    assert run(home, "pin", "riverside", KEY) == 0
    assert run(home, "pin", "riverside", KEY) == 0
    assert run(home, "pin", "riverside", OTHER) == 2
    assert "unpin riverside" in capsys.readouterr().err
    assert read_pins(home.root) == {"riverside": KEY}
    assert run(home, "unpin", "riverside") == 0
    assert run(home, "pin", "riverside", OTHER) == 0
    assert read_pins(home.root) == {"riverside": OTHER}


@pytest.mark.parametrize(
    ("name", "fingerprint", "word"),
    [
        ("riverside", KEY[:-1], "63 characters"),
        ("riverside", KEY[:-1] + "g", "64 letters"),
        ("Riverside!", KEY, "no site's name"),
        ("twin", OTHER, "pinned for lakeside"),
    ],
)
def test_what_cannot_be_a_pin_changes_nothing(home, site, capsys, name, fingerprint, word):
    assert run(home, "pin", "lakeside", OTHER) == 0
    assert run(home, "pin", name, fingerprint) == 2
    assert word in capsys.readouterr().err
    assert read_pins(home.root) == {"lakeside": OTHER}


def test_a_site_does_not_pin_itself(home, site, capsys):
    name = KitManifest.read(home.site_json).site
    assert run(home, "pin", name, KEY) == 2
    assert run(home, "pin", "riverside", site) == 2
    assert "own key" in capsys.readouterr().err


def test_the_last_unpin_says_that_the_ca_vouches_again(home, site, capsys):
    assert run(home, "unpin", "riverside") == 2
    assert run(home, "pin", "riverside", KEY) == 0
    assert run(home, "unpin", "riverside") == 0
    assert "CA alone" in capsys.readouterr().out
    assert read_pins(home.root) is None


def test_peers_of_the_last_run_are_listed_until_they_are_pinned(home, site, capsys):
    own = KitManifest.read(home.site_json).site
    note_seen(home.root, {own: site, "riverside": KEY, "lakeside": OTHER})
    assert run(home, "peers") == 0  # nobody is pinned: a choice, not a fault
    assert "do not copy it" in capsys.readouterr().out
    assert run(home, "pin", "riverside", KEY) == 0
    assert run(home, "peers") == 1  # with pins, lakeside would be refused
    assert grouped(OTHER) in capsys.readouterr().out.split("Not pinned yet")[1]


def test_a_peer_that_came_with_another_key_is_shown(home, site, capsys):
    assert run(home, "pin", "riverside", KEY) == 0
    note_seen(home.root, {"riverside": OTHER})
    assert run(home, "peers") == 1
    assert "ANOTHER key" in capsys.readouterr().out


def test_a_site_without_certificate_has_no_fingerprint(home, capsys):
    assert run(home, "peers") == 2
    assert "no certificate yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"version": 2, "peers": {}}',
        b'{"version": 1, "peers": []}',
        b'{"version": 1, "peers": {}, "more": 1}',
        b'{"version": 1, "peers": {"riverside": "00"}}',
        b'{"version": 1, "peers": {"riverside": null}}',
        b'{"version": 1, "peers": {"../x": "%s"}}' % KEY.encode(),
        b'{"version": 1, "peers": {"r": "%s", "r": "%s"}}' % (KEY.encode(), OTHER.encode()),
        b'{"version": 1, "peers": {"riverside": "%s"}}' % KEY.upper().encode(),
        b'{"version": 1, "peers": {}}' + b" " * 1_000_001,
    ],
)
def test_a_bad_file_is_never_no_pins(home, site, content, capsys):
    (home.root / PINS).write_bytes(content)
    with pytest.raises(SiteHomeError):
        read_pins(home.root)
    for words in (["peers"], ["pin", "riverside", KEY], ["unpin", "riverside"]):
        assert run(home, *words) == 2
        assert PINS in capsys.readouterr().err
    assert (home.root / PINS).read_bytes() == content


def test_an_empty_list_of_pins_trusts_nobody(tmp_path):
    write_pins(tmp_path, {})
    assert read_pins(tmp_path) == {}


def test_an_unreadable_file_is_never_no_pins(tmp_path):
    (tmp_path / PINS).mkdir()
    with pytest.raises(SiteHomeError, match="cannot be read"):
        read_pins(tmp_path)


def test_what_was_seen_is_only_a_hint(tmp_path):
    note_seen(tmp_path, {})
    assert read_seen(tmp_path) == {}
    note_seen(tmp_path, {"riverside": KEY})
    (tmp_path / "state" / "secagg_seen.json").write_text("broken")
    note_seen(tmp_path, {"lakeside": OTHER})
    assert read_seen(tmp_path) == {"lakeside": OTHER}


def test_the_doctor_names_a_bad_file(home, site, capsys):
    (home.root / PINS).write_text("{}")
    run(home, "doctor", "--local")
    assert "NOT OK  pinned keys" in capsys.readouterr().out
