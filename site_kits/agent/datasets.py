"""The site's data folders, and whether they are shared.

A registration below ``registered/`` is shared: its card (counts) leaves with the heartbeat and runs may train
on it. One below ``checked/`` is the operator's own until one switch moves it.
"""

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from fl_jobs.approval import site_log
from fl_jobs.data import read_registration, register
from fl_jobs.data.manifest import MANIFEST, read_manifest
from fl_jobs.data.register import SMALLEST_COUNT, file_sha256
from fl_jobs.errors import DataError, SiteLogError
from site_kits.agent.site_acts import log_act
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome, sync_folder
from site_kits.translation import _

log = logging.getLogger("consilium.site")


def data_folders(home: SiteHome) -> list[str]:
    """Names of the folders below ``data/`` that have a manifest."""
    if not home.data.is_dir():
        return []
    return sorted(folder.name for folder in home.data.iterdir() if (folder / MANIFEST).is_file())


def register_folder(home: SiteHome, name: str) -> dict[str, Any]:
    """Register ``data/<name>``, share it and return its card. Raises DataError naming file and row."""
    return publish(home, check_folder(home, name)["name"])


def check_folder(home: SiteHome, name: str) -> dict[str, Any]:
    """Register ``data/<name>`` without sharing it, and return its own card with all counts.

    What was shared before is not any more: the operator has not seen the new counts. Raises DataError.
    """
    home.checked.mkdir(parents=True, exist_ok=True)
    card = register(home.data / name, home.checked)
    if (shared := home.registered / f"{card.name}.json").exists():
        before = read_registration(home.registered, card.name).card.digest
        same = before == card.digest
        if not same:
            _log("dataset.withdrawn", home, f"{card.name} {before}", because="changed")
        (home.checked / shared.name if same else shared).unlink()
        sync_folder(home.registered)
    return card.model_dump(mode="json")


def publish(home: SiteHome, name: str) -> dict[str, Any]:
    """The one switch: from now on the card leaves with every heartbeat. Returns what leaves.

    Raises DataError when there is nothing checked, when it changed since, or when it is too small.
    """
    if not (home.checked / f"{name}.json").exists() and (home.registered / f"{name}.json").exists():
        return read_registration(home.registered, name).shared_card()
    registration = read_registration(home.checked, name)
    folder = home.data / name
    if folder.is_dir():
        for file in (MANIFEST, read_manifest(folder).file):
            if registration.files.get(file) != file_sha256(folder / file):
                sentence = _("{file} changed since it was checked. Check the data set again.")
                raise DataError(sentence.format(file=file))
    if registration.card.rows < SMALLEST_COUNT:
        sentence = _("A data set of fewer than {n} cases is not shared: its counts would point at persons.")
        raise DataError(sentence.format(n=SMALLEST_COUNT))
    digest, rows = registration.card.digest, registration.card.rows
    _log("dataset.registered", home, f"{name} {digest}", rows=rows)
    home.registered.mkdir(parents=True, exist_ok=True)
    _move(home.checked, home.registered, name)
    return registration.shared_card()


def withdraw(home: SiteHome, name: str) -> None:
    """The switch back: the portal forgets the card at the next heartbeat, no run trains on the data set.

    Raises AgentError: it is not shared, or the site's log does not take the entry.
    """
    if not (home.registered / f"{name}.json").exists():
        raise AgentError(_("The data set {name} is not shared.").format(name=name))
    try:
        digest = read_registration(home.registered, name).card.digest
    except DataError:  # what is damaged can be withdrawn as well
        digest = "-"
    log_act(home, "dataset.withdrawn", obj=f"{name} {digest}", because="withdrawn")
    home.checked.mkdir(parents=True, exist_ok=True)
    _move(home.registered, home.checked, name)


def _log(act: str, home: SiteHome, obj: str, **data: site_log.Scalar) -> None:
    try:
        site_log.record_all(home.root, [(act, "", None, obj, data)])
    except SiteLogError as exc:
        raise DataError(str(exc)) from exc


def _move(source: Path, target: Path, name: str) -> None:
    (source / f"{name}.json").replace(target / f"{name}.json")
    sync_folder(target)
    sync_folder(source)


def look_at_folders(home: SiteHome) -> dict[str, str]:
    """At every start: what is shared and what waits; returns folder → sentence where one is not usable.

    Nothing is registered here: what leaves is what the operator has seen and switched on.
    """
    problems = {}
    for folder in data_folders(home):
        try:
            name = read_manifest(home.data / folder).name
            if (home.registered / f"{name}.json").exists():
                registration = read_registration(home.registered, name)
                log.info(_("Data set %s: %s"), name, describe(registration.shared_card()))
            else:
                log.info(
                    _("Data set %s is not shared. Look at it in the console, or run: ./start.sh register %s"),
                    folder,
                    folder,
                )
        except DataError as exc:
            problems[folder] = said(exc)
            log.warning(
                _("Data folder data/%s cannot be used: %s The site comes up without it."), folder, exc
            )
    if not data_folders(home):
        log.info(_("No data set yet: put a folder below %s and describe it in the console."), home.data)
    return problems


def said(error: DataError) -> str:
    """What is wrong with a data folder, in the operator's language."""
    sentence = _(error.sentence)
    text = sentence % error.values if error.values else sentence
    return f"{error.where}: {text}" if error.where else text


def describe(card: dict[str, Any]) -> str:
    """One line of counts; a count that does not leave the site is "< 10"."""
    few = f"< {SMALLEST_COUNT}"
    counts = ", ".join(
        f"{label} {few if count is None else count}" for label, count in card["label_counts"].items()
    )
    parts = ", ".join(f"{part} {count}" for part, count in card["parts"].items())
    line = _("{rows} rows ({counts}); {parts}").format(rows=card["rows"], counts=counts, parts=parts)
    return f"{_('synthetic data')}; {line}" if card.get("synthetic") else line


def registered_cards(home: SiteHome) -> list[dict[str, Any]]:
    """The cards of everything shared, exactly as the heartbeat sends them."""
    cards = (_card(path, path.stat().st_mtime_ns) for path in sorted(home.registered.glob("*.json")))
    return [card for card in cards if card]


@lru_cache(maxsize=64)
def _card(path: Path, _changed_ns: int) -> dict[str, Any]:
    """One card; the file also lists the part of each row, so it is read only when it changed."""
    try:
        return read_registration(path.parent, path.stem).shared_card()
    except DataError:
        return {}
