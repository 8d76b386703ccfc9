"""Checks of the run itself: what the server could see, who agreed to it, what was promised."""

from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from fl_jobs.packaging.spec import COHORT_MIN
from platform_web.audit import services as audit
from platform_web.federation import places
from platform_web.federation.authority import the_federation
from platform_web.federation.models import Certificate
from platform_web.registry.artifacts import is_stored
from platform_web.registry.evidence.case import Case
from platform_web.registry.evidence.control import Finding
from platform_web.registry.models import SiteModel
from platform_web.training.errors import RunStateError
from platform_web.training.models import Round, RunApproval
from platform_web.training.privacy import sentences_of
from site_kits.decisions import verify_decision
from site_kits.errors import SignatureError


def specification_sealed(case: Case) -> Finding:
    facts = {"digest": case.run.run_digest[:12]}
    try:
        case.run.run_spec()
    except RunStateError:
        return Finding(holds=False, facts=facts)
    return Finding(holds=True, facts=facts)


def secure_aggregation(case: Case) -> Finding:
    """From the specification and from the masking of every committed round."""
    asked = case.spec is not None and case.spec.policy.secure_aggregation
    masked = [row for row in case.rounds if asked and _members(row) >= COHORT_MIN]
    facts = {
        "rounds": len(case.rounds),
        "readable": len(case.rounds) - len(masked),
        "least": COHORT_MIN,
    }
    return Finding(bool(masked) and len(masked) == len(case.rounds), facts)


def no_differencing(case: Case) -> Finding:
    """Two sums over cohorts that differ by one site lie closest to that site's update."""
    masked = [set((row.masking or {}).get("cohort", ())) for row in case.rounds if row.masking]
    close = sum(len(one ^ other) == 1 for one, other in pairwise(masked))
    return Finding(close == 0, {"close": close})


def site_approvals(case: Case) -> Finding:
    """Every signed decision is verified again, with the certificate that the federation's CA issued."""
    verified = [site.name for site in case.sites if _is_approved(case, case.approvals.get(site.name))]
    missing = sorted({site.name for site in case.sites} - set(verified))
    facts: dict[str, int | str] = {
        "sites": len(case.sites),
        "verified": len(verified),
        "missing": ", ".join(missing),
    }
    return Finding(bool(verified) and not missing, facts)


def rounds_logged(case: Case) -> Finding:
    """The digests of every committed aggregate, in our rows and in the log."""
    said: dict[int, dict[str, str]] = {}
    for event in case.entries:
        if event.act == "round.committed":
            entry = audit.envelope_of(event)
            said[entry["rnd"]] = {item["id"]: item["digest"] for item in entry["obj"]}
    fitting = [row for row in case.rounds if said.get(row.number) == row.aggregate_sha256]
    whole = [row.number for row in case.rounds] == list(range(1, len(case.rounds) + 1))
    facts = {"rounds": len(case.rounds), "unlogged": len(case.rounds) - len(fitting)}
    return Finding(bool(fitting) and whole and len(fitting) == len(case.rounds), facts)


def shared_part_intact(case: Case) -> Finding:
    """Hashed again, byte by byte; a version without a shared part has none that could change."""
    digest = case.version.shared_sha256
    return Finding(not digest or is_stored(digest), {"digest": digest[:12] or "–"})


def personal_parts_absent(case: Case) -> Finding:
    """The store names each file by its digest, so a personal part in it would bear its own."""
    digests = SiteModel.objects.filter(version__run=case.run).values_list("personal_sha256", flat=True)
    shared = set(case.run.versions.values_list("shared_sha256", flat=True))
    parts = set(digests) - shared
    return Finding(
        not any(places.artifact(digest).exists() for digest in parts),
        {"parts": len(parts), "stored": sum(places.artifact(digest).exists() for digest in parts)},
    )


def differential_privacy(case: Case) -> Finding:
    """Word for word what the run's page says of its specification."""
    private = case.spec is not None and case.spec.policy.privacy is not None
    promise = sentences_of(case.spec, len(case.sites)) if case.spec is not None and private else []
    return Finding(private, {"promise": " ".join(promise)})


def _members(row: Round) -> int:
    return len((row.masking or {}).get("cohort", ()))


def _is_approved(case: Case, row: RunApproval | None) -> bool:
    held = Certificate.objects.filter(site=row.site, serial=row.serial).first() if row else None
    if row is None or held is None or row.state != RunApproval.State.APPROVED:
        return False
    root = x509.load_pem_x509_certificate(the_federation().root_certificate_pem.encode())
    certificate = x509.load_pem_x509_certificate(held.pem.encode())
    try:
        certificate.verify_directly_issued_by(root)
        said = verify_decision(certificate, row.statement, row.signature)
    except (SignatureError, InvalidSignature, ValueError):
        return False
    run = case.run
    return said.approve and (said.site, said.run_id, said.run_digest) == (
        row.site.name,
        str(run.pk),
        run.run_digest,
    )
