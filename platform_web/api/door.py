"""What agent endpoints share: a body of at most 1 MiB, a schema, a signature, problems, no errors."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from cryptography import x509
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.http.request import UnreadablePostError
from django.utils import timezone
from django.utils.translation import activate, get_language
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from pydantic import BaseModel, ValidationError

from platform_web.api.problems import problem
from platform_web.audit import deadlines
from platform_web.audit.errors import UnfitError
from platform_web.audit.outages import refusal_page
from platform_web.federation import selectors, services
from platform_web.federation.errors import (
    EnrolmentTokenError,
    KitLockedError,
    LinkUsedError,
    PinWrongError,
    SetupError,
    TwinAgentError,
    UnknownSiteError,
)
from platform_web.federation.models import Certificate, Site
from platform_web.outbox.errors import PortalError
from site_kits.errors import CertificateRequestError, ForeignNameError, MasterKeyError, SignatureError
from site_kits.signing import read_headers, verify_request
from site_kits.translation import speak, speaking

PROBLEMS: dict[type[Exception], tuple[int, str]] = {  # the first that fits
    LinkUsedError: (401, "used"),
    EnrolmentTokenError: (401, "token"),
    PinWrongError: (401, "pin"),
    KitLockedError: (401, "locked"),
    SignatureError: (401, "signature"),
    TwinAgentError: (409, "twin"),
    ForeignNameError: (409, "other_name"),
    CertificateRequestError: (422, "certificate_request"),
    UnfitError: (422, "unfit"),
}
T = TypeVar("T", bound=BaseModel)
View = Callable[..., HttpResponseBase]
log = logging.getLogger(__name__)


class BodyError(Exception):
    """The body is not what this endpoint takes."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


def endpoint(method: str) -> Callable[[View], View]:
    """One method; everything the layers below raise on purpose becomes a problem document."""

    def decorate(view: View) -> View:
        @csrf_exempt  # machines bring a signature, not a cookie
        @wraps(view)
        def guarded(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            if request.method != method:
                response = problem(405, "wrong_method", _("Use %(method)s.") % {"method": method})
                response["Allow"] = method
                return response
            try:
                with speaking(_spoken()):
                    return view(request, **kwargs)
            except (BodyError, PortalError, SignatureError, CertificateRequestError, MasterKeyError) as error:
                return _problem_of(error)
            except (OperationalError, InterfaceError) as error:
                return refusal_page(request, error)

        return guarded

    return decorate


def _spoken() -> str:
    """The language of this request, as the packages below Django name it."""
    return "zh" if (get_language() or "").startswith("zh") else "en"


def _speak_to(site: Site, request: HttpRequest) -> None:
    """An agent that names no language is answered in the one its site was invited in."""
    if not request.headers.get("Accept-Language"):
        activate(site.language)
        speak(_spoken())


def _problem_of(error: Exception) -> JsonResponse:
    if isinstance(error, BodyError):
        return problem(error.status, error.code, error.detail)
    if isinstance(error, UnknownSiteError):
        return problem(401, error.code, str(error))
    for kind, (status, code) in PROBLEMS.items():
        if isinstance(error, kind):
            return problem(status, code, str(error))
    if isinstance(error, MasterKeyError | SetupError):
        log.error("%s", error)
        return problem(503, "not_set_up", _("The portal cannot do this now. Tell its administrator."))
    return problem(409, "refused", str(error))


def read_body(request: HttpRequest) -> bytes:
    """The body; the limit is the door's DATA_UPLOAD_MAX_MEMORY_SIZE. Raises BodyError."""
    try:
        return request.body
    except RequestDataTooBig as error:
        raise BodyError(
            413, "too_large", _("The request is larger than 1 MiB. Nothing was changed.")
        ) from error
    except UnreadablePostError as error:
        raise BodyError(400, "cut_short", _("The request was cut short. Send it again.")) from error


def parse(model: type[T], body: bytes) -> T:
    """The body as ``model``. Raises BodyError naming the first field that is wrong."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or _("the body")
        detail = _("%(field)s: %(reason)s. Nothing was changed.") % {"field": where, "reason": first["msg"]}
        raise BodyError(422, "invalid", detail[:500]) from error


def authenticate(request: HttpRequest, body: bytes) -> Site:
    """The site that signed this request. Raises SignatureError or UnknownSiteError."""
    return signing_certificate(request, body).site


def signing_certificate(request: HttpRequest, body: bytes) -> Certificate:
    """The certificate that signed this request. Raises SignatureError or UnknownSiteError.

    The nonce is used up last: a request that fails does not burn a genuine one's nonce. With the first use of
    a renewed certificate the one before it counts no more.
    """
    now = timezone.now()
    claimed = read_headers(request.headers)
    certificate = selectors.certificate_of(claimed.site, claimed.serial)
    _speak_to(certificate.site, request)
    verify_request(
        x509.load_pem_x509_certificate(certificate.pem.encode()),
        request.headers,
        method=request.method or "",
        path=request.get_full_path(),
        body=body,
        now=now.timestamp(),
    )
    if not services.use_nonce(site=certificate.site, nonce=claimed.nonce, now=now):
        raise SignatureError(_("This request was sent before. Send a new one with a new nonce."))
    deadlines.begin_act()  # a nonce that is used up is no effect
    if certificate.renewal_of is not None and certificate.renewal_of.replaced_at is None:
        services.note_certificate_used(certificate=certificate)
    return certificate
