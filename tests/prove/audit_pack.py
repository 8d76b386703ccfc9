"""TOPIC=audit, item 6: the evidence pack of a real run, whole and with one control turned off."""

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.prove.proof import Proof

MOST_S = 30.0
ROUNDS = 3
ITEM = "6"


def pack_item(proof: Proof) -> None:
    """In a database and home of its own; NVFlare's processes are ended before anything is checked."""
    with database() as folder, made(folder) as (world, version):
        check_whole(proof, world, version, folder)
        check_switches(proof, world, version)


@contextmanager
def database() -> Iterator[Path]:
    import django
    from django.conf import settings
    from django.test.utils import setup_databases, teardown_databases

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infra.settings.test")
    django.setup()
    old = setup_databases(0, interactive=False)
    try:
        with tempfile.TemporaryDirectory(prefix="consilium-pack-") as name:
            settings.CONSILIUM_HOME = Path(name) / "portal"
            settings.CONSILIUM_HOME.mkdir(mode=0o700)
            settings.CONSILIUM_SECOND_FACTOR = "required"  # as in production
            yield Path(name)
    finally:
        teardown_databases(old, 0)


@contextmanager
def made(folder: Path) -> Iterator[tuple[Any, Any]]:
    """Four sites, three masked rounds over NVFlare, the rows the portal makes of them, a promotion."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    from tests.platform_web.evidence_world import EvidenceWorld

    world = EvidenceWorld(folder, generate_private_key(public_exponent=65537, key_size=2048))
    try:
        version = real_version(world, folder)
        world.promote(version)
        world.witness()
        yield world, version
    finally:
        world.close()


def real_version(world: Any, folder: Path) -> Any:
    from fl_jobs.packaging.spec import TaskSpec
    from fl_jobs.simulate import with_tensors
    from platform_web.registry.artifacts import store_shared_parts
    from platform_web.registry.services import shared_digests
    from platform_web.training import services as training
    from platform_web.training.journal import FinishLine, read_line
    from platform_web.training.models import Run
    from tests.e2e.cytology import LABELS, features, write_site_data
    from tests.e2e.federation import Federation, admin_session, submit
    from tests.platform_web.evidence_world import NAMES
    from tests.platform_web.world import bring_online, open_study, request_for

    task = TaskSpec(kind="tabular", labels=LABELS, features=features())
    study = open_study(world.dana, task=task)
    for site in world.sites:  # setting up took longer than a heartbeat counts
        bring_online(site)
    run = training.start_run(actor=world.dana, study=study, request=request_for(world.sites, rounds=ROUNDS))
    training.record_spec(run_id=str(run.pk), spec=with_tensors(training.draft_spec(run)))
    run = Run.objects.get(pk=run.pk)
    world.decide(run)
    with Federation(folder / "federation") as federation:
        for index, name in enumerate(NAMES):
            federation.add_site(name)
            write_site_data(federation.site_home(name), index, len(NAMES))
        federation.start_server()
        federation.start_sites()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with admin_session(federation, "runs") as session:
                real = submit(federation, session, run.run_spec(), NAMES, run_id=str(run.pk))
                finish = real.wait_for("finish")
                status = real.wait_for_end()
        store_shared_parts(real.folder, shared_digests(read_line(FinishLine, finish)).values())
    return world.complete(run, real.lines, status)


def check_whole(proof: Proof, world: Any, version: Any, folder: Path) -> None:
    from django.utils import timezone

    from compliance.evidence.archive import problems_of
    from platform_web.registry.evidence.case import Case
    from platform_web.registry.evidence.pack import build_pack

    moment, began = timezone.now(), time.monotonic()
    pack = build_pack(Case(version, moment), "en")
    took = time.monotonic() - began
    proof.check(ITEM, "a pack of a real run is made", f"{took:.2f} s", f"≤ {MOST_S:g} s", took <= MOST_S)
    again = build_pack(Case(version, moment), "en").archive
    same = hashlib.sha256(again).hexdigest() == pack.archive_sha256
    proof.check(ITEM, "made twice, byte for byte", f"{len(again):,} bytes", "the same SHA-256", same)
    with zipfile.ZipFile(io.BytesIO(pack.archive)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
        archive.extractall(folder / "pack")
    wrong = problems_of(files)
    proof.check(
        ITEM, "every file has the digest of MANIFEST.json", f"{len(files)} files", "0 wrong", not wrong
    )
    proof.check(ITEM, "both DSSE envelopes", "Ed25519", "signed by the key in keys.json", signed(files))
    command = [sys.executable, "-I", "verify.py", "proofs/bundle.txt", "--policy", "proofs/policy.txt"]
    done = subprocess.run(
        command, cwd=folder / "pack", env={"PYTHONPATH": ""}, capture_output=True, text=True
    )
    said = done.stdout.strip().splitlines()[:1]
    proof.check(ITEM, "its own verify.py, offline, nothing installed", said, "exit 0", done.returncode == 0)


def signed(files: dict[str, bytes]) -> bool:
    import json

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from compliance.evidence.dsse import open_envelope
    from compliance.evidence.statement import PAYLOAD_TYPE
    from platform_web.registry.evidence.pack import MANIFEST_TYPE

    public = bytes.fromhex(json.loads(files["keys.json"])["evidence_ed25519_hex"])
    key = Ed25519PublicKey.from_public_bytes(public)
    open_envelope(files["provenance.intoto.jsonl"], PAYLOAD_TYPE, key)
    return open_envelope(files["MANIFEST.dsse.json"], MANIFEST_TYPE, key) == files["MANIFEST.json"]


def check_switches(proof: Proof, world: Any, version: Any) -> None:
    """Each control the other way round: in the whole pack, of the sentences, exactly its own changes."""
    from django.utils import timezone

    from platform_web.registry.evidence.controls import CONTROLS
    from platform_web.registry.models import ModelVersion
    from tests.platform_web.evidence_switches import switched

    moment = timezone.now()
    before = sentences(version, moment)
    for control in CONTROLS:
        with switched(control.name, world, version):
            after = sentences(ModelVersion.objects.get(pk=version.pk), moment)
        changed = {
            name for name in before["en"] for lang in before if before[lang][name] != after[lang][name]
        }
        moved = before["en"][control.name]["holds"] != after["en"][control.name]["holds"]
        both = all(before[lang][control.name]["text"] != after[lang][control.name]["text"] for lang in before)
        printed = all(
            one["printed"] for found in (before, after) for rows in found.values() for one in rows.values()
        )
        figure = f"{sorted(changed)}: {after['en'][control.name]['text']}"
        passed = changed == {control.name} and moved and both and printed
        proof.check(ITEM, f"{control.name} turned over", figure, "this sentence alone, en and zh", passed)


def sentences(version: Any, moment: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Language → control → its sentence in a pack made now, and whether the printed report says it."""
    import html
    import json

    from platform_web.registry.evidence.case import Case
    from platform_web.registry.evidence.pack import build_pack

    found: dict[str, dict[str, dict[str, Any]]] = {}
    for language in ("en", "zh-hans"):
        pack = build_pack(Case(version, moment), language)
        report = html.unescape(pack.files["report.html"].decode())
        found[language] = {
            one["control"]: {
                "holds": one["holds"],
                "text": one["sentence"],
                "printed": one["sentence"] in report,
            }
            for one in json.loads(pack.files["controls.json"])
        }
    return found


def prove(*, full: bool = False, only: list[str] | None = None) -> int:
    """``python -m tests.prove.audit_pack`` shows this item alone."""
    proof = Proof("audit-pack")
    return proof.run({ITEM: lambda: pack_item(proof)}, only or [], Path("var/prove"))


if __name__ == "__main__":
    sys.exit(prove())
