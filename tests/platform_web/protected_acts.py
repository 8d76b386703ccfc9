"""Every door of the portal behind which something is done, each with one request that is allowed to do it.

``protected_world.build()`` makes its world without pytest, so that the proof of failing closed uses the same
list. A request is made when it is sent: nonces and one-time forms are fresh.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import timezone

from compliance.note import COSIGNATURE_V1, Checkpoint, sign, verifier_key
from platform_web.accounts.models import Role
from platform_web.audit.models import AuditEvent
from platform_web.federation import places
from platform_web.federation.models import Site
from platform_web.registry.models import EvidencePack, ModelVersion, Promotion, SiteModel
from site_kits.decisions import sign_decision
from site_kits.signing import sign_request
from tests.platform_web import world
from tests.platform_web.finished import sha
from tests.platform_web.protected_world import PASSWORD, World
from tests.platform_web.signed import csr

AGENT_MIDDLEWARE = settings.AGENT_MIDDLEWARE


@dataclass(frozen=True)
class Act:
    """``url``: the name of its URL (an action of the admin: ``admin:app_model action``)."""

    url: str
    send: Callable[[], object]


def post(client: Client, path: str, **fields: object) -> Callable[[], object]:
    return lambda: client.post(path, fields)


def by_agent(
    at: World, site: Site, method: str, path: str, body: Callable[[], bytes] = bytes
) -> Callable[[], object]:
    """A signed request at the agents' door."""
    serial = site.certificates.latest("created").serial

    def send() -> object:
        content = body()
        headers = sign_request(at.key, site=site.name, serial=serial, method=method, path=path, body=content)
        return at_agents_door(method, path, content, headers)

    return send


def at_agents_door(method: str, path: str, content: bytes, headers: dict[str, str] | None = None) -> object:
    with override_settings(ROOT_URLCONF="platform_web.agent_urls", MIDDLEWARE=AGENT_MIDDLEWARE):
        client = Client(raise_request_exception=False)
        return client.generic(method, path, content, content_type="application/json", headers=headers or {})


def people_acts(at: World) -> list[Act]:
    ann, (visitor, other) = at.clients["ann-1"], (at.visitor(), at.visitor())
    new = {
        "username": "nina",
        "role": Role.AUDITOR.value,
        "site": "",
        "password1": PASSWORD,
        "password2": PASSWORD,
    }
    twice = {"password1": PASSWORD + "!", "password2": PASSWORD + "!"}
    forgot = f"/people/{at.forgetful.pk}/password/"
    return [
        Act("login", post(visitor, "/accounts/login/", username="otto-1", password=PASSWORD)),
        Act("login refused", post(other, "/accounts/login/", username="otto-1", password="wrong")),
        *factor_acts(at),
        Act("add_person", post(ann, "/people/add/", **new)),
        Act("deactivate_person", post(ann, f"/people/{at.dana.pk}/deactivate/")),
        Act("change_password", post(at.clients["bea-1"], "/account/password/", current=PASSWORD, **twice)),
        Act("reset_password", post(ann, forgot, reason="forgot it in a tram", **twice)),
        Act("admin:auth_user deactivate", _action(ann, "auth/user", "deactivate", at.gone)),
        Act("logout", post(at.clients["otto-1"], "/accounts/logout/")),
        Act("admin_logout", post(at.clients["bea-1"], "/admin/logout/")),
    ]


def factor_acts(at: World) -> list[Act]:
    """Recovery codes and a wrong code: what does not depend on the moment at which it is sent."""
    own = "/account/second-factor/"
    off = {"password": PASSWORD, "code": at.codes["fred-1"][0]}
    lost = User.objects.get(username="flo-1")
    return [
        Act("second_factor", post(at.halfway, "/accounts/second-factor/", code="no code")),
        Act("enrol_factor", lambda: at.clients["fin-1"].post(own, {"code": at.new_phone.code()})),
        Act(
            "renew_recovery_codes",
            post(at.clients["fay-1"], "/account/recovery-codes/", code=at.codes["fay-1"][0]),
        ),
        Act("remove_factor", post(at.clients["fred-1"], f"{own}off/", **off)),
        Act(
            "reset_factor",
            post(
                at.clients["ann-1"], f"/people/{lost.pk}/second-factor/reset/", reason="phone lost in a tram"
            ),
        ),
    ]


