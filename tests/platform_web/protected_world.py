"""What one request at every door of the portal needs: people, sites, runs, models, a signed log."""

import json
import time
import uuid
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.test import Client
from django.utils import timezone
from django_otp import DEVICE_ID_SESSION_KEY

from compliance.canonical import canonical_bytes
from compliance.evidence_file import evidence_of
from compliance.note import Checkpoint, SignedNote, decode_base64, sign
from compliance.signer.core import Signer
from platform_web.accounts import pending
from platform_web.accounts import services as accounts
from platform_web.accounts.models import Role
from platform_web.audit import redaction, selectors
from platform_web.audit.models import AuditEvent
from platform_web.audit.sequencer import Sequencer
from platform_web.audit.signing import make_key
from platform_web.federation import founding, places
from platform_web.federation import services as federation
from platform_web.federation.models import Federation, Revocation, Site
from platform_web.training import services as training
from platform_web.training.models import Run, RunApproval, RunQuestion
from tests.platform_web import world
from tests.platform_web.phones import Phone, enrol
from tests.platform_web.signed import csr

PASSWORD = "correct horse battery"
BACKEND = "django.contrib.auth.backends.ModelBackend"


class World:
    """People, sites, runs and models, as much as one request at each door needs. Made once."""

    def __init__(self, key: rsa.RSAPrivateKey | None = None) -> None:
        self.key = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if not Federation.objects.exists():
            founding.found_federation()
        add = accounts.add_person
        self.ann, self.bea = (self._person(name, Role.ADMINISTRATOR) for name in ("ann-1", "bea-1"))
        self.dana = self._person("dana-1", Role.DATA_SCIENTIST)
        names = ("otto-1", "gone-1", "gus-1")
        self.otto, self.gone, self.forgetful = (self._person(name, Role.AUDITOR) for name in names)
        self.sites = [self._enrolled(name) for name in ("site-a", "site-b", "site-c")]
        self.rows = world.build(self.ann, self.dana, self.sites)
        soon = timezone.now() + timedelta(hours=1)  # still online when a slow machine comes to ask
        Site.objects.filter(pk__in=[site.pk for site in self.sites]).update(
            flare_seen_at=soon, heartbeat_at=soon
        )
        self.cleo = add(
            actor=None, username="cleo-1", password=PASSWORD, role=Role.CLINICIAN, site_id=self.sites[0].pk
        )
        self.asked = world.asked_run(self.dana, self.rows.study, self.sites)
        self.question = self._asked()
        self.ready = world.asked_run(self.dana, self.rows.study, self.sites)
        RunApproval.objects.filter(run=self.ready).update(state="APPROVED")
        RunApproval.objects.filter(run=self.ready, site=self.sites[2]).update(state="WAITING")
        Run.objects.filter(pk=self.ready.pk).update(min_sites=2, server_sees_updates=True)
        self.paused = self._plain("site-p", Site.Status.SUSPENDED)
        self.open, self.halted = self._plain("site-o"), self._plain("site-q", Site.Status.SUSPENDED)
        self.open_too = self._plain("site-u")
        self.barred = [self._enrolled(name) for name in ("site-x", "site-y", "site-z", "site-l")]
        self.revocations = [
            Revocation.objects.create(site=site, reason="a laptop was lost", requested_by=self.bea)
            for site in self.barred[:2]
        ]
        self.invited, self.fetched = self._invitation("site-i"), self._invitation("site-k")
        self.renewing = self._enrolled("site-r")
        self.typed, typed_too = (self._typed(site) for site in self.sites[:2])
        self.erasing = redaction.request_redaction(actor=self.otto, event=typed_too, basis="misplaced")
        self.split, self.overdue = seal_log(), unkept_receipt()
        self.clients = {person.username: self._signed_in(person) for person in self._people()}
        self._second_factors()

    def _asked(self) -> RunQuestion:
        return training.record_question(
            site=self.sites[0],
            run_id=str(self.asked.pk),
            run_digest=self.asked.run_digest,
            question_id=uuid.uuid4(),
            text="Does a patient count twice?",
        )

    def _people(self) -> list[object]:
        return [self.ann, self.bea, self.dana, self.otto, self.cleo, self.gone]

    def _person(self, name: str, role: Role) -> object:
        return accounts.add_person(actor=None, username=name, password=PASSWORD, role=role)

    def _signed_in(self, person: object) -> Client:
        client = self.visitor()
        client.force_login(person, backend=BACKEND)
        return client

    def _second_factors(self) -> None:
        """Fay, Fred and Flo have one, Flo is between password and code, Fin is about to enrol."""
        self.codes = {}
        for name in ("fay-1", "fred-1", "flo-1"):
            person = self._person(name, Role.DATA_SCIENTIST)
            _phone, self.codes[name] = enrol(person)
            self.clients[name] = self._signed_in(person)
            session = self.clients[name].session
            session[DEVICE_ID_SESSION_KEY] = person.second_factor.persistent_id
            session.save()
        self.halfway = self.visitor()
        self.halfway.post("/accounts/login/", {"username": "flo-1", "password": PASSWORD})
        session = self.halfway.session
        session[pending.KEY] = session[pending.KEY] | {"until": time.time() + 86_400}  # a long proof
        session.save()
        self.clients["fin-1"] = self._signed_in(self._person("fin-1", Role.DATA_SCIENTIST))
        page = self.clients["fin-1"].get("/account/second-factor/").content.decode()
        self.new_phone = Phone.shown(page)

    def _typed(self, site: Site) -> AuditEvent:
        """An entry with a body."""
        federation.suspend_site(actor=self.ann, site=site, reason="of Mr Zhang, room 4")
        entry = AuditEvent.objects.latest("number")
        federation.resume_site(actor=self.ann, site=site)
        return entry

    def visitor(self) -> Client:
        return Client(raise_request_exception=False, headers={"accept": "text/html"})

    def _plain(self, name: str, status: str = Site.Status.ENROLLED) -> Site:
        return Site.objects.create(name=name, title=f"Hospital {name}", organisation="City", status=status)

    def _invitation(self, name: str) -> federation.Invitation:
        invitation = federation.invite_site(
            actor=self.ann, name=name, title=f"Hospital {name}", organisation="City"
        )
        kit = invitation.kit
        places.private_folder(places.home() / "kits")
        places.kit_zip(kit.pk, "0" * 64).write_bytes(b"a kit")
        federation.record_kit_built(kit=kit, zip_sha256="0" * 64)
        return invitation

    def _enrolled(self, name: str) -> Site:
        invitation = self._invitation(name)
        asked = {"token": invitation.token, "pin": invitation.pin, "csr_pem": csr(self.key, name)}
        federation.enrol_site(name=name, **asked)
        return Site.objects.get(name=name)


