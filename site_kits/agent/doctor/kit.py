"""The unpacked kit and the site's identity: files, root, key, certificate, pins."""

from datetime import UTC, datetime

from cryptography import x509

from fl_jobs.approval import site_policy
from fl_jobs.approval.gate import POLICY_FILE
from site_kits.agent import peers, preflight
from site_kits.agent.doctor.examination import NotExaminedError, Patient, WarningFoundError
from site_kits.agent.enrolment import check_certificate, load_or_make_key
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest
from site_kits.translation import _

WARN_DAYS = 14


def kit_files(patient: Patient) -> None:
    preflight.check_kit_files(patient.home)


def policy(patient: Patient) -> None:
    """A policy that cannot be used stops everything; one that is missing is written at the next start."""
    if not (patient.home.root / POLICY_FILE).exists():
        raise NotExaminedError(_("There is no policy.toml yet; the next start writes it."))
    site_policy(patient.home.root)


def site_json(patient: Patient) -> None:
    KitManifest.read(patient.home.site_json)


def root_certificate(patient: Patient) -> None:
    preflight.check_root(patient.home, KitManifest.read(patient.home.site_json))


def enrolment(patient: Patient) -> None:
    """A site without certificate has a token that can still be used."""
    if patient.home.certificate.exists():
        return
    preflight.check_kit_expiry(patient.manifest)
    if not patient.home.token.exists():
        raise AgentError(
            _(
                "This folder has no enrolment token and no certificate. Ask the administrator for a new kit "
                "link and unpack the new kit here."
            )
        )


def private_key(patient: Patient) -> None:
    """The key is readable, and by its owner alone."""
    home = patient.home
    if not home.key.exists():
        if home.certificate.exists():
            sentence = _(
                "The site's private key {path} is gone, so its certificate is of no use. Restore it from "
                "your backup, or remove client.crt and unpack a new kit."
            )
            raise AgentError(sentence.format(path=home.key))
        raise NotExaminedError(_("not enrolled yet; the key is made at the first start"))
    if home.key.stat().st_mode & 0o077:
        sentence = _("Others on this machine can read the private key. Close it: chmod 600 {path}")
        raise AgentError(sentence.format(path=home.key))
    load_or_make_key(home)


def certificate(patient: Patient) -> None:
    """Of this site, of this key, of this root; whether it is still valid is the next check's."""
    home = patient.home
    if not home.certificate.exists():
        raise NotExaminedError(_("not enrolled yet"))
    try:
        found = x509.load_pem_x509_certificate(home.certificate.read_bytes())
    except ValueError as exc:
        sentence = _(
            "client.crt is damaged. Ask the administrator for a new kit and unpack it over this folder."
        )
        raise AgentError(sentence) from exc
    if found.not_valid_after_utc <= datetime.now(UTC):
        return
    try:
        check_certificate(
            home.certificate.read_bytes(),
            load_or_make_key(home),
            home.root_ca.read_bytes(),
            patient.manifest.site,
        )
    except AgentError as exc:
        sentence = _("{sentence} Ask the administrator for a new kit and unpack it over this folder.")
        raise AgentError(sentence.format(sentence=exc)) from exc


def certificate_days(patient: Patient) -> None:
    if not patient.home.certificate.exists():
        raise NotExaminedError(_("not enrolled yet"))
    found = x509.load_pem_x509_certificate(patient.home.certificate.read_bytes())
    left = (found.not_valid_after_utc - datetime.now(UTC)).days
    day = found.not_valid_after_utc.date().isoformat()
    ask = _("Ask the administrator for a new kit and unpack it over this folder.")
    if left < 0:
        sentence = _("THE CERTIFICATE OF THIS SITE EXPIRED ON {day}: it takes part in nothing.").format(
            day=day
        )
        raise AgentError(f"{sentence} {ask}")
    if left < WARN_DAYS:
        sentence = _("The certificate of this site expires on {day}, in {days} days.").format(
            day=day, days=left
        )
        raise WarningFoundError(f"{sentence} {ask}")


def pinned_keys(patient: Patient) -> None:
    peers.pins_of(patient.home)
