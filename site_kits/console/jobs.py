"""Starting the reading process and waiting for it, one at a time."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from fl_jobs.errors import DataError
from site_kits.console.reading import CPU_S, failure, result_path
from site_kits.site_home import SiteHome, read_state, write_state
from site_kits.translation import _

WALL_S = CPU_S
PATIENCE_S = 2.5  # how long a click waits for its answer before the page says "reading …"


@dataclass(frozen=True)
class Step:
    """One action of the reading process on one folder."""

    folder: str
    action: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Readings:
    """What is being read, and what was found last."""

    home: SiteHome
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _running: dict[str, tuple[str, float]] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def running(self, folder: str) -> tuple[str, int] | None:
        """(action, seconds) while something of this folder is being read."""
        found = self._running.get(folder)
        return (found[0], int(time.monotonic() - found[1])) if found else None

    def found(self, folder: str, action: str) -> dict[str, Any]:
        """The last answer; empty when there is none."""
        return read_state(result_path(self.home, folder, action))

    def forget(self, folder: str, *actions: str) -> None:
        """Answers that no longer hold."""
        for action in actions:
            result_path(self.home, folder, action).unlink(missing_ok=True)

    async def read(self, *steps: Step) -> bool:
        """Start steps that follow each other and wait a moment for them; whether they are done by then.

        A step that failed ends the row. A folder that is being read is not read a second time.
        """
        if any(step.folder in self._running for step in steps):
            return False
        for step in steps:
            self._running[step.folder] = (step.action, time.monotonic())
        task = asyncio.create_task(self._read(steps))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        done, _pending = await asyncio.wait([task], timeout=PATIENCE_S)
        return bool(done)

    async def _read(self, steps: tuple[Step, ...]) -> None:
        try:
            async with self._one:
                for step in steps:
                    began = time.time()
                    code = await self._run(step.folder, step.action, step.options)
                    if float(self.found(step.folder, step.action).get("at") or 0) < began:
                        self._say_that_it_ended(step.folder, step.action, code)
                    if self.found(step.folder, step.action).get("error"):
                        return
        finally:
            for step in steps:
                self._running.pop(step.folder, None)

    async def _run(self, folder: str, action: str, options: dict[str, Any]) -> int | None:
        """The exit status; None when it took too long. What it writes to its screen could hold data."""
        nothing = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "site_kits.console.reading", action,
            "--home", str(self.home.root), "--folder", folder, "--options", json.dumps(options),
            stdin=nothing, stdout=nothing, stderr=nothing,
        )  # fmt: skip
        try:
            return await asyncio.wait_for(process.wait(), WALL_S)
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _say_that_it_ended(self, folder: str, action: str, code: int | None) -> None:
        if code is None:
            error = DataError("Reading took longer than %(s)s seconds. Divide the data set.", s=WALL_S)
        else:
            error = DataError(
                "Reading ended before its time (code %(code)s): the file is too large or damaged.", code=code
            )
        write_state(result_path(self.home, folder, action), failure(error) | {"at": time.time()})


def say(record: dict[str, Any]) -> str:
    """A sentence of the reading process in the language of the request."""
    sentence = _(record["sentence"])
    text = sentence % record["values"] if record["values"] else sentence
    return f"{record['where']}: {text}" if record.get("where") else text
