"""Every claim of an evidence pack. Nothing is claimed that is not here, and each looks when it is asked."""

from typing import Final

from django.utils.translation import gettext_lazy as _

from platform_web.registry.evidence import log_checks, portal_checks, run_checks
from platform_web.registry.evidence.control import Control

BUNDLE, POLICY = "proofs/bundle.txt", "proofs/policy.txt"
PROVENANCE, ACCESS, ROLES = "provenance.intoto.jsonl", "access-report.csv", "roles.json"

OF_THE_RUN: Final = (
    Control(
        "secure_aggregation",
        ("T7", "GDPR 25", "GDPR 32"),
        _("The server saw only sums over at least %(least)d sites: all %(rounds)d rounds were masked."),
        _("The server could read single sites' updates in %(readable)d of %(rounds)d rounds."),
        (PROVENANCE, BUNDLE),
        run_checks.secure_aggregation,
    ),
    Control(
        "no_differencing",
        ("T9",),
        _("No two rounds in a row have cohorts that differ by a single site."),
        _("Rounds whose cohort differs from the one before by a single site: %(close)d."),
        (PROVENANCE,),
        run_checks.no_differencing,
    ),
    Control(
        "site_approvals",
        ("T2", "GDPR 26", "PIPL 20"),
        _("All %(sites)d sites approved exactly this run; every signed statement was verified again."),
        _("No approval that can be verified from: %(missing)s (%(verified)d of %(sites)d sites approved)."),
        ("approvals/", BUNDLE),
        run_checks.site_approvals,
    ),
    Control(
        "specification_sealed",
        ("T2",),
        _("The run's specification still has the digest that its sites were asked to approve."),
        _("The stored specification no longer has the run's digest."),
        ("run-spec.json", PROVENANCE),
        run_checks.specification_sealed,
    ),
    Control(
        "rounds_logged",
        ("T8", "T15"),
        _("The aggregates of all %(rounds)d rounds have the digests that the log has of them."),
        _("Rounds without an entry of the same digests: %(unlogged)d of %(rounds)d."),
        (PROVENANCE, BUNDLE),
        run_checks.rounds_logged,
    ),
    Control(
        "shared_part_intact",
        ("T4", "T22"),
        _("The shared part of the model in the portal's store has its digest (%(digest)s)."),
        _("The shared part of the model (%(digest)s) is missing from the portal's store or altered."),
        (PROVENANCE,),
        run_checks.shared_part_intact,
    ),
    Control(
        "personal_parts_absent",
        ("T6", "GDPR 25"),
        _("None of the %(parts)d personal parts of this run lies in the portal's store of model files."),
        _("Personal parts of this run in the portal's store of model files: %(stored)d of %(parts)d."),
        ("model-card.json",),
        run_checks.personal_parts_absent,
    ),
    Control(
        "differential_privacy",
        ("T1", "T6"),
        _("Differential privacy: %(promise)s"),
        _("This run promises no differential privacy."),
        ("run-spec.json",),
        run_checks.differential_privacy,
    ),
)

OF_THE_PORTAL: Final = (
    Control(
        "second_factor",
        ("T20", "GDPR 32", "ASVS V6"),
        _("All %(people)d administrators and auditors sign in with a second factor."),
        _(
            "A second factor is not in force for administrators and auditors: required: %(asked)s; "
            "without one: %(without)d of %(people)d."
        ),
        (ROLES,),
        portal_checks.second_factor,
    ),
    Control(
        "sign_in_bounded",
        ("T21", "ASVS V6"),
        _("After %(tries)d wrong passwords for one name from one address, sign-in is closed for a while."),
        _("Nothing bounds how many passwords may be tried."),
        (),
        portal_checks.sign_in_bounded,
    ),
    Control(
        "roles_disjoint",
        ("T20",),
        _("None of the %(people)d people of the portal holds two roles."),
        _("People who hold more than one role: %(several)d of %(people)d."),
        (ROLES,),
        portal_checks.roles_disjoint,
    ),
    Control(
        "ca_key_sealed",
        ("T12",),
        _("The key of the certificate authority is stored sealed with the portal's master key."),
        _("The key of the certificate authority is not stored sealed with the portal's master key."),
        (),
        portal_checks.ca_key_sealed,
    ),
    Control(
        "certificates_in_life",
        ("T12",),
        _("All %(sites)d sites of the run hold a certificate that counts now and lasts 90 days at most."),
        _("Sites of the run without such a certificate: %(over)d of %(sites)d (%(names)s)."),
        ("datasheets/",),
        portal_checks.certificates_in_life,
    ),
    Control(
        "pages_encrypted",
        ("F1", "GDPR 32", "ASVS V12"),
        _("The portal's pages travel encrypted, and the cookie of a session never without."),
        _("The portal's pages are served without encryption."),
        (),
        portal_checks.pages_encrypted,
    ),
)

OF_THE_LOG: Final = (
    Control(
        "witness_quorum",
        ("T13", "T14"),
        _("The checkpoint of these proofs is co-signed by %(signers)d of %(sites)d sites, a quorum."),
        _("The checkpoint of these proofs has no quorum: %(signers)d of %(sites)d sites co-signed it."),
        (BUNDLE, POLICY),
        log_checks.witness_quorum,
    ),
    Control(
        "entries_proven",
        ("T13", "T15"),
        _("All %(entries)d audit entries about this run lie under a checkpoint that the log signed."),
        _("Audit entries about this run that no signed checkpoint holds: %(unproven)d of %(entries)d."),
        (BUNDLE,),
        log_checks.entries_proven,
    ),
    Control(
        "entries_intact",
        ("T13", "T16"),
        _("The audit entries about this run still say what was written."),
        _("Audit entries about this run that no longer say what was written: %(altered)d of %(entries)d."),
        (BUNDLE, ACCESS),
        log_checks.entries_intact,
    ),
    Control(
        "one_history",
        ("T14",),
        _("No site has proven two versions of this log."),
        _("Contradictions of this log that a site has proven: %(contradictions)d."),
        (BUNDLE,),
        log_checks.one_history,
    ),
    Control(
        "log_kept",
        ("T13", "AI Act 26(6)", "PIPL 56", "HIPAA 164.316"),
        _(
            "The database refuses to change or remove an audit entry, and a body before its time of keeping; "
            "none is gone, and the oldest is of %(since)s."
        ),
        _(
            "Tables of the audit log that the database does not guard: %(unguarded)s; gone before their "
            "time of keeping: %(entries)d entries, %(bodies)d bodies."
        ),
        (BUNDLE,),
        log_checks.log_kept,
    ),
)

CONTROLS: Final = (*OF_THE_RUN, *OF_THE_PORTAL, *OF_THE_LOG)
