"""The log's endpoints for sites: they witness it, anchor their own in it, and read what concerns them."""

from collections.abc import Callable
from functools import wraps
from typing import Annotated, TypeVar
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from compliance import merkle
from compliance.evidence_file import MAX_TEXT_BYTES
from compliance.note import MAX_SIZE, encode_base64
from compliance.signer.core import SignerError
from platform_web.api.door import BodyError, View, authenticate, endpoint, parse, read_body
from platform_web.api.problems import problem
from platform_web.audit import exports, promises, receipts, recounting, rounds, selectors, witnessing
from platform_web.audit.models import AuditEvent
from platform_web.federation.models import Site

MAX_ANCHOR_BYTES = 2048
MAX_HASHES = 64
T = TypeVar("T", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CosignatureBody(_Body):
    """The body of ``POST /audit/v1/cosignatures``."""

    size: Annotated[int, Field(ge=1, lt=MAX_SIZE)]
    line: Annotated[str, StringConstraints(max_length=400)]


class WitnessBody(_Body):
    """The body of ``POST /audit/v1/witnesses``."""

    key: Annotated[str, StringConstraints(max_length=300)]


class EvidenceBody(_Body):
    """The body of ``POST /audit/v1/evidence``."""

    evidence: Annotated[str, StringConstraints(max_length=MAX_TEXT_BYTES)]


class AnchorBody(_Body):
    """The body of ``POST /audit/v1/anchors``."""

    checkpoint: Annotated[str, StringConstraints(max_length=MAX_ANCHOR_BYTES)]
    consistency: Annotated[
        list[Annotated[str, StringConstraints(max_length=44)]], Field(max_length=MAX_HASHES)
    ]


class OverdueBody(_Body):
    """The body of ``POST /audit/v1/overdue``."""

    receipt: Annotated[str, StringConstraints(max_length=MAX_ANCHOR_BYTES)]


@endpoint("GET")
def checkpoint(request: HttpRequest) -> HttpResponseBase:
    """The head to co-sign with every cosignature so far, and that it goes on from ``old`` entries.

    ``growth`` is the range proof of the empty range at ``old``: it convicts a log that was rewritten, which
    RFC 6962's proof cannot, since that leaves out what the site has signed already.
    """
    authenticate(request, read_body(request))
    old = _number(request, "old", default=0)
    head = selectors.head_to_witness(old)
    if head is None:
        return problem(
            404, "no_checkpoint", _("The log has no signed checkpoint yet. Ask again in a minute.")
        )
    consistency, growth = [], []
    if 0 < old < head.size:  # of a log that is smaller than ``old`` there is none: the witness sees it itself
        tree = selectors.subtree(head.shard, head.size)
        consistency = selectors.consistency(tree, old)
        growth = merkle.range_proof(tree, old, old, head.size)
    answer = {
        "checkpoint": str(selectors.checkpoint_note(head)),
        "consistency": [encode_base64(one) for one in consistency],
        "growth": [encode_base64(one) for one in growth],
        "witnesses": str(selectors.witness_policy(head.shard)),
        "stored": _stored(),
    }
    return JsonResponse(answer)


def _stored() -> dict[str, object] | None:
    """What the portal's own check of the stored entries said last; the site does not take its word alone."""
    said = rounds.checked()
    if said is None:
        return None
    return {"checked": int(said.at.timestamp()), "size": said.size, "findings": said.findings}


def from_site(model: type[T]) -> Callable[[Callable[[Site, T], HttpResponseBase]], View]:
    """What every POST of a site has before it: whose it is, and a body of this form."""

    def decorate(act: Callable[[Site, T], HttpResponseBase]) -> View:
        @wraps(act)
        def view(request: HttpRequest) -> HttpResponseBase:
            raw = read_body(request)
            site = authenticate(request, raw)
            return act(site, parse(model, raw))

        return endpoint("POST")(view)

    return decorate


def _kept(is_new: bool) -> JsonResponse:  # noqa: FBT001 - the answer itself
    return JsonResponse({"kept": is_new}, status=201 if is_new else 200)


@from_site(CosignatureBody)
def cosignatures(site: Site, body: CosignatureBody) -> HttpResponseBase:
    """Keeps the line of the calling witness."""
    return _kept(witnessing.add_cosignature(site=site.name, size=body.size, line=body.line))


@from_site(WitnessBody)
def witnesses(site: Site, body: WitnessBody) -> HttpResponseBase:
    """Registers the key with which the calling site witnesses."""
    is_new = witnessing.register_witness(site=site.name, key_text=body.key)
    return JsonResponse({"registered": is_new}, status=201 if is_new else 200)


@from_site(EvidenceBody)
def evidence(site: Site, body: EvidenceBody) -> HttpResponseBase:
    """Keeps a proof against this log; it is shown to everybody who signs in."""
    return _kept(witnessing.keep_evidence(site=site.name, text=body.evidence))


@from_site(OverdueBody)
def overdue(site: Site, body: OverdueBody) -> HttpResponseBase:
    """Writes down that the site holds this receipt, and that its entry is not in the log."""
    return _kept(promises.complain(site=site.name, receipt=body.receipt))


@from_site(AnchorBody)
def anchors(site: Site, body: AnchorBody) -> HttpResponseBase:
    """Keeps the signed head of the site's own log as an entry of this one; answers the receipt."""
    event = witnessing.anchor(site=site.name, note_text=body.checkpoint, consistency=body.consistency)
    return _receipt_answer(event, status=201)


@endpoint("GET")
def inclusion(request: HttpRequest, event_id: UUID) -> HttpResponseBase:
    """The calling site's own entry with its proof in the tree of ``year`` and ``size``."""
    site = authenticate(request, read_body(request))
    year, size = _number(request, "year"), _number(request, "size")
    found = promises.inclusion(site=site.name, event_id=str(event_id), year=min(year, 9999), size=size)
    if found is None:
        return problem(404, "not_found", _("There is no such entry of this site in that tree."))
    index, proof, leaf = found
    hashes = [encode_base64(one) for one in proof]
    return JsonResponse({"index": index, "proof": hashes, "entry": encode_base64(leaf)})


@endpoint("GET")
def recount(request: HttpRequest) -> HttpResponseBase:
    """Hashes of a piece of the tree of ``year`` and ``size``, taken from the stored bytes of this moment."""
    authenticate(request, read_body(request))
    year, size, start = (_number(request, name) for name in ("year", "size", "start"))
    found = recounting.recount(year=min(year, 9999), size=size, start=start)
    if found is None:
        return problem(404, "not_found", _("There is no such piece of the log."))
    nodes, proof = ([encode_base64(one) for one in hashes] for hashes in (found.nodes, found.proof))
    return JsonResponse({"nodes": nodes, "proof": proof, "altered": found.altered})


@endpoint("GET")
def entries(request: HttpRequest) -> HttpResponseBase:
    """A bundle of the calling site's own entries between two indices; of the others only what proves them."""
    site = authenticate(request, read_body(request))
    start, end = _number(request, "start"), _number(request, "end")
    if not start < end <= start + exports.MOST_INDICES:
        detail = _("Ask for start < end, at most %(most)d entries at a time.") % {
            "most": exports.MOST_INDICES
        }
        raise BodyError(422, "invalid", detail)
    text = exports.bundle_of_site(site=site.name, start=start, end=end)
    if text is None:
        return problem(404, "not_found", _("There is no signed entry of this site in that range."))
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@endpoint("GET")
def receipt(request: HttpRequest, event_id: UUID) -> HttpResponseBase:
    """The log's signed promise for one entry; sites other than the entry's own see none."""
    site = authenticate(request, read_body(request))
    event = AuditEvent.objects.filter(event_id=event_id, site=site.name).first()
    if event is None:
        return problem(404, "not_found", _("There is no such entry of this site."))
    return _receipt_answer(event, status=200)


def _receipt_answer(event: AuditEvent, status: int) -> HttpResponseBase:
    """The signed note. When the signer is away what was written stays written: asked again, it is given."""
    try:
        signed = receipts.receipt_of(event)
    except SignerError:
        detail = _("The entry is written, but the log's signer does not answer. Ask for the receipt again.")
        return problem(503, "no_receipt", detail)
    return HttpResponse(str(signed), status=status, content_type="text/plain; charset=utf-8")


def _number(request: HttpRequest, name: str, default: int | None = None) -> int:
    text = request.GET.get(name, "" if default is None else str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) >= MAX_SIZE:
        raise BodyError(422, "invalid", _("%(name)s is a whole number.") % {"name": name})
    return int(text)
