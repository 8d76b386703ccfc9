"""A kit unpacked in a temporary folder and a portal that speaks the agents' door over real TLS."""

import base64
import hashlib
import json
import os
import shutil
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from PIL import Image

from site_kits.certificate_dates import renew_from
from site_kits.errors import CertificateRequestError, SignatureError
from site_kits.manifest import KitManifest
from site_kits.provisioning.ca import (
    fingerprint_sha256,
    issue_server_certificate,
    renew_site_certificate,
    sign_site_csr,
)
from site_kits.signing import verify_request
from site_kits.site_home import SiteHome
from tests.site_kits.log_double import PortalLog

SITE = "hospital-a"
TOKEN, PIN = "token-of-the-invitation-1", "12345678"
LINK = f"http://127.0.0.1:8080/kits/{TOKEN}/"
TICKET_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
START_SH = Path(__file__).parents[2] / "site_kits" / "provisioning" / "templates" / "start.sh"
# stands for NVFlare's client: a parent and a job process in a session of its own, which may ignore SIGTERM
CLIENT = """#!/usr/bin/env bash
setsid bash -c '[ -e stubborn ] && trap "" TERM; while true; do sleep 0.2; done' &
exec sleep 600
"""


def public_text(private_key) -> str:
    """The base64 text of an Ed25519 key's public half, as in site.json."""
    return base64.b64encode(private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


@dataclass
class Portal:
    """The agents' door: what it was asked, and what it answers."""

    ca_key: rsa.RSAPrivateKey
    ca_cert: x509.Certificate
    token: str = TOKEN
    pin: str = PIN
    peers: dict = field(default_factory=dict)
    twin: bool = False
    orders: list = field(default_factory=list)
    artifacts: dict = field(default_factory=dict)
    heartbeats: list = field(default_factory=list)
    pending: list = field(default_factory=list)  # requests; their bodies lie among the artifacts by run id
    decisions: list = field(default_factory=list)
    decision_answer: tuple = (200, {"state": "APPROVED"})
    questions: list = field(default_factory=list)  # (run id, body) as they came in
    question_answer: tuple = (201, {})
    answers: dict = field(default_factory=dict)  # run id → what was answered
    languages: list = field(default_factory=list)  # Accept-Language of what came in, None where none did
    refused: list = field(default_factory=list)
    certificate: x509.Certificate | None = None
    clock_offset_s: float = 0.0
    issue_for: str = SITE
    lifetime: timedelta = timedelta(days=90)
    busy: int = 0  # so many enrolments are refused, with nothing done
    barred: str = ""  # why the site's certificate does not count
    left: list = field(default_factory=list)
    url: str = ""
    log: PortalLog | None = None

    @property
    def root_pem(self) -> bytes:
        return self.ca_cert.public_bytes(Encoding.PEM)

    def answer(self, method, path, headers, body):
        self.languages.append({name.lower(): text for name, text in headers.items()}.get("accept-language"))
        if path == "/agent/v1/enrol":
            return self._enrol(json.loads(body))
        known = ("h", "renew", "leave", "artifacts/", "requests/")
        if not path.startswith((*(f"/agent/v1/{name}" for name in known), "/audit/v1/")):
            return 404, {"detail": "nothing here"}
        if self.barred:
            return 401, {"detail": f"This site is {self.barred}.", "code": self.barred}
        try:
            verify_request(self.certificate, headers, method=method, path=path, body=body, now=time.time())
        except SignatureError as exc:
            self.refused.append(str(exc))
            return 401, {"detail": str(exc), "code": "signature"}
        return self._admitted(path, headers, body)

    def _admitted(self, path, headers, body):
        if path.startswith("/audit/v1/"):
            return self.log.answer(path, body) if self.log else (404, {"detail": "no log yet"})
        if path == "/agent/v1/heartbeat" and self.twin:
            return 409, {"detail": "Another agent is at work.", "code": "twin"}
        if path == "/agent/v1/heartbeat":
            self.heartbeats.append(json.loads(body))
            return 200, {
                "server_time": datetime.fromtimestamp(time.time() + self.clock_offset_s, UTC).isoformat(),
                "serve": self.orders,
                "ticket_keys": [{"kid": "k1", "public_key": public_text(TICKET_KEY)}],
                "web_origin": "http://127.0.0.1:8080",
                "requests": self.pending,
                "answers": [{"run": run, "answered": len(all_)} for run, all_ in self.answers.items()],
            }
        if path.endswith("/decision"):
            self.decisions.append(json.loads(body))
            return self.decision_answer
        if path.endswith("/questions"):
            self.questions.append((path.split("/")[-2], json.loads(body)))
            return self.question_answer
        if path.endswith("/answers"):
            return 200, {"answers": self.answers.get(path.split("/")[-2], [])}
        if path == "/agent/v1/renew":
            return self._renew()
        if path == "/agent/v1/leave":
            self.left.append(headers["X-Consilium-Serial"])
            return 200, {"left": True}
        data = self.artifacts.get(path.rsplit("/", 1)[1])
        return (200, data) if data is not None else (404, {"detail": "not here"})

    def _enrol(self, body):
        if self.busy:
            self.busy -= 1
            return 503, {"detail": "The portal cannot write its audit log now.", "code": "refused"}
        if body["token"] != self.token:
            return 401, {"detail": "This link is not known here.", "code": "token"}
        if body["pin"] != self.pin:
            return 401, {"detail": "This is not the PIN; 4 attempts are left.", "code": "pin"}
        try:
            pem = sign_site_csr(
                self.ca_key, self.ca_cert, body["csr_pem"].encode(),
                site=self.issue_for, organisation="Hospital A", lifetime=self.lifetime,
            )  # fmt: skip
        except CertificateRequestError as exc:
            return 409, {"detail": str(exc), "code": "name"}
        self.token = ""
        return self._issued(pem)

    def _renew(self):
        """As the portal: the same one again until it is due, then another for the same key."""
        pem = self.certificate.public_bytes(Encoding.PEM)
        if datetime.now(UTC) >= renew_from(self.certificate):
            pem = renew_site_certificate(
                self.ca_key,
                self.ca_cert,
                pem,
                site=SITE,
                organisation="Hospital A",
                lifetime=timedelta(days=90),
            )
        return self._issued(pem)

    def _issued(self, pem):
        self.certificate = x509.load_pem_x509_certificate(pem)
        return 201, {
            "certificate_pem": pem.decode(),
            "root_ca_pem": self.root_pem.decode(),
            "serial": format(self.certificate.serial_number, "x"),
            "not_after": self.certificate.not_valid_after_utc.isoformat(),
            "peers": self.peers,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    portal: Portal

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        status, content = self.portal.answer(self.command, self.path, dict(self.headers), body)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _serve

    def date_time_string(self, timestamp=None):
        return super().date_time_string((timestamp or time.time()) + self.portal.clock_offset_s)

    def log_message(self, *_arguments):
        pass


def serve_portal(folder: Path, portal: Portal) -> ThreadingHTTPServer:
    """Serve on a free loopback port with a certificate of the portal's root; ``portal.url`` is set."""
    key_pem, cert_pem = issue_server_certificate(portal.ca_key, portal.ca_cert, "agents", ["localhost"])
    (folder / "agents.pem").write_bytes(cert_pem + key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "agents.pem")
    handler = type("Handler", (_Handler,), {"portal": portal})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    portal.url = f"https://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def unpack_kit(
    folder: Path, portal: Portal, *, site: str = SITE, client: str = CLIENT, **changes
) -> SiteHome:
    """What a site finds after unpacking its kit."""
    facts = {
        "site": site,
        "title": "Hospital A",
        "organisation": "Hospital A",
        "federation": "test",
        "agents_url": portal.url or "https://localhost:9",
        "web_origin": "http://127.0.0.1:8080",
        "flare_host": "localhost",
        "flare_port": 9,
        "server_name": "server",
        "root_fingerprint_sha256": fingerprint_sha256(portal.root_pem),
        "ticket_keys": [{"kid": "k1", "public_key": public_text(TICKET_KEY)}],
        "kit_expires": (datetime.now(UTC) + timedelta(days=3)).isoformat(),
    } | changes
    manifest = KitManifest.model_validate_json(json.dumps(facts))
    (folder / "flare" / "startup").mkdir(parents=True)
    (folder / "flare" / "local").mkdir()
    (folder / "flare" / "startup" / "sub_start.sh").write_text(client)
    (folder / "flare" / "startup" / "fed_client.json").write_text("{}")
    (folder / "site.json").write_text(manifest.model_dump_json())
    (folder / "rootCA.pem").write_bytes(portal.root_pem)
    (folder / "constraints.txt").write_text("")
    (folder / "data").mkdir()
    shutil.copy(START_SH, folder / "start.sh")
    return SiteHome(folder)


def environment(**more):
    """What start.sh needs of the machine: an interpreter that has this package."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH") if key in os.environ}
    return kept | {"CONSILIUM_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | more


def add_cytology(home: SiteHome, name: str = "cytology") -> None:
    """A small tabular data folder."""
    folder = home.data / name
    folder.mkdir()
    (folder / "manifest.json").write_text(
        json.dumps(
            {
                "name": name,
                "kind": "tabular",
                "file": "cases.csv",
                "label": "diagnosis",
                "features": ["a", "b"],
                "labels": ["benign", "malignant"],
            }
        )
    )
    rows = [f"{i},{i * i % 7},{'malignant' if i % 3 == 0 else 'benign'}" for i in range(30)]
    (folder / "cases.csv").write_text("\n".join(["a,b,diagnosis", *rows]) + "\n")


def wait_until(condition, timeout_s: float = 15.0):
    """Wait for ``condition()`` to be true and return it; fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {timeout_s} s: {condition}")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def add_images(home: SiteHome, count: int = 200, name: str = "cytology") -> None:
    """A data folder of small, distinct images in place of what was there."""
    folder = home.data / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = ["path,label,group"]
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]},p{number}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    manifest = {"name": name, "kind": "image", "file": "labels.csv", "labels": ["a", "b"], "group": "group"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
