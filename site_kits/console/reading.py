"""``python -m site_kits.console.reading``: everything that touches the site's data, in a process of its own.

It has limits of memory and time, writes one JSON file and ends; what a hostile file does to it, the console
survives. Its answer holds sentences with their values, to be said in the language of whoever looks.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fl_jobs.data.check import check_rows
from fl_jobs.data.manifest import read_manifest
from fl_jobs.data.register import read_registration
from fl_jobs.errors import DataError
from site_kits.agent.datasets import check_folder
from site_kits.console import dicom
from site_kits.console.looking import look
from site_kits.console.statistics import describe_cases
from site_kits.site_home import SiteHome, write_state

MEMORY_BYTES = 6 * 2**30  # address space; a table of 512 MiB takes most of it
CPU_S = 1800

Options = dict[str, Any]


def look_at(home: SiteHome, folder: str, _options: Options) -> dict[str, Any]:
    """What lies in the folder."""
    return look(home.data / folder)


def check(home: SiteHome, folder: str, _options: Options) -> dict[str, Any]:
    """All faults of its rows, or, when there are none, its card and statistics."""
    place = home.data / folder
    manifest = read_manifest(place)
    if manifest.name != folder:
        raise DataError(
            "The manifest calls this data set “%(name)s”; call the folder so, or describe it anew.",
            name=manifest.name,
        )
    found = check_rows(place, manifest)
    answer: dict[str, Any] = {"rows": found.rows, "count": found.count, "file": found.file}
    answer |= {"faults": [asdict(fault) for fault in found.faults], "looks": looks(place, manifest.file)}
    if found.count:
        return answer
    card = check_folder(home, folder)
    where = home.checked if (home.checked / f"{card['name']}.json").exists() else home.registered
    registration = read_registration(where, card["name"])
    statistics = describe_cases(place, manifest, registration)
    return answer | {"card": registration.shared_card(), "statistics": statistics}


def looks(folder: Path, table: str) -> dict[str, list[int]]:
    """Size and time of change of manifest and table, by which the console notices that they changed."""
    found = {}
    for name in ("manifest.json", table):
        try:
            facts = (folder / name).stat()
        except OSError:
            continue
        found[name] = [facts.st_size, facts.st_mtime_ns]
    return found


ACTIONS: dict[str, Callable[[SiteHome, str, Options], dict[str, Any]]] = {
    "look": look_at,
    "check": check,
    "list_images": dicom.list_images,
    "report": dicom.report,
    "convert": dicom.convert,
}


def result_path(home: SiteHome, folder: str, action: str) -> Path:
    """Where the answer to an action lies."""
    return home.state / "console" / f"{folder}.{action}.json"


def run(home: SiteHome, action: str, folder: str, options: Options) -> dict[str, Any]:
    """The answer to one action: what was found, or why not."""
    began = time.monotonic()
    try:
        check_place(home, folder)
        answer = ACTIONS[action](home, folder, options) | {"error": None}
    except DataError as error:
        answer = failure(error)
    except MemoryError:
        answer = failure(DataError("The file needs more memory than reading may take. Divide the data set."))
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        answer = failure(DataError("The file system refused: %(reason)s.", reason=reason))
    seconds = round(time.monotonic() - began, 3)
    return answer | {"at": time.time(), "seconds": seconds, "peak_mib": peak_mib()}


def peak_mib() -> int:
    """The most memory this process held. ``ru_maxrss`` also counts what its parent held when it forked."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    lines = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(next(lines, "VmHWM: 0").split()[1]) // 1024


def failure(error: DataError) -> dict[str, Any]:
    """An answer that says why there is none, to be said in the language of whoever looks."""
    return {"error": {"sentence": error.sentence, "values": error.values, "where": error.where}}


def check_place(home: SiteHome, folder: str) -> None:
    """Raises DataError when ``data/<folder>`` is none or leads elsewhere."""
    path = home.data / folder
    if Path(folder).name != folder or path.resolve().parent != home.data.resolve():
        raise DataError("%(folder)s leads out of data/. Put the data itself below data/.", folder=folder)
    if not path.is_dir():
        raise DataError("There is no folder %(folder)s below data/ any more.", folder=folder)


def main(arguments: list[str] | None = None) -> int:
    """Do one action within the limits."""
    parser = argparse.ArgumentParser(prog="python -m site_kits.console.reading")
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--home", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--options", default="{}")
    parsed = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    home = SiteHome(Path(parsed.home))
    answer = run(home, parsed.action, parsed.folder, json.loads(parsed.options))
    write_state(result_path(home, parsed.folder, parsed.action), answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
