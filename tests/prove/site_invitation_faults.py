"""What goes wrong with invitations, at real kits against the running portal: one sentence, nothing lost."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from infra.demo.datasets import DemoSite
from tests.prove.campaign import Campaign
from tests.prove.operator_hands import Terminal
from tests.prove.proof import Proof

SITE = DemoSite("lakeside", "Lakeside Hospital", "Lakeside Trust", "south", index=1)
DAY_S = 86_400
# another clock for one process, below Python and OpenSSL
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *t) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(id, t);
  if (id == CLOCK_REALTIME && getenv("CLOCK_OFFSET_S")) t->tv_sec += atol(getenv("CLOCK_OFFSET_S"));
  return code;
}
time_t time(time_t *t) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (t) *t = now.tv_sec;
  return now.tv_sec;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec;
  t->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"""


@dataclass(frozen=True)
class Enrolled:
    """The site that runs in ``terminal``, and the invitation it used."""

    home: Path
    terminal: Terminal
    link: str
    pin: str


def prove_bad_input(proof: Proof, run: Campaign, enrolled: Enrolled, *, guesses: int) -> None:
    proof.section("bad", lambda: used_link(proof, run, enrolled))
    home = run.machine.sites_home / SITE.name
    proof.section("bad", lambda: late_and_replaced(proof, run, home))
    proof.section("bad", lambda: wrong_pins(proof, run, home))
    proof.section("bad", lambda: guesses_at_once(proof, run, home, guesses))
    proof.section("bad", lambda: wrong_clock(proof, run, home))
    proof.section("bad", lambda: foreign_requests(proof, run, home))
    proof.section("bad", lambda: half_written(proof, run, home))
    proof.section("bad", lambda: two_agents(proof, run, enrolled))


