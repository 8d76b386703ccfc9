"""Pages for folders of pictures: labels by subfolder, and DICOM with its report and de-identified copy."""

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from site_kits.console.data_pages import DataPages, page_of
from site_kits.console.dicom import copy_name
from site_kits.console.doors import Doors, Visit
from site_kits.console.pages import refusal
from site_kits.translation import _

_PATIENT_ENDS = ("", "_", "-")


class PicturePages:
    """What is done here ends in an ordinary folder of images, which the data pages then check and share."""

    def __init__(self, data: DataPages) -> None:
        self._data, self._readings = data, data.readings

    def routes(self, doors: Doors) -> list[Route]:
        """The pages' addresses."""
        return [
            doors.route("/data/{folder}/images", self.list_images, "POST"),
            doors.route("/data/{folder}/report", self.report, "POST"),
            doors.route("/data/{folder}/convert", self.convert, "POST"),
        ]

    async def list_images(self, visit: Visit) -> Response:
        """POST: subfolders become labels, then every image is checked."""
        patient = visit.one("patient")
        options = {"patient": patient if patient in _PATIENT_ENDS else ""}
        return await self._read(visit, "list_images", ("look", "check"), **options)

    async def report(self, visit: Visit) -> Response:
        """POST: look through every header."""
        return await self._read(visit, "report", ())

    async def convert(self, visit: Visit) -> Response:
        """POST: make the copy, then go to its page, where it is checked and shared as any other."""
        folder = visit.request.path_params["folder"]
        if sentence := self._data.unusable(folder):
            return refusal(self._data.home, 404, sentence)
        self._readings.forget(folder, "convert")
        acknowledged = visit.one("acknowledged") == "yes"
        await self._readings.read(folder, "convert", acknowledged=acknowledged)
        made = self._readings.found(folder, "convert")
        if not made or made["error"]:
            return visit.go(page_of(folder))
        copy = copy_name(folder)
        await self._readings.read(copy, "look")
        await self._readings.read(copy, "check")
        sentence = _("A copy without names was made: {n} images. Look at its counts below.")
        return visit.go(page_of(copy), sentence.format(n=made["written"]))

    async def _read(self, visit: Visit, action: str, then: tuple[str, ...], **options: Any) -> Response:
        folder = visit.request.path_params["folder"]
        if sentence := self._data.unusable(folder):
            return refusal(self._data.home, 404, sentence)
        await self._readings.read(folder, action, **options)
        for following in then:
            if not self._readings.running(folder) and not self._readings.found(folder, action).get("error"):
                await self._readings.read(folder, following)
        return visit.go(page_of(folder))
