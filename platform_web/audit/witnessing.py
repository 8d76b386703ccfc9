"""What sites bring to the log: witness keys, cosignatures, contradictions, anchors of their own log."""

import time
from collections.abc import Sequence

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compliance.evidence_file import Evidence, EvidenceError
from compliance.merkle import EMPTY_ROOT, is_consistent
from compliance.note import (
    COSIGNATURE_V1,
    Checkpoint,
    NoteError,
    Signature,
    SignedNote,
    VerifierKey,
    decode_base64,
    verify,
)
from platform_web.audit import selectors, services
from platform_web.audit.errors import UnfitError
from platform_web.audit.models import AuditCosignature, AuditEvent, AuditEvidence, AuditHead, AuditWitness

AHEAD_S = 120  # how far a site's clock may be before ours; later lines would look fresh for ever
AGAIN_S = 10  # a witness that signs the same head more often adds nothing


@transaction.atomic
def register_witness(*, site: str, key_text: str) -> bool:
    """The site witnesses with this key from now on; False when it did already. It retires the former one.

    Raises UnfitError for a key that is no witness's, is named otherwise, or is another site's.
    """
    try:
        key = VerifierKey.parse(key_text)
    except NoteError as error:
        raise UnfitError(str(error)) from error
    name = witness_name(site)
    if key.kind != COSIGNATURE_V1 or key.name != name:
        raise UnfitError(
            _("A witness key of this site is a cosignature/v1 key named %(name)s.") % {"name": name}
        )
    known = selectors.witness_keys_of_all()
    if known.get(site) == key:
        return False
    if any(other != site and held.public == key.public for other, held in known.items()):
        raise UnfitError(_("Another site witnesses with this key. Make one of your own."))
    AuditWitness.objects.create(site=site, key=str(key), since=timezone.now())
    services.record(
        act="witness.registered",
        site=site,
        obj=[("witness", name, key.public.hex())],
        data={"key": str(key), "retired": str(known[site]) if site in known else ""},
    )
    return True


def witness_name(site: str) -> str:
    """The name under which a site co-signs."""
    return f"{settings.CONSILIUM_FEDERATION}/{site}/witness"


@transaction.atomic
def add_cosignature(*, site: str, size: int, line: str) -> bool:
    """Keep a witness's line under the head of this size; False when it says nothing new.

    No entry is written: it would make a new head, which asks for new cosignatures. Raises UnfitError when the
    site has no key, there is no such head, the line does not fit it, or is dated in the future.
    """
    key = selectors.witness_keys().get(site)
    if key is None:
        raise UnfitError(_("This site has no witness key here. Register one first."))
    try:
        signature = Signature.parse(line)
    except NoteError as error:
        raise UnfitError(str(error)) from error
    head, moment = _head_signed_by(signature, size, key)
    if moment > time.time() + AHEAD_S:
        raise UnfitError(_("The cosignature is dated in the future. Set the clock of the site's machine."))
    ours = AuditCosignature.objects.filter(shard=head.shard, size=size, witness=key.name)
    newest = ours.order_by("-timestamp").values_list("timestamp", flat=True).first()
    if newest is not None and moment < newest + AGAIN_S:
        return False
    try:
        with transaction.atomic():
            ours.create(shard=head.shard, size=size, witness=key.name, timestamp=moment, line=str(signature))
    except IntegrityError:  # the same line twice at the same time
        return False
    return True


def _head_signed_by(signature: Signature, size: int, key: VerifierKey) -> tuple[AuditHead, int]:
    """The request names a size only: at the turn of a year two trees may have a head of it."""
    heads = AuditHead.objects.filter(size=size).order_by("-shard")
    for head in heads[:5]:
        try:
            return head, verify(SignedNote.parse(head.note).text, signature, key)
        except NoteError:
            continue
    raise UnfitError(_("The line fits no signed head of %(size)s entries.") % {"size": size})


@transaction.atomic
def keep_evidence(*, site: str, text: str) -> bool:
    """Keep the proof that this log signed two histories; False when it is known.

    Raises UnfitError unless it is proven: whoever holds a certificate could otherwise stop all promotions.
    """
    try:
        evidence = Evidence.parse(text)
        origin = Checkpoint.parse(evidence.first.text).origin
    except (EvidenceError, NoteError) as error:
        raise UnfitError(str(error)) from error
    shard = selectors.shard_at(origin)
    if shard is None or not evidence.is_proven_for(VerifierKey.parse(shard.key)):
        raise UnfitError(_("This does not prove that the portal's log contradicts itself."))
    if AuditEvidence.objects.filter(text=text).exists():
        return False
    kind = AuditEvidence.Kind.SPLIT if evidence.proof is None else AuditEvidence.Kind.REWRITE
    AuditEvidence.objects.create(kind=kind, site=site, text=text, found=timezone.now())
    services.record(
        act="log.contradicted",
        site=site,
        out="error",
        obj=[("log", origin, "")],
        data={"kind": kind.value, "size": Checkpoint.parse(evidence.second.text).size},
    )
    return True


def anchor(*, site: str, note_text: str, consistency: Sequence[str]) -> AuditEvent:
    """The entry that holds the signed head of a site's own log; the one before when nothing was added to it.

    The request is signed by the site's certificate; the note's own signature is kept for whoever has the site
    log's key. Raises UnfitError for another origin, a proof that does not lead from the last anchor, or a
    smaller log.
    """
    try:
        note = SignedNote.parse(note_text)
        new = Checkpoint.parse(note.text)
        proof = [decode_base64(digest) for digest in consistency]
    except NoteError as error:
        raise UnfitError(str(error)) from error
    year = new.origin.rpartition("/")[2]
    if new.origin != f"{settings.CONSILIUM_FEDERATION}/{site}/log/{year}" or not _is_year(year):
        raise UnfitError(
            _("The log of this site is named %(name)s/YEAR.") % {"name": new.origin.rpartition("/")[0]}
        )
    with transaction.atomic():
        last = _newest("site.anchored", site, new.origin)
        old = Checkpoint.parse(_anchored_note(last).text) if last else Checkpoint(new.origin, 0, EMPTY_ROOT)
        if last is not None and (old.size, old.root) == (new.size, new.root):
            return last
        if is_consistent(old.size, new.size, proof, old.root, new.root):
            return services.record(
                act="site.anchored",
                site=site,
                obj=[("log", new.origin, new.root.hex())],
                data={"size": new.size, "note": str(note)},
            )
    _record_refused_anchor(site, note, new, old)
    raise UnfitError(
        _("The site's log does not begin with the %(size)s entries that were anchored before.")
        % {"size": old.size}
    )


@transaction.atomic
def _record_refused_anchor(site: str, note: SignedNote, new: Checkpoint, old: Checkpoint) -> None:
    """Once for each such checkpoint, however often the site sends it."""
    before = _newest("site.anchor_refused", site, new.origin)
    if before is None or _anchored_note(before).text != note.text:
        services.record(
            act="site.anchor_refused",
            site=site,
            out="deny",
            obj=[("log", new.origin, new.root.hex())],
            data={"size": new.size, "note": str(note), "anchored": old.size},
        )


def _is_year(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) == 4


def _newest(act: str, site: str, origin: str) -> AuditEvent | None:
    return AuditEvent.objects.filter(act=act, site=site, obj=f"log:{origin}").order_by("-number").first()


def _anchored_note(event: AuditEvent) -> SignedNote:
    return SignedNote.parse(services.envelope_of(event)["data"]["note"])
