"""Attempts to speak to a running NVFlare server with a certificate, as NVFlare's own client makes them."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from nvflare.apis.fl_context import FLContext
from nvflare.apis.fl_exception import FLCommunicationError
from nvflare.apis.signal import Signal
from nvflare.apis.utils.decomposers import flare_decomposers
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.drivers.connector_info import ConnectorInfo, Mode
from nvflare.fuel.f3.drivers.grpc.qq import QQ
from nvflare.fuel.f3.drivers.grpc.streamer_pb2_grpc import StreamerStub
from nvflare.fuel.f3.drivers.grpc_driver import GrpcDriver, StreamConnection
from nvflare.fuel.f3.endpoint import Endpoint
from nvflare.fuel.f3.sfm.constants import Types
from nvflare.fuel.f3.sfm.sfm_conn import SfmConnection
from nvflare.private.fed.authenticator import Authenticator

ANSWER_LIMIT_S = 10.0


@dataclass(frozen=True)
class Papers:
    """What somebody shows: name, key and certificate, and the root he believes in (all PEM)."""

    name: str
    key: bytes
    certificate: bytes
    root: bytes


class Knock:
    """One stream to the server: NVFlare's handshake is sent, the server answers it or ends the stream."""

    def __init__(self, port: int, papers: Papers) -> None:
        credentials = grpc.ssl_channel_credentials(papers.root, papers.key, papers.certificate)
        # a subchannel of its own: gRPC would otherwise speak over the connection of an earlier knock
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channel = grpc.secure_channel(f"localhost:{port}", credentials, options=options)
        queue = QQ()
        connector = ConnectorInfo("knock", GrpcDriver(), {}, Mode.ACTIVE, 0, 0, False, threading.Event())
        self._connection = StreamConnection(queue, connector, {}, "CLIENT", channel=self._channel)
        self.answered = threading.Event()
        self.ended = threading.Event()
        self.ended_at = 0.0
        stream = StreamerStub(self._channel).Stream(self._connection.generate_output(), wait_for_ready=False)
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        SfmConnection(self._connection, Endpoint(papers.name)).send_handshake(Types.HELLO)

    def is_let_in(self) -> bool:
        """Whether the server answered the handshake."""
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while time.monotonic() < deadline:
            if self.answered.is_set() or self.ended.is_set():
                return self.answered.is_set()
            time.sleep(0.002)
        return False

    def cut_after(self, moment: float, limit_s: float) -> float | None:
        """Seconds from ``moment`` (time.time) until the server ended the stream; None if it did not."""
        return self.ended_at - moment if self.ended.wait(limit_s) else None

    def close(self) -> None:
        self._connection.close()

    def _read(self, stream: Any) -> None:
        try:
            for _frame in stream:
                self.answered.set()
        except grpc.RpcError:
            pass
        self.ended_at = time.time()
        self.ended.set()


def is_let_in(port: int, papers: Papers) -> bool:
    """One attempt, closed again."""
    knock = Knock(port, papers)
    try:
        return knock.is_let_in()
    finally:
        knock.close()


def registers(port: int, folder: Path, shown: Papers, registered_with: Papers, project: str) -> bool:
    """Whether NVFlare's own client code can register, with one certificate at TLS and one in its request."""
    paths = {}
    for part, papers in (("tls", shown), ("request", registered_with)):
        paths[part] = folder / part
        paths[part].mkdir(parents=True, exist_ok=True)
        for name in ("key", "certificate", "root"):
            (paths[part] / name).write_bytes(getattr(papers, name))
    credentials = {
        "ca_cert": str(paths["tls"] / "root"),
        "client_cert": str(paths["tls"] / "certificate"),
        "client_key": str(paths["tls"] / "key"),
    }
    cell = Cell(
        fqcn=shown.name,
        root_url=f"grpc://localhost:{port}",
        secure=True,
        credentials=credentials,
        create_internal_listener=False,
    )
    flare_decomposers.register()  # without it the server's answer cannot be read, and nobody says so
    cell.start()
    try:
        authenticator = Authenticator(
            cell=cell, project_name=project, client_name=shown.name, client_type="regular",
            expected_sp_identity="localhost", secure_mode=True, msg_timeout=8.0, retry_interval=1.0,
            root_cert_file=str(paths["request"] / "root"), timeout=6.0,
            private_key_file=str(paths["request"] / "key"), cert_file=str(paths["request"] / "certificate"),
        )  # fmt: skip
        token, *_rest = authenticator.authenticate(FLContext(), Signal())
    except FLCommunicationError as error:
        if "client_registration" not in str(error):  # it never came to a registration
            raise
        return False
    finally:
        cell.stop()
    return bool(token)
