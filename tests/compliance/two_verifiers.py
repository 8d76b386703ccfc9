"""The two verifiers as an auditor runs them: ``verify.py`` and, in Chromium, ``verifier.html``."""

import base64
import contextlib
import functools
import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from compliance import verify
from tests.compliance.crafted import NOW

REPOSITORY = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")  # five files a case: opening one took 1.2 ms on a disk under load
PAGE = REPOSITORY / "compliance" / "verifier.html"
_RUN = """async cases => {
  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const file = text => {
    const all = bytes(text);
    return { size: all.length, read: async (start, end) => all.subarray(start, end) };
  };
  const judge = async ([source, policy, entry, complete, maxAge, now]) => {
    const asked = { source: file(source), policy: file(policy), entry: entry === null ? null : file(entry) };
    const { exit, problems } = await verify({ ...asked, complete, maxAge, now });
    return [exit, problems.map(problem => problem.key).join(" ")];
  };
  return Promise.all(cases.map(judge)); // side by side: each hash is a trip to another thread and back
}"""


@dataclass(frozen=True)
class Case:
    """One file, what is asked of it, and the exit codes that are right for it."""

    family: str
    data: bytes
    policy: bytes
    right: frozenset[int]
    entry: bytes | None = None
    complete: bool = False
    max_age: int | None = None
    now: int = NOW + 60


class PageVerifier:
    """The page's own ``verify``, called within the page that an auditor opens."""

    def __init__(self, page: Any) -> None:
        self.page = page
        page.goto(PAGE.as_uri())

    def exits(self, cases: Sequence[Case]) -> list[tuple[int, str]]:
        """Exit code and the names of what was found, in the order of ``cases``."""
        rows = [
            [
                _text(case.data),
                _text(case.policy),
                None if case.entry is None else _text(case.entry),
                case.complete,
                case.max_age,
                case.now,
            ]
            for case in cases
        ]
        return [(int(code), str(found)) for code, found in self.page.evaluate(_RUN, rows)]


class FileVerifier:
    """``verify.main`` within this process; a signature it has judged once is remembered (7 ms each)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exit(self, case: Case) -> tuple[int, str]:
        """Exit code and what it printed."""
        source, policy, entry = (self.folder / name for name in ("source", "policy", "entry"))
        source.write_bytes(case.data)
        policy.write_bytes(case.policy)
        arguments = [str(source), "--policy", str(policy), "--json"]
        if case.entry is not None:
            entry.write_bytes(case.entry)
            arguments = ["--entry", str(entry), *arguments]
        if case.data.startswith(b"consilium-audit-evidence"):
            arguments.append("--evidence")
        arguments += ["--complete"] if case.complete else []
        arguments += [] if case.max_age is None else ["--max-age", str(case.max_age)]
        printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        verify.time = SimpleNamespace(**{**vars(time), "time": lambda: float(case.now)})
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = verify.main(arguments)
        printed.seek(0)
        return code, printed.read()


@contextlib.contextmanager
def file_verifier() -> Iterator[FileVerifier]:
    """Its clock and its memory of signatures are put back afterwards."""
    clock, judge = verify.time, verify.is_signed
    verify.is_signed = functools.lru_cache(200_000)(judge)
    try:
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            yield FileVerifier(Path(folder))
    finally:
        verify.time, verify.is_signed = clock, judge


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
