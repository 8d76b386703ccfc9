"""The signer as a process of its own, in production as a user of its own.

::

    python -m compliance.signer --folder FOLDER --init FEDERATION/audit     once: makes the key
    python -m compliance.signer --folder FOLDER [--socket PATH] [--group NAME]
"""

import argparse
import signal
import sys
import threading
from pathlib import Path

from compliance.signer.core import Signer, SignerError, create
from compliance.signer.door import SOCKET_NAME, SignerServer


def main() -> int:
    """Exit code 0 when it was asked to end, 1 with a sentence when it cannot run."""
    parser = argparse.ArgumentParser(prog="python -m compliance.signer", description="Signs tree heads.")
    parser.add_argument(
        "--folder", type=Path, required=True, help="key and memory; only this user may read it"
    )
    parser.add_argument("--init", metavar="LOG", help="make the key for the trees LOG/YEAR, then end")
    parser.add_argument("--socket", type=Path, help=f"where it answers (FOLDER/{SOCKET_NAME})")
    parser.add_argument("--group", default="", help="whose members may connect, beside this user")
    options = parser.parse_args()
    try:
        if options.init:
            made = create(options.folder, options.init)
            print("The key is made." if made else "There is a key already; it is kept.")  # noqa: T201 a console
            return 0
        return _serve(options.folder, options.socket or options.folder / SOCKET_NAME, options.group)
    except (SignerError, LookupError) as error:
        print(error, file=sys.stderr)  # noqa: T201 a console
    except OSError as error:
        print(f"{error.filename or options.folder}: {error.strerror}", file=sys.stderr)  # noqa: T201 a console
    return 1


def _serve(folder: Path, path: Path, group: str) -> int:
    signer = Signer(folder)
    with SignerServer(signer, path, group) as server:
        # shutdown() waits for the loop that the handler interrupts, so another thread has to ask
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever(poll_interval=0.2)
    path.unlink(missing_ok=True)
    signer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
