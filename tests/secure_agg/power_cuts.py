"""Ends a site between two lines of the package, or at a write of its vault."""

import sys
from pathlib import Path

import secure_agg

PACKAGE = str(Path(secure_agg.__file__).parent)


class PowerCutError(Exception):
    """The process ends here."""


class Cut:
    """Ends the process at line event number ``at`` of the package; counts them when ``at`` is None."""

    def __init__(self, at=None):
        self.at, self.count = at, 0

    def _trace(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.at:
                raise PowerCutError
        return self._trace

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *about):
        sys.settrace(self._before)


class FailingVault:
    """Fails at write number ``at``: before it (``"before"``) or once it is durable (``"after"``)."""

    def __init__(self, real, at, when):
        self.key, self._real, self._at, self._when, self.writes = real.key, real, at, when, 0

    def read_state(self):
        return self._real.read_state()

    def write_state(self, data):
        self._do(lambda: self._real.write_state(data))

    def update_ledger(self, change):
        self._do(lambda: self._real.update_ledger(change))

    def _do(self, write):
        self.writes += 1
        number = self.writes
        if (number, self._when) == (self._at, "before"):
            raise PowerCutError
        write()
        if (number, self._when) == (self._at, "after"):
            raise PowerCutError
