"""Writes what the site permits into NVFlare's own files: before its client starts, and when that changes."""

import json
import threading
from pathlib import Path

from fl_jobs.approval import approved, site_policy
from fl_jobs.approval.gate import POLICY_FILE
from fl_jobs.approval.records import REQUESTS, RUN_ID
from fl_jobs.errors import FLJobError
from fl_jobs.tensor_files import write_bytes
from site_kits.errors import AgentError
from site_kits.fence import FILES, PermittedRun, fence_files, permits_nothing
from site_kits.site_home import SiteHome
from site_kits.translation import _


class Fence:
    """NVFlare's files of one site. Written by the agent alone, read by NVFlare's client and job processes."""

    def __init__(self, home: SiteHome) -> None:
        self._home = home
        self._one = threading.Lock()  # the heartbeat renews, and whoever starts the client
        self._written: object = None  # what the files were made from, and how they were left
        self.is_open = False  # whether any run could be permitted; NVFlare's client learns it when it starts

    def renew(self) -> None:
        """Write the files if they, policy or decisions changed. Raises AgentError: nothing may start then."""
        with self._one:
            sources = self._sources()
            if (sources, self._files()) != self._written:
                self._write()
                self._written = (sources, self._files())

    def _write(self) -> None:
        try:
            policy = site_policy(self._home.root)
        except FLJobError:  # its sentence stands among the problems already; nothing is permitted meanwhile
            policy = None
        files = fence_files(policy, self._permitted() if policy else ())
        local = self._home.flare / "local"
        try:
            for name, content in files.items():
                write_bytes(local / name, (json.dumps(content, indent=1) + "\n").encode())
        except OSError as error:
            raise AgentError(
                _(
                    "NVFlare's files in {folder} cannot be written ({reason}); make room or set the rights."
                ).format(folder=local, reason=error.strerror)
            ) from error
        self.is_open = policy is not None and not permits_nothing(policy)

    def _permitted(self) -> list[PermittedRun]:
        found = []
        for path in self._requests():
            try:
                admission = approved(self._home.root, path.name)
            except FLJobError:  # refused, not decided, not permitted any more, damaged
                continue
            found.append(PermittedRun(path.name, admission.spec.digest(), admission.policy))
        return found

    def _sources(self) -> object:
        root = self._home.root
        decisions = [_state(path / "decision.json") for path in self._requests()]
        return _state(root / POLICY_FILE), decisions

    def _files(self) -> object:
        return [_state(self._home.flare / "local" / name) for name in FILES]

    def _requests(self) -> list[Path]:
        folder = self._home.root / REQUESTS
        return sorted(path for path in folder.glob("*") if RUN_ID.fullmatch(path.name))


def _state(path: Path) -> object:
    try:
        facts = path.stat()
    except OSError:
        return str(path), None
    return str(path), facts.st_mtime_ns, facts.st_size, facts.st_ino
