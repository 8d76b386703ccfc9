"""Pages for folders of pictures: labels by subfolder, and DICOM with its report and de-identified copy."""

from starlette.responses import Response
from starlette.routing import Route

from site_kits.console.data_pages import DataPages, page_of
from site_kits.console.dicom import copy_name
from site_kits.console.doors import Doors, Visit
from site_kits.console.jobs import Step
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
        folder, patient = visit.request.path_params["folder"], visit.one("patient")
        options = {"patient": patient if patient in _PATIENT_ENDS else ""}
        steps = Step(folder, "list_images", options), Step(folder, "look"), Step(folder, "check")
        return await self._read(visit, *steps)

    async def report(self, visit: Visit) -> Response:
        """POST: look through every header."""
        return await self._read(visit, Step(visit.request.path_params["folder"], "report"))

    async def convert(self, visit: Visit) -> Response:
        """POST: make the copy, and look at it and check it as any other folder; its page comes next."""
        folder = visit.request.path_params["folder"]
        copy = copy_name(folder)
        options = {"acknowledged": visit.one("acknowledged") == "yes"}
        self._readings.forget(folder, "convert")
        steps = Step(folder, "convert", options), Step(copy, "look"), Step(copy, "check")
        answer = await self._read(visit, *steps)
        made = self._readings.found(folder, "convert")
        if self._readings.running(folder) or not made or made["error"]:
            return answer
        sentence = _("A copy without names was made: {n} images. Look at its counts below.")
        return visit.go(page_of(copy), sentence.format(n=made["written"]))

    async def _read(self, visit: Visit, *steps: Step) -> Response:
        folder = visit.request.path_params["folder"]
        if sentence := self._data.unusable(folder):
            return refusal(self._data.home, 404, sentence)
        await self._readings.read(*steps)
        return visit.go(page_of(folder))
