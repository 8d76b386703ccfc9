"""Which certificates may speak to the NVFlare server, asked at every registration and of every connection.

NVFlare 2.9 checks a certificate once, when TLS is agreed on or a name is registered. What is revoked or
expires afterwards keeps its open connection for as long as it likes, and so do the job processes of a site
after ``disable_client``. Here each connection is looked at again several times a second and cut.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.fuel.f3.drivers.connector_info import Mode

from fl_jobs.packaging.allow_list import AllowList

LOOK_EVERY_S = 0.25
PAUSE_S = 0.05  # a site asks for its next task every tenth of a second and has its answer in a hundredth
HANDOVER_S = 60.0  # for a site that never pauses; what is sent at the moment of the cut is sent again
HANDOVER_LOOK_S = 0.02
_NO_GATE = 3  # exit status of a server whose certificates cannot be checked


class CertificateRefusedError(Exception):
    """The certificate is genuine and does not count (any more)."""


class GuardedVerifier:
    """NVFlare's verifier of identities, which afterwards asks the allow-list for the serial number."""

    def __init__(self, verifier: Any, allow_list: AllowList) -> None:
        self._verifier, self._allow_list = verifier, allow_list

    def verify_common_name(
        self, asserted_cn: str, nonce: str, asserter_cert: x509.Certificate, signature: Any, **more: Any
    ) -> bool:
        """As NVFlare's. Raises CertificateRefusedError for a serial number that is not on the list."""
        verified = self._verifier.verify_common_name(
            asserted_cn=asserted_cn, nonce=nonce, asserter_cert=asserter_cert, signature=signature, **more
        )
        check_certificate(asserter_cert, self._allow_list)
        return bool(verified)


def check_certificate(certificate: x509.Certificate, allow_list: AllowList) -> None:
    """Raise CertificateRefusedError unless this certificate counts now."""
    name, serial = _common_name(certificate), f"{certificate.serial_number:x}"
    if certificate.not_valid_after_utc.timestamp() <= time.time():
        raise CertificateRefusedError(f"certificate {serial} of {name} has expired")
    if not allow_list.allows(name, serial):
        reason = allow_list.fault or "revoked, replaced, suspended or never issued to it"
        raise CertificateRefusedError(f"certificate {serial} of {name} is not allowed: {reason}")


