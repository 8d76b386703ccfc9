"""Where a site's job process finds the site's folder, and what the site itself allows."""

import json
import os
from pathlib import Path

from fl_jobs.errors import SiteHomeError

VARIABLE = "CONSILIUM_SITE_HOME"


def find_site_home() -> Path:
    """Return the folder that the site's agent named, never one from a job. Raises SiteHomeError."""
    value = os.environ.get(VARIABLE, "")
    home = Path(value)
    if not value or not home.is_absolute() or not (home / "site.json").is_file():
        raise SiteHomeError(f"{VARIABLE} does not name a site's folder; start the site with its start.sh.")
    return home


def shares_site_metrics(home: Path) -> bool:
    """Return whether the site's own policy lets its metrics leave; no, when that cannot be read."""
    try:
        policy = json.loads((home / "site.json").read_text(encoding="utf-8"))["policy"]
        return policy["share_site_metrics"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False
