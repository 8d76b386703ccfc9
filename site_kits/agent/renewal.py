"""A site's certificate renewed in place: the same key, one file replaced whole.

NVFlare's client reads ``client.crt`` and ``client.key`` again at every connection, one after the other. With
a new key it could read the new certificate and the old key; with the same key every pair it can read fits.
"""

import json
import logging
import threading
from datetime import UTC, datetime

from cryptography import x509

from fl_jobs.tensor_files import write_bytes
from site_kits.agent.enrolment import ISSUED, Identity, check_certificate, load_or_make_key
from site_kits.agent.portal import PortalDoor, Signer
from site_kits.agent.site_acts import log_act
from site_kits.agent.status import StatusBoard
from site_kits.certificate_dates import renew_from
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome, read_state
from site_kits.translation import _

log = logging.getLogger("consilium.site")


class Credentials:
    """The site's identity as it is now. One thread renews it; others ask for ``current`` at each use."""

    def __init__(self, home: SiteHome, manifest: KitManifest, identity: Identity) -> None:
        self._home, self._manifest = home, manifest
        self.current = identity

    def is_due(self) -> bool:
        """Whether two thirds of the certificate's life are over."""
        return datetime.now(UTC) >= renew_from(self.current.certificate)

    def renew(self, door: PortalDoor) -> bool:
        """Ask for the next certificate and put it in place; False when the portal finds it too early.

        Raises AgentError with what is wrong, PortalUnreachableError when asking again makes sense.
        """
        before = self.current
        self.current = _fetch(self._home, self._manifest, before.signer(), door)
        return self.current.serial != before.serial


class Renewer(threading.Thread):
    """Renews when it is due, on a thread of its own: a beat may be held up for seconds by what it reports."""

    def __init__(
        self, credentials: Credentials, door: PortalDoor, board: StatusBoard, stop: threading.Event
    ) -> None:
        super().__init__(name="renewer", daemon=True)
        self._credentials, self._door, self._board = credentials, door, board
        self._stop_event = stop

    def run(self) -> None:
        """Look once a second; after a failure wait longer, up to a minute."""
        wait_s = 1.0
        while not self._stop_event.wait(wait_s):
            wait_s = 1.0 if self.renew_if_due() else min(2 * wait_s, 60.0)

    def renew_if_due(self) -> bool:
        """Whether nothing is left to do; a failure stands among the problems until it is solved."""
        if not self._credentials.is_due():
            return True
        try:
            renewed = self._credentials.renew(self._door)
        except (AgentError, OSError) as exc:
            sentence = _("The certificate could not be renewed yet: {s}").format(s=exc)
            if self._board.problem("renewal", sentence):
                log.warning("%s", sentence)
            return False
        self._board.problem("renewal", None)
        if renewed:
            until = self._credentials.current.certificate.not_valid_after_utc
            log.info(_("The certificate was renewed; it is valid until %s."), until.date().isoformat())
        return renewed


def is_damaged(home: SiteHome) -> bool:
    """Whether ``client.crt`` is gone, unreadable or of another key, although one was issued."""
    if not home.key.exists() or not _issued_serial(home):
        return False
    try:
        certificate = x509.load_pem_x509_certificate(home.certificate.read_bytes())
    except (OSError, ValueError):
        return True
    return certificate.public_key() != load_or_make_key(home).public_key()


def ask_again(home: SiteHome, manifest: KitManifest, door: PortalDoor) -> Identity:
    """The certificate the portal issued for the key that is here, put in the place of the damaged one.

    Raises AgentError, PortalUnreachableError.
    """
    signer = Signer(load_or_make_key(home), manifest.site, _issued_serial(home))
    return _fetch(home, manifest, signer, door)


def note_issued(home: SiteHome, identity: Identity) -> None:
    """Write down, durably, which certificate this site holds: enough to ask for it again."""
    until = identity.certificate.not_valid_after_utc.isoformat()
    known = read_state(home.state / ISSUED) | {"serial": identity.serial, "not_after": until}
    write_bytes(home.state / ISSUED, json.dumps(known).encode(), mode=0o600)


def _fetch(home: SiteHome, manifest: KitManifest, signer: Signer, door: PortalDoor) -> Identity:
    pem = str(door.renew(signer).get("certificate_pem", "")).encode()
    key = load_or_make_key(home)
    certificate = check_certificate(pem, key, home.root_ca.read_bytes(), manifest.site)
    identity = Identity(key, certificate, manifest.site)
    log_act(home, "certificate.received", obj=identity.serial, not_after=str(certificate.not_valid_after_utc))
    note_issued(home, identity)  # first: it is what finds the way back when the next line is cut off
    write_bytes(home.certificate, pem, mode=0o600)
    return identity


def _issued_serial(home: SiteHome) -> str:
    return str(read_state(home.state / ISSUED).get("serial", ""))
