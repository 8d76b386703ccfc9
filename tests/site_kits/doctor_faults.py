"""What can go wrong at a site, injected one by one, with the check that has to name it."""

import errno
import json
import resource
import shutil
import socket
import sys
from datetime import UTC, datetime, timedelta
from importlib import metadata

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fl_jobs.data import register
from fl_jobs.flare.site_home import PINS
from site_kits.agent import portal as portal_module
from site_kits.agent.doctor import machine
from site_kits.agent.enrolment import load_or_make_key
from tests.site_kits.site_doubles import SITE, add_images

SECRET = "patient-4711"


def write_data(home, rows=400, name="cytology"):
    """Enough distinct cases of both labels, every patient with one row."""
    folder = home.data / name
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "name": name, "kind": "tabular", "file": "cases.csv", "label": "diagnosis", "group": "patient",
        "features": ["a", "b"], "labels": ["benign", "malignant"],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    lines = [f"{SECRET}-{i},{i},{i * i % 7},{'malignant' if i % 2 else 'benign'}" for i in range(rows)]
    (folder / "cases.csv").write_text("\n".join(["patient,a,b,diagnosis", *lines]) + "\n")


def change(home, **facts):
    site = json.loads(home.site_json.read_text())
    home.site_json.write_text(json.dumps(site | facts))


def issue(home, portal, *, days=90, name=SITE, key=None, ca=None):
    """Put a certificate like the portal's in place, different in one thing."""
    ca_key, ca_cert = ca or (portal.ca_key, portal.ca_cert)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(ca_cert.subject)
        .public_key((key or load_or_make_key(home)).public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=200))
        .not_valid_after(now + timedelta(days=days, hours=1))
    )
    home.certificate.write_bytes(builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fault_old_python(site, monkeypatch, **_):
    monkeypatch.setattr(sys, "executable", str(site.root / "bin" / "python"))


def fault_old_package(monkeypatch, **_):
    real = metadata.version
    monkeypatch.setattr(machine.metadata, "version", lambda name: "1.0" if name == "torch" else real(name))


def fault_read_only_folder(monkeypatch, **_):
    def refuse(**_options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)


def fault_full_disk(monkeypatch, **_):
    monkeypatch.setenv("CONSILIUM_MIN_FREE_MB", "999999999")


def fault_little_memory(monkeypatch, **_):
    monkeypatch.setenv("CONSILIUM_MIN_MEMORY_MB", "999999999")


def fault_few_open_files(monkeypatch, **_):
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 4096))


def fault_lost_card(site, monkeypatch, **_):
    tool = site.root / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")


def fault_wished_card(monkeypatch, **_):
    monkeypatch.setenv("CONSILIUM_DEVICE", "cuda:7")


def fault_taken_port(monkeypatch, stranger, **_):
    monkeypatch.setenv("CONSILIUM_INFERENCE_PORT", str(stranger))


def fault_huge_logs(site, **_):
    site.logs.mkdir()
    with (site.logs / "other.log").open("wb") as file:
        file.truncate(2**30 + 1)  # sparse


def fault_incomplete_kit(site, **_):
    (site.flare / "startup" / "sub_start.sh").unlink()


def fault_mistyped_policy(site, **_):
    change(site, policy={"share_site_metrcs": True})


def fault_mixed_kits(site, other_authority, **_):
    site.root_ca.write_bytes(other_authority[1].public_bytes(Encoding.PEM))


def fault_late_kit(site, **_):
    site.certificate.unlink()
    change(site, kit_expires=(datetime.now(UTC) - timedelta(days=1)).isoformat())


def fault_no_certificate(site, **_):
    site.certificate.unlink()


def fault_open_key(site, **_):
    site.key.chmod(0o644)


def fault_lost_key(site, **_):
    site.key.unlink()


def fault_half_written_key(site, **_):
    site.key.write_bytes(site.key.read_bytes()[:200])


def fault_other_site(site, portal, **_):
    issue(site, portal, name="hospital-z")


def fault_other_key(site, portal, **_):
    issue(site, portal, key=portal.ca_key)


def fault_other_root(site, portal, other_authority, **_):
    issue(site, portal, ca=other_authority)


def fault_damaged_certificate(site, **_):
    site.certificate.write_bytes(b"-----BEGIN")


def fault_expired(site, portal, **_):
    issue(site, portal, days=-2)


def fault_expires_soon(site, portal, **_):
    issue(site, portal, days=3)


def fault_damaged_pins(site, **_):
    (site.root / PINS).write_text("{")


def fault_unknown_portal(site, **_):
    change(site, agents_url="https://portal.invalid")


