"""Pages of the site's data: look, describe, check, see what would leave, and the one switch."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from fl_jobs.data.manifest import MANIFEST, Manifest, read_manifest
from fl_jobs.data.register import read_registration
from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import NAME_PATTERN
from fl_jobs.tensor_files import write_bytes
from site_kits.agent.datasets import publish, said, withdraw
from site_kits.console.describing import ROLES, guess_roles, manifest_of, roles_of
from site_kits.console.doors import Doors, Visit
from site_kits.console.jobs import Readings, Step, say
from site_kits.console.looking import TABLE_ENDINGS
from site_kits.console.pages import refusal
from site_kits.console.reading import check_place, looks
from site_kits.errors import AgentError
from site_kits.translation import _

MAX_COLUMNS_SHOWN = 400
MAX_LABEL_CHARACTERS = 20_000


class DataPages:
    """Nothing here opens a file of data: that is done by the reading process, which has limits."""

    def __init__(self, readings: Readings) -> None:
        self.readings, self.home = readings, readings.home

    def routes(self, doors: Doors) -> list[Route]:
        """The pages' addresses."""
        return [
            doors.route("/data/", self.list_folders),
            doors.route("/data/take", self.take_file, "POST"),
            doors.route("/data/{folder}/", self.show),
            doors.route("/data/{folder}/look", self.look, "POST"),
            doors.route("/data/{folder}/describe", self.describe, "POST"),
            doors.route("/data/{folder}/check", self.check, "POST"),
            doors.route("/data/{folder}/share", self.share, "POST"),
            doors.route("/data/{folder}/withdraw", self.withdraw, "POST"),
        ]

    async def list_folders(self, visit: Visit) -> Response:
        """GET /data/: every folder below data/ with its state."""
        folders, loose = [], []
        for path in sorted(self.home.data.iterdir()) if self.home.data.is_dir() else []:
            if path.is_dir() and not path.name.startswith("."):
                folders.append({"name": path.name, "state": self._state(path.name)})
            elif path.suffix.lower() in TABLE_ENDINGS and not path.is_symlink():
                loose.append(path.name)
        return visit.page("data_list.html", folders=folders, loose=loose, data=str(self.home.data))

    async def take_file(self, visit: Visit) -> Response:
        """POST /data/take: a table that lies in data/ itself gets a folder of its own."""
        source = self.home.data / Path(visit.one("file")).name
        name = re.sub(r"[^a-z0-9]+", "-", source.stem.lower()).strip("-")[:63] or "data"
        target = self.home.data / name
        if source.suffix.lower() not in TABLE_ENDINGS or not source.is_file() or source.is_symlink():
            return visit.go("/data/", _("This file is not there any more."), "bad")
        if target.exists():
            sentence = _("There is a folder {name} already. Rename the file, or put it into that folder.")
            return visit.go("/data/", sentence.format(name=name), "bad")
        target.mkdir()
        source.rename(target / source.name)
        await self.readings.read(Step(name, "look"))
        return visit.go(page_of(name))

    async def show(self, visit: Visit) -> Response:
        """GET /data/FOLDER/: all steps of one data set on one page."""
        folder = visit.request.path_params["folder"]
        if sentence := self.unusable(folder):
            return refusal(self.home, 404, sentence)
        if not self.readings.found(folder, "look") and not self.readings.running(folder):
            await self.readings.read(Step(folder, "look"))
        return await asyncio.to_thread(self._show, visit, folder)

    def _show(self, visit: Visit, folder: str) -> Response:
        look, check = self.readings.found(folder, "look"), self.readings.found(folder, "check")
        manifest, fault = self._manifest(folder)
        state = self._state(folder)
        tables = look.get("tables") or []
        wished = visit.request.query_params.get("table") or (manifest.file if manifest else "")
        table = next((one for one in tables if one["file"] == wished), tables[0] if tables else None)
        is_described = manifest is not None and table is not None and manifest.file == table["file"]
        roles = roles_of(manifest) if manifest and is_described else {}
        return visit.page(
            "data_set.html",
            folder=folder, address=page_of(folder), state=state, running=self.readings.running(folder),
            look=look, look_error=_error(look), tables=tables, table=table, roles_known=ROLES,
            table_error=say(table["error"]) if table and table["error"] else "",
            too_wide=bool(table) and len(table["columns"]) > MAX_COLUMNS_SHOWN if table else False,
            roles=roles or (guess_roles(table["columns"]) if table else {}),
            manifest=manifest, manifest_fault=fault, check=check, check_error=_error(check),
            faults=[_fault(one) for one in check.get("faults", [])],
            is_stale=bool(manifest and check and self._changed(folder, manifest, check)),
            report=self.readings.found(folder, "report"),
            report_error=_error(self.readings.found(folder, "report")),
            report_faults=[(one["where"], say(one | {"where": ""})) for one in self._report_faults(folder)],
            converted=self.readings.found(folder, "convert"),
            convert_error=_error(self.readings.found(folder, "convert")),
            images_error=_error(self.readings.found(folder, "list_images")),
            card=self._card(folder, state), card_text=self._card_text(folder, state),
        )  # fmt: skip

    async def look(self, visit: Visit) -> Response:
        """POST: look at the folder again."""
        return await self._read(visit, "look")

    async def check(self, visit: Visit) -> Response:
        """POST: look again and check every row."""
        return await self._read(visit, "look", "check")

    async def describe(self, visit: Visit) -> Response:
        """POST: write the manifest from the roles the operator chose, and check the rows at once."""
        folder = visit.request.path_params["folder"]
        if sentence := self.unusable(folder):
            return refusal(self.home, 404, sentence)
        tables = self.readings.found(folder, "look").get("tables") or []
        table = next((one for one in tables if one["file"] == visit.one("file")), None)
        address = page_of(folder)
        if table is None:
            return visit.go(address, _("This file is not there any more. Look at the folder again."), "bad")
        roles = {
            column["name"]: role
            for at, column in enumerate(table["columns"])
            if (role := visit.one(f"role-{at}")) in ROLES
        }
        labels = [line.strip() for line in visit.one("labels")[:MAX_LABEL_CHARACTERS].splitlines()]
        try:
            manifest = manifest_of(
                folder, table, roles, [label for label in labels if label],
                is_synthetic=visit.one("synthetic") == "yes",
            )  # fmt: skip
        except DataError as error:
            return visit.go(f"{address}?table={quote(table['file'])}", said(error), "bad")
        kept = manifest.model_dump(mode="json", exclude_defaults=True)
        data = json.dumps(kept, ensure_ascii=False, indent=1).encode()
        await asyncio.to_thread(write_bytes, self.home.data / folder / MANIFEST, data)
        return await self._read(visit, "check")

    async def share(self, visit: Visit) -> Response:
        """POST: the one switch. What leaves is the card the page showed, and no other."""
        folder = visit.request.path_params["folder"]
        if sentence := self.unusable(folder):
            return refusal(self.home, 404, sentence)
        try:
            seen = read_registration(self.home.checked, folder).card.digest
            if visit.one("digest") != seen:
                sentence = _("The data set changed meanwhile. Look at its counts again.")
                return visit.go(page_of(folder), sentence, "bad")
            await asyncio.to_thread(publish, self.home, folder)
        except DataError as error:
            return visit.go(page_of(folder), said(error), "bad")
        return visit.go(page_of(folder), _("Shared. The portal hears of these counts within seconds."))

    async def withdraw(self, visit: Visit) -> Response:
        """POST: the switch back."""
        folder = visit.request.path_params["folder"]
        if sentence := self.unusable(folder):
            return refusal(self.home, 404, sentence)
        try:
            withdraw(self.home, folder)
        except AgentError as error:
            return visit.go(page_of(folder), str(error), "bad")
        return visit.go(page_of(folder), _("Not shared any more. No new run trains on this data set."))

    async def _read(self, visit: Visit, *actions: str) -> Response:
        folder = visit.request.path_params["folder"]
        if sentence := self.unusable(folder):
            return refusal(self.home, 404, sentence)
        await self.readings.read(*(Step(folder, action) for action in actions))
        return visit.go(page_of(folder))

    def unusable(self, folder: str) -> str:
        """Why this folder has no page; empty when it has one."""
        if not re.fullmatch(NAME_PATTERN, folder):
            sentence = _("Call the folder by small letters, digits and hyphens; runs name the data set so.")
            return sentence.format(folder=folder)
        try:
            check_place(self.home, folder)
        except DataError as error:
            return said(error)
        return ""

    def _report_faults(self, folder: str) -> list[dict[str, Any]]:
        return list(self.readings.found(folder, "report").get("faults") or [])

    def _manifest(self, folder: str) -> tuple[Manifest | None, str]:
        if not (self.home.data / folder / MANIFEST).exists():
            return None, ""
        try:
            return read_manifest(self.home.data / folder), ""
        except DataError as error:
            return None, said(error)

    def _state(self, folder: str) -> str:
        """One of: reading · shared · checked · faulty · described · new · misnamed."""
        if not re.fullmatch(NAME_PATTERN, folder):
            return "misnamed"
        if self.readings.running(folder):
            return "reading"
        if (self.home.registered / f"{folder}.json").exists():
            return "shared"
        check = self.readings.found(folder, "check")
        if check.get("error") or check.get("count"):
            return "faulty"
        if (self.home.checked / f"{folder}.json").exists():
            return "checked"
        return "described" if (self.home.data / folder / MANIFEST).exists() else "new"

    def _changed(self, folder: str, manifest: Manifest, check: dict[str, Any]) -> bool:
        return bool(check.get("looks", {}) != looks(self.home.data / folder, manifest.file))

    def _card(self, folder: str, state: str) -> dict[str, Any] | None:
        """What leaves, or would: read from the file the heartbeat reads."""
        place = {"shared": self.home.registered, "checked": self.home.checked}.get(state)
        if place is None:
            return None
        try:
            return read_registration(place, folder).shared_card()
        except DataError:
            return None

    def _card_text(self, folder: str, state: str) -> str:
        card = self._card(folder, state)
        return json.dumps(card, ensure_ascii=False, indent=2) if card else ""


def page_of(folder: str) -> str:
    """The address of a data set's page."""
    return f"/data/{quote(folder)}/"


def _error(result: dict[str, Any]) -> str:
    return say(result["error"]) if result.get("error") else ""


def _fault(fault: dict[str, Any]) -> dict[str, Any]:
    return {"row": fault["row"], "column": fault["column"], "text": say(fault)}