def _action(client: Client, table: str, action: str, row: object) -> Callable[[], object]:
    return post(client, f"/admin/{table}/", action=action, _selected_action=[row.pk])


def site_acts(at: World) -> list[Act]:
    ann, reason = at.clients["ann-1"], "a laptop was lost"
    one, two = at.revocations
    new = {
        "name": "site-n",
        "title": "Hospital N",
        "organisation": "City",
        "language": "en",
        "contact": "it@n.example",
    }
    return [
        Act("add_site", post(ann, "/sites/add/", **new)),
        Act("new_kit", post(ann, "/sites/site-o/kit/")),
        Act("admin:federation_site suspend", _action(ann, "federation/site", "suspend", at.open)),
        Act("admin:federation_site resume", _action(ann, "federation/site", "resume", at.halted)),
        Act("suspend_site", post(ann, f"/sites/{at.open_too.name}/suspend/", reason=reason)),
        Act("resume_site", post(ann, "/sites/site-p/resume/")),
        Act("request_revocation", post(ann, "/sites/site-z/revocation/", reason=reason)),
        Act("confirm_revocation", post(ann, f"/revocations/{one.pk}/confirm/")),
        Act("withdraw_revocation", post(ann, f"/revocations/{two.pk}/withdraw/")),
        Act("kit", post(Client(raise_request_exception=False), at.fetched.path, pin=at.fetched.pin)),
    ]


def learning_acts(at: World) -> list[Act]:
    ann, dana, rows = at.clients["ann-1"], at.clients["dana-1"], at.rows
    study = {
        "slug": "second-study", "title": "A second study", "purpose": "Tell benign from malignant cells.",
        "dataset": "cytology", "kind": "tabular", "labels": "benign\nmalignant",
        "features": "radius\ntexture", "channels": 3, "height": 64, "width": 64, "teaching": "on",
    }  # fmt: skip
    run = {
        "study": rows.study.slug, "algorithm": "dbe", "model": "tabular_mlp", "rounds": 10, "seed": 7,
        "min_sites": 3, "sites": [site.name for site in at.sites],
    }  # fmt: skip
    other = SiteModel.objects.filter(site=at.sites[0], version__run=rows.done).exclude(
        pk=rows.promotions[0].site_model_id
    )
    version = rows.promotions[0].site_model.version
    pack = _made_pack(at, version)
    served, reason = Promotion.objects.get(site=at.sites[1], withdrawn=None), "worse on our cases"
    return [
        Act("add_study", post(dana, "/studies/add/", **study)),
        Act("add_run", post(dana, "/runs/add/", **run)),
        Act("start_with_approved", post(dana, f"/runs/{at.ready.pk}/start-with-approved/")),
        Act("answer_question", post(dana, f"/questions/{at.question.pk}/answer/", text="Once, by patient.")),
        Act("stop_run", post(dana, f"/runs/{rows.running.pk}/stop/")),
        Act("ticket", post(at.clients["cleo-1"], "/clinic/ticket/", promotion=rows.promotions[0].pk)),
        Act("evidence", post(ann, f"/models/{version.pk}/evidence/", language="en")),
        Act("download_evidence", lambda: ann.get(f"/evidence/{pack.pk}/")),
        Act("promote", post(ann, f"/site-models/{other.first().pk}/promote/", reason=reason)),
        Act("withdraw", post(ann, f"/promotions/{served.pk}/withdraw/", reason=reason)),
    ]


def _made_pack(at: World, version: ModelVersion) -> EvidencePack:
    """One whose file is there to be fetched."""
    now = timezone.now()
    places.evidence_zip(sha("pack")).write_bytes(b"a pack")
    return EvidencePack.objects.create(
        version=version, language="zh-hans", asked=now, asked_by=at.ann, made=now, zip_sha256=sha("pack")
    )


