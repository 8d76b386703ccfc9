"""NVFlare's folders and the kit archive: what is in them, and what never is."""

import json
import stat
import zipfile
from pathlib import Path

import pytest

from site_kits.errors import ProvisioningError
from site_kits.manifest import KitManifest
from site_kits.provisioning import archive, flare_kit

FACTS = flare_kit.FederationFacts("demo", "server", "localhost", 8102)
ROOT = b"-----BEGIN CERTIFICATE-----\nroot\n"


@pytest.fixture
def site_folder(tmp_path) -> Path:
    flare_kit.write_site_kit_files(tmp_path / "site", FACTS, "hospital-a", "人民医院", ROOT)
    return tmp_path / "site"


@pytest.fixture
def server_folder(tmp_path) -> Path:
    flare_kit.write_server_kit(tmp_path / "server", FACTS, b"key", b"certificate", ROOT)
    return tmp_path / "server"


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_site_kit_holds_no_key_and_no_certificate_of_the_site(site_folder):
    names = {path.name for path in site_folder.rglob("*") if path.is_file()}
    assert not any(name.endswith(".key") for name in names)
    assert {name for name in names if name.endswith((".crt", ".pem"))} == {"rootCA.pem"}


@pytest.mark.parametrize(
    ("folder", "classes"),
    [("site_folder", []), ("server_folder", ["fl_jobs.flare.controller.ConsiliumController"])],
)
def test_a_job_may_load_nothing_but_our_controller_and_at_a_site_nothing_yet(folder, classes, request):
    resources = read(request.getfixturevalue(folder) / "local" / "resources.json")
    assert resources["class_allow_list"] == classes
    assert resources["class_list_enforcement_mode"] == "enforce"


@pytest.mark.parametrize("folder", ["site_folder", "server_folder"])
def test_nobody_may_bring_code_or_open_a_shell(folder, request):
    permissions = read(request.getfixturevalue(folder) / "local" / "authorization.json")["permissions"]
    assert set(permissions) == {"project_admin", "lead"}
    for role in permissions.values():
        assert role["byoc"] == role["shell_commands"] == "none"


def test_the_site_runs_our_filters_on_every_result(site_folder):
    privacy = read(site_folder / "local" / "privacy.json")
    (scope,) = privacy["scopes"]
    assert "default_scope" not in privacy
    assert [each["path"] for each in scope["task_result_filters"]] == [
        "fl_jobs.flare.policy_fence.PolicyFence",
        "fl_jobs.flare.site_filter.SharedTensorFilter",
    ]


def test_no_log_leaves_a_site(site_folder, server_folder):
    site, server = (
        (folder / "local" / "resources.json").read_text() for folder in (site_folder, server_folder)
    )
    assert "log_streamer" not in site
    assert "log_receiver" not in server
    assert json.loads(site)["allow_log_streaming"] is False


def test_the_server_stores_everything_below_its_folder(server_folder):
    text = (server_folder / "local" / "resources.json").read_text()
    assert "/tmp/nvflare" not in text
    assert text.count(str(server_folder)) == 2


def test_the_server_listens_only_on_loopback_when_told_so(tmp_path):
    facts = flare_kit.FederationFacts("demo", "server", "flare.example.org", 8102, listen_host="127.0.0.1")
    flare_kit.write_server_kit(tmp_path, facts, b"key", b"certificate", ROOT)
    target = read(tmp_path / "startup" / "fed_server.json")["servers"][0]["service"]["target"]
    assert target == "127.0.0.1:8102"


def test_jobs_must_be_signed_at_server_and_site(site_folder, server_folder):
    assert read(site_folder / "startup" / "fed_client.json")["require_signed_jobs"] is True
    assert read(server_folder / "startup" / "fed_server.json")["require_signed_jobs"] is True


