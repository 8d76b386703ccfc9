"""The page of a version's evidence: its controls as they are now, and the packs that were made."""

from typing import cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from platform_web.accounts.scope import role_required
from platform_web.audit.errors import UnwitnessedError
from platform_web.federation.models import Site
from platform_web.registry.errors import EvidenceError
from platform_web.registry.evidence import issuing
from platform_web.registry.evidence.case import Case
from platform_web.registry.evidence.control import assess
from platform_web.registry.evidence.controls import CONTROLS
from platform_web.registry.evidence.issuing import EVIDENCE_ROLES
from platform_web.registry.models import EvidencePack, ModelVersion

SHOWN = 20


@require_http_methods(["GET", "POST"])
@role_required(*EVIDENCE_ROLES)
def evidence(request: HttpRequest, pk: int) -> HttpResponse:
    """Controls are looked at when the page is: what fails here fails in a pack made now."""
    version = get_object_or_404(
        ModelVersion.objects.for_user(request.user).select_related("run__study"), pk=pk
    )
    if request.method == "POST":
        _ask(request, version)
        return redirect("evidence", pk=pk)
    packs = EvidencePack.objects.filter(version=version).select_related("asked_by")[:SHOWN]
    context = {
        "version": version,
        "run": version.run,
        "claims": assess(CONTROLS, Case(version, timezone.now())),
        "packs": packs,
        "waiting": any(not pack.made and not pack.error for pack in packs),
        "languages": Site.Language.choices,
        "language": get_language(),
    }
    return render(request, "registry/evidence.html", context)


def _ask(request: HttpRequest, version: ModelVersion) -> None:
    try:
        issuing.ask_for_pack(
            version=version, language=request.POST.get("language", ""), actor=cast("User", request.user)
        )
    except (EvidenceError, UnwitnessedError) as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("The pack is being made; it stands here in a moment."))


@require_GET
@role_required(*EVIDENCE_ROLES)
def download(request: HttpRequest, pack_id: str) -> HttpResponseBase:
    pack = get_object_or_404(
        EvidencePack.objects.for_user(request.user).select_related("version"), pk=pack_id
    )
    try:
        path = issuing.hand_over(pack=pack, actor=cast("User", request.user))
    except EvidenceError as error:
        messages.error(request, str(error))
        return redirect("evidence", pk=pack.version_id)
    name = f"evidence-{str(pack.version.run_id)[:8]}-{pack.version.arm}-{pack.asked:%Y%m%dT%H%M%SZ}.zip"
    return FileResponse(path.open("rb"), as_attachment=True, filename=name, content_type="application/zip")
