"""Whether a port can be listened on, asked before a process is started on it."""

import socket


def is_free(host: str, port: int) -> bool:
    """Whether nothing listens on ``host:port`` now; somebody else may still take it a moment later."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
