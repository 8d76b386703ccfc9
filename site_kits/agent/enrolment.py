"""How a site gets its certificate: the key is made here and stays here, the portal signs a request for it."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

from fl_jobs.tensor_files import write_bytes
from site_kits.agent.portal import PortalDoor, PortalRefusedError, PortalUnreachableError, Signer
from site_kits.agent.site_acts import log_act
from site_kits.clock import WINDOW_S, span
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome, write_state
from site_kits.translation import _

log = logging.getLogger("consilium.site")

ISSUED = "enrolled.json"  # below state/: the certificate in use, and the kit it came with
BUSY = 503  # nothing was done, the link is not used up
KEY_BITS = 2048  # an elliptic-curve key crashes NVFlare's client
_CLOCK_SLACK = timedelta(minutes=5)


@dataclass(frozen=True)
class Identity:
    """A site's key with the certificate that belongs to it."""

    key: RSAPrivateKey
    certificate: x509.Certificate
    site: str

    @property
    def serial(self) -> str:
        """Serial number in lower-case hex, as in X-Consilium-Serial."""
        return format(self.certificate.serial_number, "x")

    @property
    def days_left(self) -> float:
        """Days until the certificate expires; negative when it has."""
        return (self.certificate.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)

    def signer(self) -> Signer:
        """Signs this site's requests to the portal."""
        return Signer(self.key, self.site, self.serial)


def load_or_make_key(home: SiteHome) -> RSAPrivateKey:
    """The site's private key; made, 0600 and on disk before anything is asked with it.

    Raises AgentError when a key file is there but unusable: it is never overwritten.
    """
    if home.key.exists():
        try:
            key = serialization.load_pem_private_key(home.key.read_bytes(), password=None)
        except (ValueError, TypeError, OSError) as exc:
            raise AgentError(_unusable_key(home)) from exc
        if not isinstance(key, RSAPrivateKey):
            raise AgentError(_unusable_key(home))
        home.key.chmod(0o600)
        return key
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    write_bytes(home.key, pem, mode=0o600)
    return key


def _unusable_key(home: SiteHome) -> str:
    return _(
        "The site's private key {path} cannot be read. Restore it from your backup, or move it away "
        "together with client.crt."
    ).format(path=home.key)


def certificate_request(key: RSAPrivateKey, manifest: KitManifest) -> str:
    """A CSR in PEM: CN is the site, O its organisation. The same key gives the same bytes again."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, manifest.site),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, manifest.organisation),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def check_certificate(pem: bytes, key: RSAPrivateKey, root_pem: bytes, site: str) -> x509.Certificate:
    """The certificate in ``pem``, if it is this site's, for this key, from this root and valid today.

    Raises AgentError with what is wrong.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as exc:
        raise AgentError(_("The certificate of this site is damaged.")) from exc
    try:
        root = x509.load_pem_x509_certificate(root_pem)
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature) as exc:
        raise AgentError(_("The certificate was not issued by the root of this kit.")) from exc
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [name.value for name in names] != [site]:
        raise AgentError(_("The certificate was made out to another site than {site}.").format(site=site))
    if certificate.public_key() != key.public_key():
        raise AgentError(_("The certificate belongs to another key than the one made here."))
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc <= now:
        raise AgentError(
            _("The certificate of this site expired on {day}.").format(
                day=certificate.not_valid_after_utc.date().isoformat()
            )
        )
    if certificate.not_valid_before_utc > now + _CLOCK_SLACK:
        raise AgentError(
            _("The certificate is valid only from {time} UTC on; is this machine's clock slow?").format(
                time=certificate.not_valid_before_utc.strftime("%Y-%m-%d %H:%M")
            )
        )
    return certificate


def stored_identity(home: SiteHome, manifest: KitManifest) -> Identity | None:
    """Key and certificate as stored; None before enrolment. Raises AgentError when they do not fit."""
    if not home.certificate.exists():
        return None
    if not home.key.exists():  # never a new key beside an old certificate
        sentence = _("The site's private key {path} is gone, so its certificate is of no use.")
        raise AgentError(sentence.format(path=home.key))
    key = load_or_make_key(home)
    pem, root = home.certificate.read_bytes(), home.root_ca.read_bytes()
    return Identity(key, check_certificate(pem, key, root, manifest.site), manifest.site)


