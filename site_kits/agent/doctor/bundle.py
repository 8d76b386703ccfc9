"""What support may see: findings, versions and counts. No log line, no file of the data, no patient.

Sentences of checks on data name rows, files and patients, so of those only the outcome goes in.
"""

import json
import platform
import zipfile
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from site_kits.agent.doctor.examination import Finding
from site_kits.site_home import SiteHome, read_state

PACKAGES = ("consilium", "nvflare", "torch", "monai", "transformers", "cryptography", "httpx", "starlette")
ABOUT_DATA = ("data", "label_counts")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def write_bundle(path: Path, home: SiteHome, findings: Sequence[Finding]) -> None:
    """Write the zip; an older one is replaced. Raises OSError."""
    parts = {
        "findings.json": [_redacted(finding, home) for finding in findings],
        "versions.json": _versions(),
        "status.json": _status(home),
        "log_levels.json": _log_levels(home),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _redacted(finding: Finding, home: SiteHome) -> dict[str, Any]:
    shown = finding.as_json()
    if finding.code.startswith(ABOUT_DATA):
        shown["sentence"] = ""
    for place, word in ((str(home.root), "<kit>"), (str(Path.home()), "<home>")):
        shown["sentence"] = shown["sentence"].replace(place, word)
    return shown


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "–"
    return found


def _status(home: SiteHome) -> dict[str, Any]:
    """Counts and states only; sentences and names stay here."""
    status = read_state(home.status_json)
    nothing: dict[str, Any] = {}
    children = {name: status.get(name, nothing) for name in ("client", "inference")}
    return {
        **{name: {"state": c.get("state"), "restarts": c.get("restarts")} for name, c in children.items()},
        "certificate_days_left": status.get("certificate_days_left"),
        "data_sets": len(status.get("datasets", ())),
        "models_served": len(status.get("serving", ())),
        "problems": sorted({str(topic).split()[0] for topic in status.get("problems", nothing)}),
    }


def _log_levels(home: SiteHome) -> dict[str, int]:
    """How many lines of each level agent.log has."""
    try:
        lines = (home.logs / "agent.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return dict(Counter(level for line in lines for level in LEVELS if f" {level} " in line[:40]))
