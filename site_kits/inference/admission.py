"""Who may ask: the bearer of a ticket the portal signed for this site, minutes ago, not used before."""

import hashlib
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from site_kits.errors import SignatureError
from site_kits.inference.problems import RequestProblemError
from site_kits.manifest import KitManifest
from site_kits.site_home import ServeOrder, SiteHome, read_serving
from site_kits.tickets import load_public_key, verify_ticket
from site_kits.translation import _

MAX_TICKET_CHARACTERS = 4096
_KEEP_NONCE_S = 900  # longer than any ticket lives (300 s) plus clock slack


class NonceBook:
    """Used nonces as empty files: creating one is atomic and survives a restart, which memory does not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next_pruning = 0.0

    def spend(self, nonce: str) -> None:
        """Raises RequestProblemError when ``nonce`` was spent before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._prune()
        try:
            (self._folder / hashlib.sha256(nonce.encode()).hexdigest()).touch(exist_ok=False)
        except FileExistsError as exc:
            sentence = _("This ticket was used before. Ask again from the portal's page.")
            raise RequestProblemError(401, "ticket_used", sentence) from exc

    def _prune(self) -> None:
        now = time.time()
        if now < self._next_pruning:
            return
        self._next_pruning = now + 60
        for path in self._folder.iterdir():
            if path.stat().st_mtime < now - _KEEP_NONCE_S:
                path.unlink(missing_ok=True)


class Admission:
    """Checks ``Authorization: Ticket …`` and finds the serving order it is for."""

    def __init__(self, home: SiteHome, manifest: KitManifest) -> None:
        self._home, self._manifest = home, manifest
        self._nonces = NonceBook(home.state / "nonces")

    def ticket_keys(self) -> dict[str, Ed25519PublicKey]:
        """The portal's ticket keys by id: of the last heartbeat, else those the kit came with."""
        latest = {key["kid"]: key["public_key"] for key in read_serving(self._home).ticket_keys}
        keys = latest or {key.kid: key.public_key for key in self._manifest.ticket_keys}
        return {kid: load_public_key(public_key) for kid, public_key in keys.items()}

    def web_origin(self) -> str:
        """The portal's origin, the only one whose pages may ask."""
        return (read_serving(self._home).web_origin or self._manifest.web_origin).rstrip("/")

    def admit(self, authorization: str) -> ServeOrder:
        """The order a ticket is for; the ticket is spent. Raises RequestProblemError (401, 404)."""
        scheme, _space, ticket = authorization.partition(" ")
        if scheme.lower() != "ticket" or not ticket or len(ticket) > MAX_TICKET_CHARACTERS:
            sentence = _("A ticket of the portal is needed. Ask from the portal's page.")
            raise RequestProblemError(401, "ticket_missing", sentence)
        try:
            claims = verify_ticket(
                self.ticket_keys(), ticket.strip(), site=self._manifest.site, now=time.time()
            )
        except SignatureError as exc:
            raise RequestProblemError(401, "ticket_invalid", str(exc)) from exc
        self._nonces.spend(claims.nonce)
        for order in read_serving(self._home).orders:
            if str(order.promotion) == str(claims.promotion) and order.study == claims.study:
                return order
        sentence = _(
            "This site does not serve the model the ticket is for (yet). Wait ten seconds and ask again; if "
            "it stays, ask the administrator whether the model was withdrawn."
        )
        raise RequestProblemError(404, "not_served", sentence)
