"""A completed masked run as evidence needs it: enrolled sites, signed decisions, a co-signed log."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from compliance.note import COSIGNATURE_V1, cosign, verifier_key
from compliance.signer.core import Signer, create
from platform_web.accounts import services as accounts
from platform_web.accounts.models import Role
from platform_web.audit import witnessing
from platform_web.audit.sequencer import Sequencer
from platform_web.federation import founding, places
from platform_web.federation import services as federation
from platform_web.federation.models import Federation, Site
from platform_web.registry import services as registry
from platform_web.registry.models import ModelVersion, SiteModel
from platform_web.training import services as training
from platform_web.training.models import Run, RunApproval
from site_kits.decisions import sign_decision, verify_decision
from tests.platform_web import world
from tests.platform_web.finished import finish_line
from tests.platform_web.phones import enrol
from tests.platform_web.signed import csr

PASSWORD = "correct horse battery"
NAMES = ("site-a", "site-b", "site-c", "site-d")
SHARED = {arm: f"the shared part of {arm}".encode() for arm in ("global", "personal")}


@dataclass
class EvidenceWorld:
    """``witnesses``: site → its witness key; ``key``: the sites' RSA key."""

    folder: Path
    key: rsa.RSAPrivateKey

    def __post_init__(self) -> None:
        if not Federation.objects.exists():
            founding.found_federation()
        add = accounts.add_person
        self.ann = add(actor=None, username="ann-e", password=PASSWORD, role=Role.ADMINISTRATOR)
        self.dana = add(actor=None, username="dana-e", password=PASSWORD, role=Role.DATA_SCIENTIST)
        self.otto = add(actor=None, username="otto-e", password=PASSWORD, role=Role.AUDITOR)
        for person in (self.ann, self.otto):
            enrol(person)
        self.sites = [world.bring_online(self._enrolled(name)) for name in NAMES]
        create(self.folder / "log-key", f"{settings.CONSILIUM_FEDERATION}/audit")
        self.signer = Signer(self.folder / "log-key")
        self.sequencer = Sequencer(self.signer)
        self.witnesses = {name: Ed25519PrivateKey.generate() for name in NAMES}

    def close(self) -> None:
        self.signer.close()

    def _enrolled(self, name: str) -> Site:
        invitation = federation.invite_site(
            actor=self.ann, name=name, title=f"Hospital {name}", organisation="City"
        )
        federation.record_kit_built(kit=invitation.kit, zip_sha256="0" * 64)
        asked = {"token": invitation.token, "pin": invitation.pin, "csr_pem": csr(self.key, name)}
        federation.enrol_site(name=name, **asked)
        return Site.objects.get(name=name)

    def decide(self, run: Run) -> None:
        """Every site approves by its policy, signed, and verified as the agents' door does."""
        for site in self.sites:
            held = site.certificates.get()
            body = sign_decision(self.key, world.statement(run, site))
            statement = verify_decision(_certificate(held.pem), body["statement"], body["signature"])
            training.record_decision(
                site=site, statement=statement, signature=body["signature"], serial=held.serial
            )
        training.settle_approvals(run_id=str(run.pk))

    def complete(self, run: Run, lines, job_status="FINISHED:COMPLETED") -> ModelVersion:
        """Submitted, followed to its end, collected."""
        training.record_submitted(run_id=str(run.pk), epoch=1, job_id=f"job-{run.pk}-1")
        world.feed(run, lines)
        training.begin_collection(run_id=str(run.pk), job_status=job_status)
        registry.register_models(run_id=str(run.pk))
        return ModelVersion.objects.get(run=run, arm="personal")

    def completed(self) -> ModelVersion:
        run = world.asked_run(self.dana, world.open_study(self.dana), self.sites)
        self.decide(run)
        digests = {arm: store(data) for arm, data in SHARED.items()}
        names = [site.name for site in self.sites]
        lines = [
            {"kind": "start"},
            world.roster_line(names),
            *(world.round_line(n, names, masking=world.masking(names)) for n in range(1, 11)),
            finish_line(names, shared=digests),
        ]
        return self.complete(run, lines)

    def promote(self, version: ModelVersion) -> None:
        """At one site, with a reason: a short run may have proposed another arm."""
        chosen = SiteModel.objects.filter(version=version).first()
        registry.promote(site_model_id=chosen.pk, actor=self.ann, reason="to be looked at")

    def witness(self) -> None:
        """Every site has a witness key; the log is sequenced, signed and co-signed as it is."""
        for name, key in self.witnesses.items():
            text = str(verifier_key(witnessing.witness_name(name), key, COSIGNATURE_V1))
            witnessing.register_witness(site=name, key_text=text)
        while self.sequencer.step():
            pass
        head = self.sequencer.checkpoint()
        text = head.note.rpartition("\n\n")[0] + "\n"
        for name, key in self.witnesses.items():
            line = cosign(text, witnessing.witness_name(name), key, int(time.time()))
            witnessing.add_cosignature(site=name, size=head.size, line=str(line))

    def respecify(self, run: Run, **policy) -> None:
        """The run as if it had been started with another policy: its digest, and what the sites signed."""
        spec = run.run_spec()
        spec = spec.model_copy(update={"policy": spec.policy.model_copy(update=policy)})
        run.spec, run.run_digest = spec.model_dump(mode="json"), spec.digest()
        run.save(update_fields=["spec", "run_digest"])
        for site in self.sites:
            body = sign_decision(self.key, world.statement(run, site))
            RunApproval.objects.filter(run=run, site=site).update(**body)


def store(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    path = places.artifact(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest


def _certificate(pem: str):
    return x509.load_pem_x509_certificate(pem.encode())
