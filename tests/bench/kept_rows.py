"""Rows of a long campaign, written down as they are measured; of no use once the code behind them changes."""

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = REPOSITORY / "tests" / "bench" / "pfllib_driver.py"  # the other side's process
CATALOG = REPOSITORY / "fl_jobs" / "catalog"
DECLARATIONS = {CATALOG / "algorithms.py", CATALOG / "templates.py"}


def loaded_code(declared: Mapping[str, object]) -> str:
    """SHA-256 over every source file of ours that this process has loaded, and the other side's driver.

    Files, not a commit: a campaign takes hours, and work on pages or on the log changes none of its figures.
    Of the files that only declare settings, what the run took of them counts instead: ``declared``. Another
    default of a setting that the run sets itself moves nothing.
    """
    files = {DRIVER}
    for module in list(sys.modules.values()):
        path = Path(getattr(module, "__file__", None) or "/")
        if path.suffix == ".py" and path.is_relative_to(REPOSITORY) and ".venv" not in path.parts:
            files.add(path)
    lines = [f"{path.relative_to(REPOSITORY)} {_sha256(path)}\n" for path in sorted(files - DECLARATIONS)]
    lines.append(json.dumps(declared, sort_keys=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def processor() -> str:
    """The processor's name: on another one the last bits differ, and training makes more of them."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit_of(repository):
    """The commit that ``repository`` stands at; an empty string where it is none."""
    git = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


class KeptRows:
    """The rows in a file of JSON lines, newest last; without a file nothing is kept."""

    def __init__(self, path):
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self.rows = []
        for line in lines:
            with suppress(json.JSONDecodeError):  # torn by a kill, the next row behind it
                self.rows.append(json.loads(line))

    def add(self, row):
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
