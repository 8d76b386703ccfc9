"""Looks at what the federation puts on the wire: who is refused, and which bytes went by."""

import socket
import ssl
import threading
from pathlib import Path


def refuses_strangers(port: int, root: Path) -> bool:
    """Whether the NVFlare server turns away a TLS client that has no certificate of the federation."""
    context = ssl.create_default_context(cafile=str(root))
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
            return secured.recv(64) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def speaks_plain_text(port: int) -> bool:
    """Whether the port answers HTTP/2 without TLS."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
        try:
            return b"\x00\x00" in plain.recv(64)[:3]
        except (ConnectionError, TimeoutError):
            return False


class Capture:
    """Writes every packet of the loopback interface into a file; needs the right to open raw sockets."""

    def __init__(self, path: Path, *, limit_bytes: int = 2**30) -> None:
        self._path, self._limit = path, limit_bytes
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
        self._socket.bind(("lo", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**25)
        self._socket.settimeout(0.5)
        self._running = True
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._running = False
        self._thread.join(5)
        self._socket.close()
        return self._path.stat().st_size

    def _record(self) -> None:
        written = 0
        with self._path.open("wb") as file:
            while self._running and written < self._limit:
                try:
                    packet = self._socket.recv(2**17)
                except TimeoutError:
                    continue
                written += file.write(packet[66:] if len(packet) > 66 else packet)
