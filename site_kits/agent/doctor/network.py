"""The way out: names, ports, proxies, and whether the other side's certificate is the federation's own."""

import os
import socket
import ssl
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from site_kits.agent import preflight
from site_kits.agent.doctor.examination import NotExaminedError, Patient
from site_kits.errors import AgentError
from site_kits.translation import _

TIMEOUT_S = 5.0
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _portal_address(patient: Patient) -> tuple[str, int]:
    parts = urlsplit(patient.manifest.agents_url)
    return parts.hostname or "", parts.port or 443


def _resolve(host: str) -> None:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as exc:
        sentence = _(
            "The name {host} is not known to this machine. Ask your network people for its DNS entry."
        )
        raise AgentError(sentence.format(host=host)) from exc


def portal_name(patient: Patient) -> None:
    _resolve(_portal_address(patient)[0])


def training_name(patient: Patient) -> None:
    _resolve(patient.manifest.flare_host)


def _proxy(host: str) -> tuple[str, str] | None:
    """The proxy variable that counts for ``host``, and its value."""
    skipped = {name.strip().lower() for name in os.environ.get("NO_PROXY", "").split(",")}
    skipped |= {name.strip().lower() for name in os.environ.get("no_proxy", "").split(",")}
    if host in LOOPBACK or host.lower() in skipped or "*" in skipped:
        return None
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        if os.environ.get(name):
            return name, os.environ[name]
    return None


def proxy(patient: Patient) -> None:
    """A proxy that the environment names answers. The password in its address is never shown."""
    found = _proxy(_portal_address(patient)[0])
    if found is None:
        raise NotExaminedError(_("no proxy is set for the portal"))
    name, value = found
    parts = urlsplit(value if "//" in value else f"//{value}")
    try:
        host, port = parts.hostname or "", parts.port or 80
        socket.create_connection((host, port), timeout=TIMEOUT_S).close()
    except (OSError, ValueError) as exc:
        sentence = _(
            "The proxy that {name} names does not answer. Correct the variable, or put the portal's name "
            "into NO_PROXY."
        )
        raise AgentError(sentence.format(name=name)) from exc


def portal_port(patient: Patient) -> None:
    host, port = _portal_address(patient)
    if _proxy(host):
        raise NotExaminedError(_("requests to the portal go through the proxy"))
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_S).close()
    except OSError as exc:
        sentence = _(
            "The portal at {host}:{port} does not answer. Check the network and that outgoing HTTPS to this "
            "address is open in your firewall."
        )
        raise AgentError(sentence.format(host=host, port=port)) from exc


def portal_certificate(patient: Patient) -> None:
    """Nobody between: what answers shows a certificate of the kit's own root."""
    host, port = _portal_address(patient)
    if _proxy(host):
        raise NotExaminedError(_("requests to the portal go through the proxy"))
    _expect_own_root(patient, host, port)


def training_certificate(patient: Patient) -> None:
    _expect_own_root(patient, patient.manifest.flare_host, patient.manifest.flare_port)


def _expect_own_root(patient: Patient, host: str, port: int) -> None:
    own = ssl.create_default_context(cafile=str(patient.home.root_ca))
    own.check_hostname = False  # NVFlare's server is known by another name than its address; the root decides
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT_S) as plain,
            own.wrap_socket(plain, server_hostname=host),
        ):
            return
    except ssl.SSLCertVerificationError as exc:
        sentence = _(
            "{host}:{port} shows a certificate made by “{issuer}”, not by this federation: something between "
            "here and there opens the connection (a TLS inspection, perhaps), or it is another server. Ask "
            "your network people to except this address."
        )
        raise AgentError(sentence.format(host=host, port=port, issuer=_issuer(host, port))) from exc
    except ssl.SSLError:
        return  # it asks for this site's certificate before it goes on: a verified server
    except OSError as exc:
        sentence = _(
            "{host}:{port} ended the connection ({reason}). Ask your network people what is between."
        )
        raise AgentError(
            sentence.format(host=host, port=port, reason=exc.strerror or type(exc).__name__)
        ) from exc


def _issuer(host: str, port: int) -> str:
    """Who made the certificate that was shown; it is read, not trusted."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            shown = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError):
        return "?"
    names = shown.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value)[:100] if names else "?"


def portal(patient: Patient) -> None:
    preflight.check_portal(patient.door)


def training_port(patient: Patient) -> None:
    preflight.check_flare(patient.manifest, timeout_s=TIMEOUT_S)