def test_keys_on_our_side_are_readable_by_their_owner_only(server_folder, tmp_path):
    flare_kit.write_admin_kit(tmp_path / "ops", FACTS, "ops", b"key", b"certificate", ROOT)
    for key in (server_folder / "startup" / "server.key", tmp_path / "ops" / "startup" / "client.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ops").stat().st_mode) == 0o700
    assert read(tmp_path / "ops" / "startup" / "fed_admin.json")["admin"]["username"] == "ops"


def test_writing_the_server_kit_again_replaces_it(server_folder):
    flare_kit.write_server_kit(server_folder, FACTS, b"new key", b"certificate", ROOT)
    assert (server_folder / "startup" / "server.key").read_bytes() == b"new key"


@pytest.mark.parametrize(
    "wrong",
    [
        ("demo; rm", "server", "localhost", 1),
        ("demo", "server", "local host", 1),
        ("demo", "server", "localhost", 0),
    ],
)
def test_unusable_facts_are_refused_with_a_sentence(wrong):
    with pytest.raises(ProvisioningError, match=r"\.$"):
        flare_kit.FederationFacts(*wrong)


def test_a_site_name_with_shell_characters_is_refused(tmp_path):
    with pytest.raises(ProvisioningError, match="not usable as a site name"):
        flare_kit.write_site_kit_files(tmp_path, FACTS, "a$(id)", "x", ROOT)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def manifest() -> KitManifest:
    return KitManifest(
        site="hospital-a",
        title="Hospital A",
        organisation="人民医院",
        federation="demo",
        agents_url="https://localhost:8443",
        web_origin="http://127.0.0.1:8080",
        flare_host="localhost",
        flare_port=8102,
        server_name="server",
        root_fingerprint_sha256="0" * 64,
        ticket_keys=({"kid": "k1", "public_key": "A" * 43 + "="},),
        kit_expires="2030-01-01T00:00:00+00:00",
    )


@pytest.fixture
def make_archive(tmp_path, site_folder, manifest, monkeypatch):
    monkeypatch.setattr(archive, "TEMPLATES", tmp_path)
    (tmp_path / "start.sh").write_text("#!/bin/sh\n")
    (tmp_path / "README.txt").write_text("{site}")
    (tmp_path / "consilium-0.1.0-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "constraints.txt").write_text("numpy==2.4\n")

    def make(name: str = "kit.zip", **changed: object) -> Path:
        parts = {
            "manifest": manifest,
            "flare_folder": site_folder,
            "wheel": tmp_path / "consilium-0.1.0-py3-none-any.whl",
            "constraints": tmp_path / "constraints.txt",
        }
        archive.write_kit_archive(tmp_path / name, **(parts | changed))
        return tmp_path / name

    return make


def test_the_archive_has_the_parts_a_site_needs(make_archive):
    with zipfile.ZipFile(make_archive()) as kit:
        names = set(kit.namelist())
        assert stat.S_IMODE(kit.getinfo("start.sh").external_attr >> 16) == 0o755
        assert "enrolment.token" not in names
        assert kit.read("rootCA.pem") == ROOT
        assert kit.read("README.txt") == b"hospital-a"
    assert names >= {
        "site.json",
        "data/",
        "constraints.txt",
        "flare/startup/sub_start.sh",
        "flare/local/privacy.json",
    }


def test_the_same_contents_give_the_same_archive(make_archive):
    assert make_archive("one.zip").read_bytes() == make_archive("two.zip").read_bytes()


def test_the_archive_is_readable_by_its_owner_only(make_archive):
    assert stat.S_IMODE(make_archive().stat().st_mode) == 0o600


def test_a_key_among_the_files_stops_the_archive(make_archive, site_folder, tmp_path):
    (site_folder / "startup" / "client.key").write_bytes(b"secret")
    with pytest.raises(ProvisioningError, match=r"client\.key is a key"):
        make_archive()
    assert not (tmp_path / "kit.zip").exists()


def test_a_missing_wheel_is_named_with_its_setting(make_archive, tmp_path):
    with pytest.raises(ProvisioningError, match="CONSILIUM_WHEEL"):
        make_archive(wheel=tmp_path / "absent.whl")
