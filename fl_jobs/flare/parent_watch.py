"""Ends a job process whose parent is gone.

NVFlare starts job processes in sessions of their own, so they survive a SIGKILL of their parent and of its
process group; a supervisor that restarts the parent would leave them behind, training for nobody.
"""

import os
import threading
import time

_EXIT_CODE = 9  # NVFlare's "aborted"


def exit_with_parent(poll_s: float = 1.0) -> None:
    """From now on end this process, at once and without clean-up, when its parent ends.

    Every file of ours is written whole or not at all, so the sudden end is a dropout like any other.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(poll_s)
        os._exit(_EXIT_CODE)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