def fault_dead_proxy(site, portal, monkeypatch, **_):
    change(site, agents_url=portal.url.replace("localhost", "127.0.0.2"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:{closed_port()}")


def fault_closed_portal(site, **_):
    change(site, agents_url=f"https://localhost:{closed_port()}")


def fault_inspected_portal(site, stranger, **_):
    change(site, agents_url=f"https://localhost:{stranger}")


def fault_wrong_clock(monkeypatch, **_):
    class Fast:
        @staticmethod
        def time():
            import time

            return time.time() + 3600

    monkeypatch.setattr(portal_module, "time", Fast)


def fault_unknown_training_server(site, **_):
    change(site, flare_host="training.invalid")


def fault_closed_training_server(site, **_):
    change(site, flare_port=closed_port())


def fault_inspected_training_server(site, stranger, **_):
    change(site, flare_port=stranger)


def fault_no_data(site, **_):
    shutil.rmtree(site.data)


def fault_broken_manifest(site, **_):
    (site.data / "cytology" / "manifest.json").write_text("{")


def fault_escaping_manifest(site, **_):
    path = site.data / "cytology" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"file": "../../site.json"}))


def fault_bad_row(site, **_):
    path = site.data / "cytology" / "cases.csv"
    path.write_text(path.read_text() + f"{SECRET}-x,many,1,benign\n")


def fault_missing_image(site, **_):
    add_images(site)
    register(site.data / "cytology", site.registered)
    (site.data / "cytology" / "7.png").unlink()


def fault_changed_data(site, **_):
    path = site.data / "cytology" / "cases.csv"
    path.write_text(path.read_text() + f"{SECRET}-x,1000,1,benign\n")


def fault_not_registered(site, **_):
    (site.registered / "cytology.json").unlink()


def fault_patient_on_two_sides(site, **_):
    path = site.data / "cytology" / "cases.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, f"{SECRET}-0,5000,1,benign"]) + "\n")
    register(site.data / "cytology", site.registered)
    known = json.loads((site.registered / "cytology.json").read_text())
    known["parts"][-1] = "test" if known["parts"][0] == "train" else "train"
    (site.registered / "cytology.json").write_text(json.dumps(known))


def fault_same_image_on_two_sides(site, **_):
    add_images(site)
    folder = site.data / "cytology"
    for number in range(1, 200):
        shutil.copy(folder / "0.png", folder / f"{number}.png")
    register(folder, site.registered)


def fault_policy_with_a_typo(site, **_):
    (site.root / "policy.toml").write_text("[output]\nmax_round = 3\n")


def fault_policy_that_is_a_folder(site, **_):
    (site.root / "policy.toml").mkdir()


def fault_few_cases(site, **_):
    write_data(site, rows=60)
    register(site.data / "cytology", site.registered)


FAULTS = {
    fault_old_python: "python", fault_old_package: "packages", fault_read_only_folder: "folder_rights",
    fault_full_disk: "disk", fault_little_memory: "memory", fault_few_open_files: "open_files",
    fault_lost_card: "graphics_card", fault_wished_card: "graphics_card", fault_taken_port: "prediction_port",
    fault_huge_logs: "log_size", fault_policy_with_a_typo: "policy", fault_policy_that_is_a_folder: "policy",
    fault_incomplete_kit: "kit_files", fault_mistyped_policy: "site_json",
    fault_mixed_kits: "root_certificate", fault_late_kit: "enrolment", fault_no_certificate: "enrolment",
    fault_open_key: "private_key", fault_lost_key: "private_key", fault_half_written_key: "private_key",
    fault_other_site: "certificate", fault_other_key: "certificate", fault_other_root: "certificate",
    fault_damaged_certificate: "certificate", fault_expired: "certificate_days",
    fault_expires_soon: "certificate_days", fault_damaged_pins: "pinned_keys",
    fault_unknown_portal: "portal_name", fault_dead_proxy: "proxy", fault_closed_portal: "portal_port",
    fault_inspected_portal: "portal_certificate", fault_wrong_clock: "clock",
    fault_unknown_training_server: "training_name", fault_closed_training_server: "training_port",
    fault_inspected_training_server: "training_certificate", fault_no_data: "data",
    fault_broken_manifest: "data_manifests", fault_escaping_manifest: "data_rows", fault_bad_row: "data_rows",
    fault_missing_image: "data_files", fault_changed_data: "data_registered",
    fault_not_registered: "data_registered", fault_patient_on_two_sides: "data_patients",
    fault_same_image_on_two_sides: "data_duplicates", fault_few_cases: "label_counts",
}  # fmt: skip
