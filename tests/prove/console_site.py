"""One site with its agent, started in a terminal as an operator does, beside a portal that speaks TLS."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_jobs.approval.egress import EgressLine, append_line
from fl_jobs.approval.records import answer_bytes, now
from fl_jobs.catalog import validate_hyper_parameters
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec, TensorSpec
from infra.demo.datasets import cytology, write_dataset
from site_kits.agent.requests import keep_request
from site_kits.provisioning.ca import create_ca
from site_kits.site_home import SiteHome
from tests.approvals import make_request
from tests.site_kits.dicom_doubles import write_dicom_folder
from tests.site_kits.site_doubles import LINK, PIN, Portal, serve_portal, unpack_kit, wait_until

PASSPHRASE = re.compile(r"shown this once: ([a-z0-9-]{24})")
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")
STUDY = "breast-cytology"


class ConsoleSite:
    """The folder of a site, what its terminal showed, and the portal that hears its heartbeats."""

    def __init__(self, home: SiteHome, portal: Portal) -> None:
        self.home, self.portal = home, portal
        self.screen = ""
        self.good_table = b""

    @property
    def url(self) -> str:
        return wait_until(lambda: ADDRESS.search(self.screen), 60)[0]

    @property
    def passphrase(self) -> str:
        return wait_until(lambda: PASSPHRASE.search(self.screen), 60)[1]

    def shared(self) -> list[str]:
        """Names of the data sets in the newest heartbeat that the portal verified."""
        return (
            [card["name"] for card in self.portal.heartbeats[-1]["datasets"]]
            if self.portal.heartbeats
            else []
        )

    def damage_table(self) -> None:
        """Four cells and a row that no study can use."""
        path = self.home.data / STUDY / "cases.csv"
        self.good_table = path.read_bytes()
        lines = self.good_table.decode().splitlines()
        for row, cell in ((3, "n/a"), (17, ""), (40, "1e99")):
            cells = lines[row].split(",")
            lines[row] = ",".join([cells[0], cell, *cells[2:]])
        lines[60] = lines[60].replace("benign", "bening").replace("malignant", "malignent")
        lines[75] += ",one too many"
        path.write_text("\n".join(lines) + "\n")

    def repair_table(self) -> None:
        (self.home.data / STUDY / "cases.csv").write_bytes(self.good_table)


@contextmanager
def console_site() -> Iterator[ConsoleSite]:
    """A site with a cytology table and a DICOM folder that nobody has described yet."""
    folder = Path(tempfile.mkdtemp(prefix="console-"))
    portal = Portal(*create_ca("Proof federation"))
    server = serve_portal(folder, portal)
    home = unpack_kit(folder / "site", portal, title="St Anna Hospital", organisation="Anna Foundation")
    (home.root / "policy.toml").write_text('version = 1\n[approval]\nmode = "ask"\n')
    study = cytology()
    write_dataset(study, study.sites[0], home.data / STUDY, data_home=None)
    (home.data / STUDY / "manifest.json").unlink()
    write_dicom_folder(home.data / "chest-images")
    site = ConsoleSite(home, portal)
    process = _start(site)
    try:
        yield site
    finally:
        process.terminate()
        process.wait(30)
        server.shutdown()
        server.server_close()
        shutil.rmtree(folder, ignore_errors=True)


def _start(site: ConsoleSite) -> "subprocess.Popen[bytes]":
    """``./start.sh`` in a terminal: only there does it show the passphrase."""
    ours, theirs = pty.openpty()
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = kept | {"CONSILIUM_PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
    environment["CONSILIUM_PIN"] = PIN
    process = subprocess.Popen(
        ["./start.sh", LINK], cwd=site.home.root, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                site.screen += data.decode(errors="replace")
        except OSError:  # the terminal is gone
            return

    threading.Thread(target=read, daemon=True).start()
    return process


def ask_twice(site: ConsoleSite) -> str:
    """Two runs ask the site, as if the heartbeat had brought them; the first was approved before."""
    about = {
        "study_title": "Breast cytology",
        "asked_by": "Dana (scientist)",
        "sites": ["hospital-a", "riverside", "lakeside"],
    }
    first = _described(_spec(rounds=10, rate=0.01))
    before = make_request(first, str(uuid.uuid4()), asked_at="2026-11-20T08:00:00+00:00", **about)
    keep_request(site.home, before)
    decision = {
        "run_id": before.run_id, "run_digest": before.run_digest, "approve": True, "by": "person",
        "person": "Olaf", "decided_at": "2026-11-20T09:00:00.000+00:00", "policy": {},
    }  # fmt: skip
    (site.home.root / "requests" / before.run_id / "decision.json").write_text(json.dumps(decision))
    for number in (1, 2, 3):
        append_line(site.home.root, _left(before.run_id, "secagg_reveal", number))
        append_line(site.home.root, _left(before.run_id, "train", number, first))
    append_line(site.home.root, _left(before.run_id, "finish", 3))
    request = make_request(
        _spec(rounds=12, rate=0.02).model_copy(update={"tensors": first.tensors}), str(uuid.uuid4()), **about
    )
    keep_request(site.home, request)
    return request.run_id


def _left(run_id: str, task: str, number: int, spec: RunSpec | None = None) -> EgressLine:
    """What the meter writes of a masked run: with ``spec`` its vector, else a message without numbers."""
    names = tuple(spec.shared()) if spec else ()
    return EgressLine(
        at=now(), run_id=run_id, job="1", task=task, round=number, tensors=names, tensor_count=len(names),
        masked=True, number_bytes=answer_bytes(spec, "train") if spec else 0, message_bytes=900,
        text_bytes=3200 if task == "finish" else 350,
    )  # fmt: skip


def _spec(*, rounds: int, rate: float) -> RunSpec:
    """A run on the cytology table; neither rounds nor rate change what leaves."""
    study = cytology()
    return RunSpec(
        study=StudySpec(
            slug=STUDY, purpose=study.purpose, dataset=STUDY, teaching=True,
            task=TaskSpec(kind="tabular", labels=study.labels, features=study.features),
        ),
        algorithm="dbe",
        hyper_parameters=validate_hyper_parameters("dbe", {"learning_rate": rate}),
        model=ModelSpec(name="tabular_mlp"),
        rounds=rounds,
        seed=1,
        min_sites=3,
        policy=PolicySpec(secure_aggregation=True),
    )  # fmt: skip


def _described(spec: RunSpec) -> RunSpec:
    """The run with its tensors, listed by the same program that the portal asks."""
    done = subprocess.run(
        [sys.executable, "-m", "fl_jobs.describe"], input=spec.canonical(), capture_output=True, check=True
    )
    tensors = tuple(
        TensorSpec.model_validate_json(json.dumps(one)) for one in json.loads(done.stdout)["tensors"]
    )
    return spec.model_copy(update={"tensors": tensors})