class CertificateGate(FLComponent):
    """The server's component. Where it cannot be put in place the server ends: it fails closed."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """On SYSTEM_START (the parent process only) guard registration and every connection."""
        if event_type != EventType.SYSTEM_START:
            return
        is_closed = False
        try:
            self._close(fl_ctx)
            is_closed = True
        finally:
            if not is_closed:  # NVFlare would log the exception and forget it, and let everybody in
                self.log_exception(fl_ctx, "the gate for certificates does not fit this NVFlare")
                os._exit(_NO_GATE)

    def _close(self, fl_ctx: FLContext) -> None:
        server = fl_ctx.get_prop(FLContextKey.SITE_OBJ)
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        allow_list = AllowList(Path(workspace.get_root_dir()))
        guard_verifier(server.client_manager.cred_keeper, allow_list)
        watch = ConnectionWatch(server, allow_list, lambda text: self.log_warning(fl_ctx, text))
        watch.guard_new_connections()
        threading.Thread(target=watch.run, name="certificate-gate", daemon=True).start()
        self.log_info(fl_ctx, "the gate for certificates is closed")


def guard_verifier(keeper: Any, allow_list: AllowList) -> None:
    """Put the allow-list behind the verifiers that ``keeper`` (NVFlare's CredKeeper) hands out.

    It cannot make one yet at SYSTEM_START: its configuration comes with the first request.
    """
    get_id_verifier = keeper.get_id_verifier

    def get_guarded(fl_ctx: FLContext) -> GuardedVerifier | None:
        verifier = get_id_verifier(fl_ctx)
        return None if verifier is None else GuardedVerifier(verifier, allow_list)

    keeper.get_id_verifier = get_guarded


class ConnectionWatch:
    """Every connection that came in with a client certificate. ``server`` is NVFlare's FederatedServer."""

    def __init__(self, server: Any, allow_list: AllowList, say: Callable[[str], None]) -> None:
        self._allow_list, self._say = allow_list, say
        self._clients, self._log_out = server.client_manager, server.logout_client
        self._ended: set[str] = set()
        manager = server.cell.core_cell.communicator.conn_manager
        connectors, self._sfm_connections = manager.connectors.values(), manager.sfm_conns
        listening = [connector.driver for connector in connectors if connector.mode == Mode.PASSIVE]
        # the loopback listener for the server's own job processes speaks another protocol
        self._drivers = [driver for driver in listening if type(driver).__name__ == "GrpcDriver"]
        if not self._drivers:
            raise ValueError("the server listens with no gRPC driver")
        self._certificates: dict[str, x509.Certificate] = {}
        self._handover_since: dict[str, float] = {}

    def guard_new_connections(self) -> None:
        """From now on a connection is asked before its first frame is read."""
        for driver in self._drivers:
            driver.add_connection = self._guarded(driver.add_connection)

    def run(self) -> None:
        """Look for ever. A server whose watch has ended would cut nobody any more, so it ends as well."""
        try:
            while True:
                self.look()
                time.sleep(HANDOVER_LOOK_S if self._handover_since else LOOK_EVERY_S)
        finally:
            traceback.print_exc()
            os._exit(_NO_GATE)

    def look(self) -> None:
        """Cut every connection, and end every session, whose certificate does not count now."""
        open_now: dict[str, Any] = {}
        for driver in self._drivers:
            with driver.conn_lock:
                open_now |= driver.connections
        for name, connection in open_now.items():
            try:
                self._check(name, connection)
            except CertificateRefusedError as error:
                if self._may_stay(name):
                    continue
                self._say(f"{error}; connection {name} is cut")
                cut(connection)
        self._certificates = {name: kept for name, kept in self._certificates.items() if name in open_now}
        self._handover_since = {name: at for name, at in self._handover_since.items() if name in open_now}
        self._end_sessions()

    def _guarded(self, add_connection: Callable[[Any], None]) -> Callable[[Any], None]:
        def add(connection: Any) -> None:
            try:
                self._check(connection.name, connection)
            except CertificateRefusedError as error:
                self._say(f"{error}; connection {connection.name} is refused")
                raise
            add_connection(connection)

        return add

    def _may_stay(self, name: str) -> bool:
        """A connection of a renewed certificate's predecessor is cut in a pause, so that nothing is lost."""
        certificate, known = self._certificates.get(name), self._sfm_connections.get(name)
        if certificate is None or known is None:
            return False
        if not self._allow_list.was_replaced(_common_name(certificate), f"{certificate.serial_number:x}"):
            return False
        since = self._handover_since.setdefault(name, time.monotonic())
        is_busy = time.time() - known.last_activity < PAUSE_S
        return is_busy and time.monotonic() - since < HANDOVER_S

    def _check(self, name: str, connection: Any) -> None:
        context = connection.context
        if context is None:  # NVFlare is closing it
            return
        certificate = self._certificates.get(name)
        if certificate is None:
            pem = (context.auth_context().get("x509_pem_cert") or [b""])[0]
            if not pem:
                raise CertificateRefusedError("a connection without a client certificate")
            certificate = self._certificates[name] = x509.load_pem_x509_certificate(pem)
        check_certificate(certificate, self._allow_list)

    def _end_sessions(self) -> None:
        """A site without any certificate that counts is not online: NVFlare counts it as dead at once.

        Merely forgotten, its jobs would wait for its outcome for 900 s after they have ended.
        """
        with self._clients.lock:
            registered = {token: client.name for token, client in self._clients.clients.items()}
        self._ended &= registered.keys()
        for token, name in registered.items():
            if token not in self._ended and not self._allow_list.knows(name):
                self._ended.add(token)
                # it asks the job processes, which may take seconds
                threading.Thread(target=self._log_out, args=(token,), daemon=True).start()


def cut(connection: Any) -> None:
    """End a gRPC stream now: what arrives later is not read, and the peer has to agree on TLS again.

    NVFlare's own ``close`` only marks it; a reader that waits for the next frame would still deliver nothing,
    but the stream would stay open until the peer speaks.
    """
    context = connection.context
    connection.close()
    if context is not None:
        context.cancel()


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