def command(home: Path, *words: str, pin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """``consilium-site`` as the operator starts it."""
    environment = {"PATH": os.environ["PATH"], "CONSILIUM_PIN": pin, **more}
    agent = [sys.executable, "-P", "-m", "site_kits.agent", "--home", str(home), *words]
    return subprocess.run(agent, env=environment, capture_output=True, text=True, timeout=120, check=False)


def said(proof: Proof, what: str, done: subprocess.CompletedProcess[str], words: str) -> None:
    """One sentence with ``words`` in it and status 2."""
    text = done.stderr.strip()
    good = done.returncode == 2 and words in text and len(text.splitlines()) == 1
    proof.check("bad", what, f"“{text}”", f"status 2, one line with “{words}”", good)


def invited(run: Campaign, home: Path, *, again: bool) -> dict[str, str]:
    """Link and PIN for ``home``, whose kit is unpacked once and serves for every later invitation."""
    invitation = run.journey.invite(run.journey.person("administrator"), SITE, again=again)
    if not home.exists():
        run.journey.fetch_kit(home, **invitation)
    return invitation


def used_link(proof: Proof, run: Campaign, enrolled: Enrolled) -> None:
    """The same link and kit on a second machine, which makes a key of its own."""
    archive = next(run.machine.sites_home.glob("consilium-kit-*.zip"))
    second = run.machine.sites_home / "second"
    with zipfile.ZipFile(archive) as kit:
        kit.extractall(second)
    link, pin = enrolled.link, enrolled.pin
    said(
        proof, "link used before, by another key", command(second, "enrol", link, pin=pin), "was used before"
    )
    page = httpx.get(link)
    shown = page.status_code == 410 and "was used" in page.text
    proof.check("bad", "the used link's page", f"HTTP {page.status_code}", "410 with a sentence", shown)


def late_and_replaced(proof: Proof, run: Campaign, home: Path) -> None:
    first = invited(run, home, again=False)
    with sqlite3.connect(run.machine.portal_home / "db.sqlite3", timeout=20) as rows:  # 72 hours in no time
        rows.execute(
            "UPDATE federation_kit SET link_expires = '2026-01-01 00:00:00' WHERE enrolled_at IS NULL"
        )
    said(proof, "link over", command(home, "enrol", first["link"], pin=first["pin"]), "72 hours are over")
    second = invited(run, home, again=True)
    said(proof, "link replaced", command(home, "enrol", first["link"], pin=first["pin"]), "replaced")
    unknown = second["link"][:-10] + "xxxxxxxxx/"
    said(proof, "link unknown", command(home, "enrol", unknown, pin=second["pin"]), "does not know this link")
    said(proof, "no link at all", command(home, "run"), "Start it with the link")


def wrong_pins(proof: Proof, run: Campaign, home: Path) -> None:
    link, pin = invited(run, home, again=True).values()
    said(proof, "PIN with a digit missing", command(home, "enrol", link, pin=pin[:-1]), "has 8 digits")
    wrong = f"{(int(pin.replace(' ', '')) + 1) % 10**8:08d}"
    for left in ("4 attempts are left", "3 attempts are left", "2 attempts are left", "one attempt is left"):
        said(proof, "wrong PIN", command(home, "enrol", link, pin=wrong), left)
    said(proof, "the fifth wrong PIN", command(home, "enrol", link, pin=wrong), "locked")
    said(proof, "the right PIN afterwards", command(home, "enrol", link, pin=pin), "locked")
    page = httpx.get(link)
    shown = page.status_code == 410 and "five wrong PINs" in page.text
    proof.check("bad", "the locked link's page", f"HTTP {page.status_code}", "410 with a sentence", shown)


def door(run: Campaign, home: Path, **body: str) -> tuple[int, dict[str, str]]:
    """What the agents' door answers to an enrolment made by hand."""
    url = f"https://localhost:{run.machine.facts['agents_port']}/agent/v1/enrol"
    answer = httpx.post(url, json=body, verify=str(home / "rootCA.pem"), timeout=60, trust_env=False)
    return answer.status_code, answer.json()


def guesses_at_once(proof: Proof, run: Campaign, home: Path, guesses: int) -> None:
    link, pin = invited(run, home, again=True).values()
    token, right = link.rstrip("/").rsplit("/", 1)[1], int(pin.replace(" ", ""))

    def guess(number: int) -> str:
        tried = f"{(right + 1 + number) % 10**8:08d}"
        code = "busy"
        while code == "busy":  # refused unread, since the log was held for too long: the guesser tries again
            code = door(run, home, site=SITE.name, token=token, pin=tried, csr_pem="x")[1]["code"]
        return code

    with ThreadPoolExecutor(8) as pool:
        codes = Counter(pool.map(guess, range(guesses)))
    good = codes == {"pin": 4, "locked": guesses - 4}
    proof.check("bad", f"{guesses} wrong PINs at the same time", dict(codes), "4 counted, then locked", good)


def wrong_clock(proof: Proof, run: Campaign, home: Path) -> None:
    if not shutil.which("gcc"):
        proof.note("bad", "a clock a day off was not shown: that needs gcc")
        return
    source, library = run.folder / "clock.c", run.folder / "clock.so"
    source.write_text(CLOCK, encoding="ascii")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    link, pin = invited(run, home, again=True).values()
    for offset_s, words in ((DAY_S, "24 h 0 min ahead of"), (-DAY_S, "This machine's clock says")):
        more = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_S": str(offset_s)}
        what = f"clock {abs(offset_s) // 3600} h {'fast' if offset_s > 0 else 'slow'}"
        said(proof, what, command(home, "enrol", link, pin=pin, **more), words)


def request(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def foreign_requests(proof: Proof, run: Campaign, home: Path) -> None:
    """With the right link and PIN; afterwards the same link still enrols its own site."""
    link, pin = invited(run, home, again=True).values()
    token = link.rstrip("/").rsplit("/", 1)[1]
    good = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    elliptic = ec.generate_private_key(ec.SECP256R1())
    for what, csr, status in (
        ("request for another site's name", request(good, "riverside"), 409),
        ("request with an RSA key of 1024 bits", request(weak, SITE.name), 422),
        ("request with an elliptic-curve key", request(elliptic, SITE.name), 422),
    ):
        code, answer = door(run, home, site=SITE.name, token=token, pin=pin, csr_pem=csr)
        proof.check("bad", what, f"{code} “{answer['detail']}”", f"{status} with a sentence", code == status)
    done = command(home, "enrol", link, pin=pin)
    proof.check("bad", "the link still enrols its own site", done.returncode, "0", done.returncode == 0)


def half_written(proof: Proof, run: Campaign, home: Path) -> None:
    """A key file cut off by a full disk or a power cut; then one that is gone."""
    startup = home / "flare" / "startup"
    key, whole = startup / "client.key", (startup / "client.key").read_bytes()
    key.write_bytes(whole[:300])
    said(proof, "key file cut off", command(home, "run"), "Restore it from your backup")
    proof.check(
        "bad", "and it stays as it is", key.stat().st_size, "300 bytes", key.read_bytes() == whole[:300]
    )
    key.unlink()
    said(proof, "key file gone", command(home, "run"), "private key")
    proof.check("bad", "no new key beside the old certificate", key.exists(), "False", not key.exists())
    (startup / "client.crt").write_bytes(b"-----BEGIN CERT")
    said(proof, "certificate cut off, key gone", command(home, "run"), "private key")
    key.write_bytes(whole)
    link, pin = invited(run, home, again=True).values()
    done = command(home, "enrol", link, pin=pin)
    proof.check("bad", "a new invitation repairs it", done.returncode, "0", done.returncode == 0)


def two_agents(proof: Proof, run: Campaign, enrolled: Enrolled) -> None:
    """The site's folder copied: on the same machine, then as on another one, which knows no pids."""
    copy = enrolled.home.with_name("copied")
    shutil.copytree(enrolled.home, copy, symlinks=True)
    said(proof, "a copy of the folder, same machine", command(copy, "run"), "already running here")
    for name in ("agent.lock", "children.json"):
        (copy / "state" / name).unlink(missing_ok=True)
    began = time.monotonic()
    done = command(copy, "run")
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    good = done.returncode == 2 and "Another agent with this site's key" in last
    claim = f"a copy on another machine, told after {time.monotonic() - began:.0f} s"
    proof.check("bad", claim, f"“{last}”", "status 2 and a sentence", good)
    ann = run.journey.person("administrator")
    shown = 'id="twin"' in ann.page("/sites/riverside/")
    proof.check("bad", "the portal's page of the site says it", shown, "True", shown)
    enrolled.terminal.look(0)
    run.journey.wait_online(["riverside"])
    alive = enrolled.terminal.process.poll() is None
    proof.check("bad", "the first agent is still at work and green", alive, "True", alive)