def identity_here(home: SiteHome, manifest: KitManifest) -> Identity | None:
    """As stored, or from the answer of an enrolment that was cut off; None before enrolment.

    Raises AgentError for a stored identity that cannot be used.
    """
    return stored_identity(home, manifest) or _from_answer(home, manifest)


def enrol(home: SiteHome, manifest: KitManifest, door: PortalDoor, token: str, pin: str) -> Identity:
    """Redeem link and PIN for a certificate and store it. Safe to call again after a crash.

    The answer is written down before it is looked at, and the key before it is asked for, so a crash
    loses the certificate only while the answer is on the wire; then the same link, PIN and key bring it
    again. Raises AgentError in sentences and PortalUnreachableError when asking again makes sense.
    """
    if (identity := _from_answer(home, manifest)) is not None:
        return identity
    key = load_or_make_key(home)
    door.probe()
    if abs(door.clock_difference_s or 0) > WINDOW_S:
        raise AgentError(clock_sentence(door.clock_difference_s or 0))
    try:
        answer = door.enrol(manifest.site, token, pin, certificate_request(key, manifest))
    except PortalRefusedError as exc:
        if exc.status == BUSY:
            raise PortalUnreachableError(str(exc)) from exc
        raise AgentError(_refusal(exc, manifest)) from exc
    pem = str(answer.get("certificate_pem", "")).encode()
    write_bytes(_answer_path(home), pem, mode=0o600)
    identity = _keep(home, manifest, key, pem)
    (home.state / "left.json").unlink(missing_ok=True)
    write_state(home.suggested_peers_json, {"peers": answer.get("peers") or {}})
    write_state(
        home.state / ISSUED,
        {"serial": identity.serial, "not_after": identity.certificate.not_valid_after_utc.isoformat()},
    )
    return identity


def clock_sentence(difference_s: float) -> str:
    """How far this machine's clock is ahead of the portal's (negative: behind), and what to do."""
    way = _("ahead of") if difference_s > 0 else _("behind")
    return _(
        "This machine's clock is {span} {way} the portal's; beyond {limit} s the portal refuses the site. "
        "Switch on time synchronisation (timedatectl set-ntp true), then start again."
    ).format(span=span(difference_s), way=way, limit=WINDOW_S)


def _answer_path(home: SiteHome) -> Path:
    return home.state / "enrolment_answer.pem"


def _from_answer(home: SiteHome, manifest: KitManifest) -> Identity | None:
    """Finish an enrolment whose answer was written down; an answer of another key or root is removed."""
    if not _answer_path(home).exists():
        return None
    try:
        return _keep(home, manifest, load_or_make_key(home), _answer_path(home).read_bytes())
    except AgentError:
        _answer_path(home).unlink()
        return None


def _keep(home: SiteHome, manifest: KitManifest, key: RSAPrivateKey, pem: bytes) -> Identity:
    certificate = check_certificate(pem, key, home.root_ca.read_bytes(), manifest.site)
    until = str(certificate.not_valid_after_utc)
    log_act(home, "certificate.received", obj=format(certificate.serial_number, "x"), not_after=until)
    write_bytes(home.certificate, pem, mode=0o600)
    _answer_path(home).unlink(missing_ok=True)
    return Identity(key, certificate, manifest.site)


def _refusal(exc: PortalRefusedError, manifest: KitManifest) -> str:
    ask = _("Ask the administrator for a new invitation and run: ./start.sh LINK")
    if exc.code == "pin":
        return _("The portal does not accept the PIN: {sentence}").format(sentence=exc)
    if exc.code == "locked":
        return _("Five wrong PINs were given, so this link is locked. {ask}").format(ask=ask)
    if exc.code == "used":
        return _(
            "This link was used before, by another key. If that was not you, tell the administrator now; "
            "otherwise ask for a new invitation and run: ./start.sh LINK"
        )
    if exc.status == 401:
        reason = _("The portal does not know this link, or it was replaced, or its 72 hours are over.")
        return f"{reason} {ask}"
    if exc.status == 409:
        reason = _("The portal refuses the name {site} for this link.").format(site=manifest.site)
        return f"{reason} {ask} ({exc})"
    reason = _("The portal refused the enrolment: {sentence}").format(sentence=exc)
    return f"{reason} {ask}" if exc.code == "invalid" else reason  # a damaged link
