"""Putting a pack together: every file, the manifest over them, its signature, the zip."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation
from pydantic import BaseModel

from compliance.evidence.archive import (
    MANIFEST,
    MANIFEST_SIGNATURE,
    json_bytes,
    manifest_bytes,
    zip_bytes,
)
from compliance.evidence.dsse import envelope_bytes, key_id, sign_envelope
from compliance.evidence.statement import PAYLOAD_TYPE
from fl_jobs.packaging.spec import canonical_json
from platform_web.federation.authority import the_federation
from platform_web.registry.evidence import documents, drafts, origin, proofs
from platform_web.registry.evidence.case import Case
from platform_web.registry.evidence.control import Claim, assess
from platform_web.registry.evidence.controls import CONTROLS, OF_THE_LOG, OF_THE_PORTAL, OF_THE_RUN

MANIFEST_TYPE = "application/vnd.consilium.evidence-manifest+json"


@dataclass(frozen=True)
class Pack:
    """``files`` holds the manifest and its signature too."""

    files: dict[str, bytes]
    claims: list[Claim]

    @cached_property
    def manifest_sha256(self) -> str:
        return hashlib.sha256(self.files[MANIFEST]).hexdigest()

    @cached_property
    def archive(self) -> bytes:
        return zip_bytes(self.files)

    @cached_property
    def archive_sha256(self) -> str:
        return hashlib.sha256(self.archive).hexdigest()


def signing_key() -> Ed25519PrivateKey:
    """The key that signs packs, from the master key: nothing to store, and whoever has the row has no key."""
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"consilium evidence signing key v1")
    return Ed25519PrivateKey.from_private_bytes(kdf.derive(settings.CONSILIUM_MASTER_KEY))


def build_pack(case: Case, language: str) -> Pack:
    """The pack as of ``case.as_of``. The same rows, time and language give the same bytes."""
    with translation.override(language):
        claims = assess(CONTROLS, case)
        key = signing_key()
        files = {**_documents(case, claims), **origin.approval_files(case), **proofs.proof_files(case)}
        envelope = sign_envelope(PAYLOAD_TYPE, origin.provenance(case).payload(), key)
        files["provenance.intoto.jsonl"] = canonical_json(envelope) + b"\n"
        files["keys.json"] = _keys(key)
        files["report.html"] = _report(case, claims, language).encode()
    about = {
        "model": case.version.label,
        "run": str(case.run.pk),
        "federation": settings.CONSILIUM_FEDERATION,
        "as_of": case.moment,
        "language": language,
        "log_size": case.head.size if case.head else 0,
    }
    files[MANIFEST] = manifest_bytes(files, about)
    files[MANIFEST_SIGNATURE] = envelope_bytes(MANIFEST_TYPE, files[MANIFEST], key)
    return Pack(files, claims)


def _documents(case: Case, claims: list[Claim]) -> dict[str, bytes]:
    card = documents.model_card(case, {claim.control.name: claim for claim in claims})
    sheets, records = documents.data_sheets(case), drafts.processing_drafts(case, claims)
    return {
        "controls.json": json_bytes([claim.content() for claim in claims]),
        "model-card.json": _dumped(card),
        "sbom.cdx.json": origin.bill_of_materials(case, card),
        "run-spec.json": origin.spec_bytes(case),
        "dpia-draft.json": _dumped(drafts.impact_draft(case, claims)),
        "access-report.csv": proofs.access_report(case),
        "roles.json": proofs.roles_report(case),
        **{f"datasheets/{name}.json": _dumped(sheet) for name, sheet in sheets.items()},
        **{f"records-of-processing/{name}.json": _dumped(draft) for name, draft in records.items()},
    }


def _dumped(model: BaseModel) -> bytes:
    return json_bytes(model.model_dump(mode="json"))


def _keys(key: Ed25519PrivateKey) -> bytes:
    """What verifies the envelopes and approvals. Compare it with the entry ``evidence.issued`` in the log."""
    public = key.public_key()
    return json_bytes(
        {
            "evidence_ed25519_hex": public.public_bytes_raw().hex(),
            "evidence_keyid": key_id(public),
            "federation_root_certificate_pem": the_federation().root_certificate_pem,
        }
    )


def _report(case: Case, claims: list[Claim], language: str) -> str:
    named = {claim.control.name: claim for claim in claims}
    groups = [[named[control.name] for control in group] for group in (OF_THE_RUN, OF_THE_PORTAL, OF_THE_LOG)]
    context = {
        "case": case,
        "card": documents.model_card(case, named),
        "groups": dict(zip(("run", "portal", "log"), groups, strict=True)),
        "access": proofs.access_counts(case),
        "language": language,
    }
    return render_to_string("registry/evidence/report.html", context)
