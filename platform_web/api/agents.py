"""The agents' endpoints: parse, authenticate, call one service, answer."""

import re
from typing import Annotated, Any

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, StringConstraints

from fl_jobs.packaging.spec import NAME_PATTERN
from platform_web.api.door import authenticate, endpoint, parse, read_body
from platform_web.api.problems import problem
from platform_web.federation import authority, places, services
from platform_web.federation.heartbeat import Heartbeat
from platform_web.federation.models import Site

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


@endpoint("GET")
def artifact(request: HttpRequest, digest: str) -> HttpResponseBase:
    """A shared model file by digest, for sites that took part in its run; for others it does not exist."""
    site: Site = authenticate(request, read_body(request))
    path = places.artifact(digest) if SHA256.fullmatch(digest) else None
    if path is None or not import_string(settings.ARTIFACT_POLICY)(site, digest) or not path.is_file():
        return problem(404, "not_found", _("There is no such model file for this site."))
    return FileResponse(path.open("rb"), content_type="application/octet-stream")
