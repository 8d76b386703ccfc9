"""The site's data folders: registered once, afterwards only their cards (counts) are read."""

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from fl_jobs.data import read_registration, register
from fl_jobs.data.manifest import read_manifest
from fl_jobs.errors import DataError
from site_kits.site_home import SiteHome
from site_kits.translation import _

log = logging.getLogger("consilium.site")


def data_folders(home: SiteHome) -> list[str]:
    """Names of the folders below ``data/`` that have a manifest."""
    if not home.data.is_dir():
        return []
    return sorted(folder.name for folder in home.data.iterdir() if (folder / "manifest.json").is_file())


def register_folder(home: SiteHome, name: str) -> dict[str, Any]:
    """Register ``data/<name>`` and return its card. Raises DataError naming file and row."""
    home.registered.mkdir(parents=True, exist_ok=True)
    return register(home.data / name, home.registered).model_dump(mode="json")


def register_all(home: SiteHome) -> dict[str, str]:
    """Register every data folder that is not registered yet; returns folder → sentence where that failed.

    What is registered stays as it is, so that a row never moves from the test part to training;
    ``consilium-site register NAME`` registers a changed folder anew.
    """
    problems = {}
    for folder in data_folders(home):
        try:
            name = read_manifest(home.data / folder).name
            if (home.registered / f"{name}.json").exists():
                card = read_registration(home.registered, name).card.model_dump(mode="json")
            else:
                card = register_folder(home, folder)
        except DataError as exc:
            problems[folder] = str(exc)
            log.warning(
                _("Data folder data/%s was not registered: %s The site comes up without it."), folder, exc
            )
        else:
            log.info(_("Data set %s: %s"), card["name"], describe(card))
    if not data_folders(home):
        log.info(_("No data set yet: put a folder with a manifest.json below %s and start again."), home.data)
    return problems


def describe(card: dict[str, Any]) -> str:
    """One line of counts."""
    counts = ", ".join(f"{label} {count}" for label, count in card["label_counts"].items())
    parts = ", ".join(f"{part} {count}" for part, count in card["parts"].items())
    line = _("{rows} rows ({counts}); {parts}").format(rows=card["rows"], counts=counts, parts=parts)
    return f"{_('synthetic data')}; {line}" if card.get("synthetic") else line


def registered_cards(home: SiteHome) -> list[dict[str, Any]]:
    """The cards of everything registered so far, as the heartbeat reports them."""
    cards = (_card(path, path.stat().st_mtime_ns) for path in sorted(home.registered.glob("*.json")))
    return [card for card in cards if card]


@lru_cache(maxsize=64)
def _card(path: Path, _changed_ns: int) -> dict[str, Any]:
    """One card; the file also lists the part of each row, so it is read only when it changed."""
    try:
        return read_registration(path.parent, path.stem).card.model_dump(mode="json")
    except DataError:
        return {}
