"""The agents' endpoints: parse, authenticate, call one service, answer."""

import re
from typing import Annotated, Any
from uuid import UUID

from cryptography import x509
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, StringConstraints

from fl_jobs.packaging.spec import NAME_PATTERN
from platform_web.api.door import authenticate, endpoint, parse, read_body, signing_certificate
from platform_web.api.problems import problem
from platform_web.federation import authority, places, selectors, services
from platform_web.federation.heartbeat import Heartbeat
from platform_web.federation.models import Site
from platform_web.registry import services as registry
from platform_web.training import requests
from platform_web.training import services as training
from site_kits.decisions import MAX_STATEMENT_BYTES, verify_decision
from site_kits.errors import SignatureError
from site_kits.signing import read_headers
from site_kits.talk import QuestionBody

SHA256 = re.compile(r"[0-9a-f]{64}")


class EnrolRequest(BaseModel):
    """The body of ``POST /agent/v1/enrol``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    site: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    token: Annotated[str, StringConstraints(min_length=20, max_length=200)]
    pin: Annotated[str, StringConstraints(min_length=1, max_length=20)]
    csr_pem: Annotated[str, StringConstraints(max_length=16_384)]


@endpoint("POST")
def enrol(request: HttpRequest) -> HttpResponseBase:
    """A certificate for the key the site made; not signed, one-time link and PIN speak for the site."""
    body = parse(EnrolRequest, read_body(request))
    enrolment = services.enrol_site(name=body.site, token=body.token, pin=body.pin, csr_pem=body.csr_pem)
    return _certificate_answer(enrolment)


@endpoint("POST")
def renew(request: HttpRequest) -> HttpResponseBase:
    """The certificate the signing site should have now; the body is empty, the signature says all."""
    certificate = signing_certificate(request, read_body(request))
    return _certificate_answer(services.renew_certificate(certificate=certificate))


@endpoint("POST")
def leave(request: HttpRequest) -> HttpResponseBase:
    """The signing site leaves the federation; its certificates are revoked by this."""
    services.leave_site(site=authenticate(request, read_body(request)))
    return JsonResponse({"left": True})


def _certificate_answer(enrolment: services.Enrolment) -> JsonResponse:
    answer = {
        "certificate_pem": enrolment.certificate_pem,
        "root_ca_pem": enrolment.root_ca_pem,
        "serial": enrolment.serial,
        "not_after": enrolment.not_after.isoformat(),
        "peers": enrolment.peers,
    }
    return JsonResponse(answer, status=201)


@endpoint("POST")
def heartbeat(request: HttpRequest) -> HttpResponseBase:
    """Keeps the report; answers what the site shall serve and which keys sign tickets."""
    raw = read_body(request)
    site = authenticate(request, raw)
    report, now = parse(Heartbeat, raw), timezone.now()
    services.admit_agent(site=site, instance=report.instance, now=now)
    services.record_heartbeat(site=site, heartbeat=report, now=now)
    answer: dict[str, Any] = {
        "server_time": now.isoformat(),
        "ticket_keys": [key.model_dump() for key in authority.public_ticket_keys()],
        "web_origin": settings.CONSILIUM_WEB_ORIGIN,
    }
    for name, provider in settings.HEARTBEAT_PROVIDERS.items():
        answer[name] = import_string(provider)(site)
    return JsonResponse(answer)


class DecisionBody(BaseModel):
    """The body of ``POST /agent/v1/requests/<run>/decision``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    statement: Annotated[str, StringConstraints(max_length=MAX_STATEMENT_BYTES)]
    signature: Annotated[str, StringConstraints(max_length=1024)]


@endpoint("GET")
def run_request(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """What a site is asked to approve; for sites that are not asked it does not exist."""
    site = authenticate(request, read_body(request))
    asked = requests.request_for(site, str(run_id))
    if asked is None:
        return problem(404, "not_found", _("This site is not asked about such a run."))
    return HttpResponse(asked.model_dump_json(), content_type="application/json")


@endpoint("POST")
def decision(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """A site's signed decision; the signed text itself is kept as evidence."""
    raw = read_body(request)
    site = authenticate(request, raw)
    body = parse(DecisionBody, raw)
    serial = read_headers(request.headers).serial
    certificate = x509.load_pem_x509_certificate(selectors.certificate_of(site.name, serial).pem.encode())
    statement = verify_decision(certificate, body.statement, body.signature)
    if statement.run_id != str(run_id):
        raise SignatureError(_("The decision is about another run than the one it was sent to."))
    row = training.record_decision(site=site, statement=statement, signature=body.signature, serial=serial)
    return JsonResponse({"state": row.state})


@endpoint("POST")
def question(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """What a site wants to know before it decides; the request stays open."""
    raw = read_body(request)
    site = authenticate(request, raw)
    body = parse(QuestionBody, raw)
    row = training.record_question(
        site=site, run_id=str(run_id), run_digest=body.run_digest, question_id=UUID(body.id), text=body.text
    )
    return JsonResponse({"id": str(row.pk)}, status=201)


@endpoint("GET")
def answers(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """What was answered to the calling site about a run; for sites that are not asked it does not exist."""
    site = authenticate(request, read_body(request))
    found = requests.answers_for(site, str(run_id))
    if found is None:
        return problem(404, "not_found", _("This site is not asked about such a run."))
    return HttpResponse(found.model_dump_json(), content_type="application/json")


@endpoint("GET")
def artifact(request: HttpRequest, digest: str) -> HttpResponseBase:
    """A shared model file by digest, for sites that took part in its run; for others it does not exist."""
    site: Site = authenticate(request, read_body(request))
    path = places.artifact(digest) if SHA256.fullmatch(digest) else None
    if path is None or not import_string(settings.ARTIFACT_POLICY)(site, digest) or not path.is_file():
        return problem(404, "not_found", _("There is no such model file for this site."))
    registry.record_delivery(site=site, digest=digest)
    return FileResponse(path.open("rb"), content_type="application/octet-stream")