def agent_acts(at: World) -> list[Act]:
    a, last = at.sites[0], at.barred[3]
    renew = by_agent(at, at.renewing, "POST", "/agent/v1/renew")
    card = {
        "name": "heart", "kind": "tabular", "digest": sha("heart"), "labels": ["no", "yes"], "rows": 10,
        "parts": {"train": 6, "validation": 2, "test": 2}, "label_counts": {"no": 5, "yes": 5},
    }  # fmt: skip
    beat = {"agent_version": "1", "client": {"state": "running", "restarts": 0}, "datasets": [card]}
    statement = world.statement(at.asked, a, by="person")
    digest = at.rows.done.versions.exclude(shared_sha256="").first().shared_sha256
    shelf = places.artifact(digest)
    shelf.parent.mkdir(parents=True, exist_ok=True)
    shelf.write_bytes(b"weights")
    return [
        Act("agent-enrol", lambda: at_agents_door("POST", "/agent/v1/enrol", _enrolment(at))),
        Act("agent-renew", lambda: _due(renew)),
        Act("agent-heartbeat", by_agent(at, a, "POST", "/agent/v1/heartbeat", lambda: _json(beat))),
        Act(
            "agent-decision",
            by_agent(
                at,
                a,
                "POST",
                f"/agent/v1/requests/{at.asked.pk}/decision",
                lambda: _json(sign_decision(at.key, statement)),
            ),
        ),
        Act(
            "agent-question",
            by_agent(
                at,
                a,
                "POST",
                f"/agent/v1/requests/{at.asked.pk}/questions",
                lambda: _json({"id": str(uuid.uuid4()), "run_digest": at.asked.run_digest, "text": "Why?"}),
            ),
        ),
        Act("agent-artifact", by_agent(at, a, "GET", f"/agent/v1/artifacts/sha256/{digest}")),
        Act("agent-leave", by_agent(at, last, "POST", "/agent/v1/leave")),
    ]


def _due(send: Callable[[], object]) -> object:
    """As two thirds into the certificate's life."""
    with mock.patch(
        "platform_web.federation.services.certificates.renew_from", lambda held: held.not_valid_before_utc
    ):
        return send()


def log_acts(at: World) -> list[Act]:
    """At the log's own doors: those of sites, then those of auditors, who are audited themselves."""
    a, otto = at.sites[0], at.clients["otto-1"]
    witness = Ed25519PrivateKey.generate()
    name = f"{settings.CONSILIUM_FEDERATION}/{a.name}"
    anchored = sign(str(Checkpoint(f"{name}/log/2026", 5, b"\1" * 32)), f"{name}/log/2026", witness)
    entry = AuditEvent.objects.latest("number")
    return [
        Act(
            "log-witnesses",
            by_agent(
                at, a, "POST", "/audit/v1/witnesses",
                lambda: _json({"key": str(verifier_key(f"{name}/witness", witness, COSIGNATURE_V1))}),
            ),
        ),
        Act(
            "log-anchors",
            by_agent(
                at, a, "POST", "/audit/v1/anchors",
                lambda: _json({"checkpoint": str(anchored), "consistency": []}),
            ),
        ),
        Act("audit", lambda: otto.get("/audit/")),
        Act("audit_entry", lambda: otto.get(f"/audit/{entry.event_id}/")),
        Act("verify_audit", post(otto, "/audit/verify/")),
        Act("audit_entry_file", lambda: otto.get(f"/audit/{entry.event_id}/entry.json")),
        Act("audit_proof", lambda: otto.get(f"/audit/{entry.event_id}/proof.txt")),
        Act("audit_bundle", lambda: otto.get("/audit/bundle/", {"site": a.name})),
        Act("request_redaction", post(otto, f"/audit/{at.typed.event_id}/redaction/", basis="misplaced")),
        Act("close_redaction", post(at.clients["ann-1"], f"/redactions/{at.erasing.pk}/", answer="confirm")),
        Act(
            "log-evidence",
            by_agent(at, a, "POST", "/audit/v1/evidence", lambda: _json({"evidence": at.split})),
        ),
        Act(
            "log-overdue",
            by_agent(at, a, "POST", "/audit/v1/overdue", lambda: _json({"receipt": at.overdue})),
        ),
        Act("verify_entry", post(otto, f"/audit/{entry.event_id}/verify/")),
    ]  # fmt: skip


def acts(at: World) -> list[Act]:
    """In an order in which none spoils the next."""
    return [*learning_acts(at), *log_acts(at), *site_acts(at), *agent_acts(at), *people_acts(at)]


def _enrolment(at: World) -> bytes:
    name, invitation = at.invited.site.name, at.invited
    return _json(
        {"site": name, "token": invitation.token, "pin": invitation.pin, "csr_pem": csr(at.key, name)}
    )


def _json(content: object) -> bytes:
    return json.dumps(content).encode()
