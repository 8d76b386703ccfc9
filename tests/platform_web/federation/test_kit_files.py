import stat
import zipfile

import pytest

from platform_web.federation import kit_files, places, services
from platform_web.federation.errors import KitError, KitNotReadyError, PinWrongError
from platform_web.federation.models import Kit
from platform_web.outbox import runner
from platform_web.outbox.models import Task
from site_kits.manifest import KitManifest


@pytest.fixture
def wheel(settings, tmp_path):
    for name, file in (
        ("CONSILIUM_WHEEL", "consilium-0-py3-none-any.whl"),
        ("CONSILIUM_CONSTRAINTS", "c.txt"),
    ):
        path = tmp_path / file
        path.write_bytes(b"x")
        setattr(settings, name, str(path))


@pytest.fixture
def built(wheel, invite):
    invitation = invite()
    assert runner.run_all_due() == 1
    invitation.kit.refresh_from_db()
    return invitation


def test_the_worker_builds_a_kit_that_holds_no_secret(built):
    kit = built.kit
    path = places.kit_zip(kit.pk, kit.zip_sha256)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        manifest = KitManifest.model_validate_json(archive.read("site.json"))
        content = b"".join(archive.read(name) for name in names)
    assert manifest.site == "site-a"
    for secret in (built.token, built.pin, "PRIVATE KEY"):
        assert secret.encode() not in content
    assert not [name for name in names if name.endswith(".key")]
    assert {"start.sh", "rootCA.pem", "flare/startup/fed_client.json"} <= set(names)
    assert sorted(path.parent.iterdir()) == [path]


def test_a_kit_is_built_once(built):
    before = Kit.objects.values().get()
    kit_files.build_kit(built.kit)
    assert Kit.objects.values().get() == before


def test_a_kit_is_taken_with_the_pin_and_stays_until_a_newer_one_is_built(built, ann):
    for _again in range(2):
        kit, file = kit_files.take_kit(built.token, built.pin)
        with file:
            assert zipfile.is_zipfile(file)
    with pytest.raises(PinWrongError):
        kit_files.take_kit(built.token, "x")
    services.issue_kit(actor=ann, site=built.site)
    runner.run_all_due()
    assert not places.kit_zip(kit.pk, kit.zip_sha256).exists()


def test_a_lost_file_is_a_sentence(built):
    places.kit_zip(built.kit.pk, built.kit.zip_sha256).unlink()
    with pytest.raises(KitError, match="new invitation"):
        kit_files.take_kit(built.token, built.pin)


def test_a_kit_without_a_wheel_fails_with_a_sentence_that_the_sheet_shows(invite, settings):
    settings.CONSILIUM_WHEEL = ""
    invitation = invite()
    runner.run_all_due()
    assert "CONSILIUM_WHEEL" in Task.objects.get().last_error
    with pytest.raises(KitNotReadyError, match="CONSILIUM_WHEEL"):
        kit_files.take_kit(invitation.token, invitation.pin)


def test_the_kit_of_a_replaced_link_is_not_built(wheel, invite, ann):
    invitation = invite()
    services.issue_kit(actor=ann, site=invitation.site)
    runner.run_all_due()
    assert [kit.built_at is None for kit in Kit.objects.order_by("created")] == [True, False]