def seal_log() -> str:
    """The entries so far get places and a signed head; returns evidence that its key signed two histories."""
    folder = Path(settings.CONSILIUM_HOME) / "signer"
    make_key()
    held = json.loads((folder / "key.json").read_text())
    key = Ed25519PrivateKey.from_private_bytes(decode_base64(held["key"]))
    signer = Signer(folder)
    sequencer = Sequencer(signer)
    while sequencer.step():
        pass
    sequencer.checkpoint()
    signer.close()
    head = selectors.latest_head()
    note = SignedNote.parse(head.note)
    origin = Checkpoint.parse(note.text).origin
    forged = sign(str(Checkpoint(origin, head.size, b"\7" * 32)), origin, key)
    return str(evidence_of(note, forged))


def unkept_receipt() -> str:
    """The log's signed promise of an entry that is not in it, and whose time is over."""
    held = json.loads((Path(settings.CONSILIUM_HOME) / "signer" / "key.json").read_text())
    key = Ed25519PrivateKey.from_private_bytes(decode_base64(held["key"]))
    promise = {"id": str(uuid4()), "leaf_hash": "0" * 64, "ts": "2026-01-01T00:00:00.000000Z"}
    text = canonical_bytes(promise | {"index": None, "within_s": 60}).decode() + "\n"
    origin = Checkpoint.parse(SignedNote.parse(selectors.latest_head().note).text).origin
    return str(sign(text, origin, key))


def build(key: rsa.RSAPrivateKey | None = None) -> World:
    return World(key)
