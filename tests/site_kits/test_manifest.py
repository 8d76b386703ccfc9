import json
from datetime import UTC, datetime

import pytest

from site_kits.errors import SiteKitError
from site_kits.manifest import KitManifest

FIELDS = {
    "site": "site-a",
    "title": "第一医院",
    "organisation": "City",
    "federation": "consilium",
    "agents_url": "https://localhost:8443",
    "web_origin": "http://127.0.0.1:8080",
    "flare_host": "localhost",
    "flare_port": 8102,
    "server_name": "localhost",
    "root_fingerprint_sha256": "0" * 64,
    "ticket_keys": [{"kid": "k1", "public_key": "A" * 43 + "="}],
    "kit_expires": "2026-11-30T00:00:00+00:00",
}


@pytest.fixture
def site_json(tmp_path):
    def write(**changes):
        path = tmp_path / "site.json"
        path.write_text(json.dumps(FIELDS | changes), encoding="utf-8")
        return path

    return write


def test_what_is_written_is_read_back(site_json, tmp_path):
    manifest = KitManifest.read(site_json())
    again = tmp_path / "again.json"
    again.write_text(manifest.model_dump_json(), encoding="utf-8")
    assert KitManifest.read(again) == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"site": "Site A"},
        {"agents_url": "http://localhost"},
        {"agents_url": "https://localhost/path"},
        {"flare_port": "8102"},
        {"flare_port": 0},
        {"surprise": 1},
        {"version": 2},
    ],
)
def test_another_manifest_is_refused_with_the_name_of_the_field(site_json, change):
    with pytest.raises(SiteKitError, match=next(iter(change))):
        KitManifest.read(site_json(**change))


def test_a_missing_manifest_is_a_sentence(tmp_path):
    with pytest.raises(SiteKitError, match="unpack the kit again"):
        KitManifest.read(tmp_path / "site.json")


def test_a_huge_manifest_is_not_read(tmp_path):
    path = tmp_path / "site.json"
    path.write_bytes(b" " * 100_000)
    with pytest.raises(SiteKitError, match="too large"):
        KitManifest.read(path)


def test_the_token_has_a_last_day(site_json):
    manifest = KitManifest.read(site_json())
    assert manifest.is_expired(datetime(2026, 12, 1, tzinfo=UTC))
    assert not manifest.is_expired(datetime(2026, 11, 29, tzinfo=UTC))
