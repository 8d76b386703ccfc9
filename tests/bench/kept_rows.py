"""Rows of a long campaign, written down as they are measured; of no use once the code has changed."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def commit_of(repository=REPOSITORY):
    """The commit of a tree without changes, else an empty string."""
    git = ["git", "-C", str(repository)]
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    if changed.returncode or changed.stdout.strip():
        return ""
    return subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()


class KeptRows:
    """The rows of one commit in a file of JSON lines; without a file or a commit, nothing is kept."""

    def __init__(self, path, commit):
        self._path, self._commit = path, commit
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self.rows = []
        for line in lines:
            with suppress(json.JSONDecodeError):  # torn by a kill, the next row behind it
                row = json.loads(line)
                if commit and row["commit"] == commit:
                    self.rows.append(row)

    def add(self, row):
        if self._path and self._commit:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row | {"commit": self._commit}) + "\n")
