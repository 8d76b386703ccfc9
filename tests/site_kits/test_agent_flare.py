"""A kit as the portal packs it, unpacked and started, against a real NVFlare server."""

import json
import os
import signal
import subprocess
import sys
import zipfile

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from site_kits.agent.processes import mark_of, marked_processes
from site_kits.manifest import KitManifest
from site_kits.provisioning.archive import write_kit_archive
from site_kits.provisioning.flare_kit import write_site_kit_files
from site_kits.site_home import SiteHome, read_state
from tests.e2e.federation import REGISTERED, Federation
from tests.site_kits.site_doubles import (
    LINK,
    PIN,
    SITE,
    Portal,
    add_cytology,
    serve_portal,
    unpack_kit,
    wait_until,
)

pytestmark = pytest.mark.e2e


def pack(folder, federation, portal):
    """The kit's zip, made by the product's own code."""
    template = unpack_kit(folder / "template", portal, flare_port=federation.port)
    manifest = KitManifest.read(template.site_json)
    flare = folder / "flare"
    write_site_kit_files(flare, federation.facts, SITE, "Hospital A", portal.root_pem)
    wheel = folder / "consilium-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"")
    archive = folder / "kit.zip"
    write_kit_archive(
        archive,
        manifest=manifest,
        flare_folder=flare,
        wheel=wheel,
        constraints=template.root / "constraints.txt",
    )
    return archive


def start(home):
    environment = {"PATH": os.environ["PATH"], "CONSILIUM_PYTHON": sys.executable, "CONSILIUM_PIN": PIN}
    with (home.root / "screen.txt").open("ab") as screen:
        return subprocess.Popen(
            ["bash", "./start.sh", LINK],
            cwd=home.root,
            env=environment,
            stdout=screen,
            stderr=subprocess.STDOUT,
        )


def registrations(home):
    log = home.logs / "client.log"
    return log.read_text(errors="replace").count(REGISTERED) if log.exists() else 0


def test_an_unpacked_kit_joins_training_and_a_killed_client_joins_again(tmp_path):
    with Federation(tmp_path) as federation:
        portal = Portal(federation.ca_key, federation.ca_cert)
        server = serve_portal(tmp_path, portal)
        home = SiteHome(tmp_path / "unpacked")
        with zipfile.ZipFile(pack(tmp_path, federation, portal)) as archive:
            archive.extractall(home.root)
        add_cytology(home)
        federation.start_server()
        agent = start(home)
        try:
            issued = wait_until(lambda: portal.certificate, timeout_s=40)
            federation.allowed.add(SITE, issued.public_bytes(Encoding.PEM))  # the real portal does it
            wait_until(lambda: registrations(home) == 1, timeout_s=40)
            wait_until(lambda: portal.heartbeats)
            assert json.loads(home.site_json.read_text())["site"] == SITE
            # a second's grace lets the parent write its pid before the kill
            first = read_state(home.state / "children.json")["client"]["pid"]
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: registrations(home) == 2, timeout_s=60)
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(timeout=12) == 0
            assert marked_processes([mark_of(home, "client"), mark_of(home, "inference")]) == []
        finally:
            if agent.poll() is None:
                agent.kill()
                agent.wait(timeout=5)
            for process in marked_processes([mark_of(home, "client"), mark_of(home, "inference")]):
                process.kill()
            server.shutdown()
            server.server_close()
