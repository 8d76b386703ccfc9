"""The doctor: a healthy site has no finding, each injected fault is named by its own check, nothing leaks."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from fl_jobs.data import register
from site_kits.agent.__main__ import main
from site_kits.agent.doctor import CHECKS, Outcome, Patient, examine
from site_kits.agent.enrolment import enrol
from site_kits.agent.portal import PortalDoor
from site_kits.manifest import KitManifest
from site_kits.provisioning.ca import create_ca
from site_kits.site_home import SiteHome
from tests.site_kits.doctor_faults import FAULTS, SECRET, fault_bad_row, fault_expired, write_data
from tests.site_kits.site_doubles import PIN, TOKEN, Portal, serve_portal, unpack_kit

BAD = (Outcome.WARNING, Outcome.FAILED)


@pytest.fixture
def training(authority, tmp_path):
    """Stands for NVFlare's server: TLS with a certificate of the federation's root."""
    (tmp_path / "training").mkdir()
    server = serve_portal(tmp_path / "training", Portal(*authority))
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def other_authority():
    return create_ca("Inspection appliance")


@pytest.fixture
def stranger(other_authority, tmp_path):
    """A server between, with a certificate of its own root."""
    (tmp_path / "stranger").mkdir()
    server = serve_portal(tmp_path / "stranger", Portal(*other_authority))
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def site(portal, training, tmp_path, monkeypatch):
    """A healthy, enrolled site with data."""
    monkeypatch.setenv("CONSILIUM_MIN_MEMORY_MB", "1")
    home = unpack_kit(tmp_path / "site", portal, flare_port=training)
    manifest = KitManifest.read(home.site_json)
    door = PortalDoor(manifest.agents_url, home.root_ca)
    enrol(home, manifest, door, TOKEN, PIN)
    door.close()
    write_data(home)
    home.registered.mkdir()
    register(home.data / "cytology", home.registered)
    return home


def findings_of(home):
    patient = Patient(home)
    found = list(examine(patient, CHECKS))
    patient.close()
    return found


def wrong(home):
    """Codes of what is not in order, in the order of the report."""
    return [finding.code for finding in findings_of(home) if finding.outcome in BAD]


def test_a_healthy_site_has_no_finding(site):
    assert wrong(site) == []
    assert len(CHECKS) >= 25
    assert len({check.code for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.removeprefix("fault_"))
def test_a_fault_is_named_first_and_has_a_remedy(fault, site, portal, stranger, other_authority, monkeypatch):
    fault(
        site=site, portal=portal, stranger=stranger, other_authority=other_authority, monkeypatch=monkeypatch
    )  # fmt: skip
    found = [finding for finding in findings_of(site) if finding.outcome in BAD]
    assert found[0].code == FAULTS[fault], found
    sentence = found[0].sentence
    assert len(sentence) > 40
    assert "Error" not in sentence
    assert f"user:{SECRET}" not in sentence


def test_a_path_with_a_space_is_named_before_the_kit(site, tmp_path):
    moved = tmp_path / "my site"
    shutil.copytree(site.root, moved)
    assert wrong(SiteHome(moved))[0] == "folder_path"


def test_the_command_speaks_json_and_chinese_and_counts(site, monkeypatch, portal, capsys):
    assert main(["--home", str(site.root), "doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [row["code"] for row in found] == [check.code for check in CHECKS]
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    fault_expired(site, portal)
    assert main(["--home", str(site.root), "doctor", "--local"]) == 1
    said = capsys.readouterr().out
    assert "证书" in said
    assert "expired" not in said.lower()


def test_the_bundle_names_no_patient_and_no_path(site, tmp_path, capsys):
    site.logs.mkdir()
    (site.logs / "agent.log").write_text(f"2026-01-01 00:00:00,000 WARNING row of {SECRET}\n")
    fault_bad_row(site)
    bundle = tmp_path / "support.zip"
    assert main(["--home", str(site.root), "doctor", "--bundle", str(bundle)]) == 1
    assert "read it before you send it" in capsys.readouterr().err
    with zipfile.ZipFile(bundle) as archive:
        content = {name: archive.read(name).decode() for name in archive.namelist()}
    assert not any(SECRET in text or str(site.root) in text for text in content.values())
    assert json.loads(content["log_levels.json"]) == {"WARNING": 1}
    assert {"findings.json", "versions.json", "status.json", "log_levels.json"} == content.keys()


def test_a_folder_without_a_kit_is_examined_all_the_same(tmp_path, capsys):
    assert main(["--home", str(tmp_path), "doctor", "--local"]) == 1
    said = capsys.readouterr().out
    assert "is not a complete kit" in said
    assert "Traceback" not in said
    assert not any(Path(tmp_path).iterdir())
