"""From a request body to records, every limit checked before memory is spent on what it limits."""

import csv
import io
import json
import warnings
from collections.abc import AsyncIterator, Sequence
from typing import Any

from PIL import Image
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from fl_jobs.data.images import DAMAGED_IMAGE
from fl_jobs.packaging.spec import TaskSpec
from site_kits.inference.problems import RequestProblemError
from site_kits.translation import _

MAX_BODY_BYTES = 10 * 2**20
MAX_PIXELS = 40_000_000
MAX_RECORDS = 1000
MAX_IMAGES = 16
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_NAMES_SHOWN = 8


class _InMemoryParser(MultiPartParser):
    """A patient's image is never written to a temporary file."""

    spool_max_size = MAX_BODY_BYTES + 1


class _BodyTooLargeError(Exception):
    pass


def too_large() -> RequestProblemError:
    """The refusal of a body over the limit."""
    sentence = _("The request is larger than {mib} MiB. Send a smaller file.").format(
        mib=MAX_BODY_BYTES // 2**20
    )
    return RequestProblemError(413, "too_large", sentence)


async def read_uploads(request: Request) -> tuple[str, list[bytes]]:
    """("json" | "csv" | "files", the bytes of each part). Raises RequestProblemError (400, 413, 415)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "text/csv", "multipart/form-data"):
        sentence = _("Send JSON, CSV or a form with a file, not {kind}.").format(kind=kind[:60] or "?")
        raise RequestProblemError(415, "content_type", sentence)
    stream = _limited(request)
    try:
        if kind == "multipart/form-data":
            return "files", await _form_files(request, stream)
        data = b"".join([piece async for piece in stream])
    except _BodyTooLargeError as exc:
        raise too_large() from exc
    except ClientDisconnect as exc:
        raise RequestProblemError(400, "disconnected", _("The connection closed too early.")) from exc
    return ("json" if kind == "application/json" else "csv"), [data]


async def _limited(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces. Raises _BodyTooLargeError at the first byte beyond the limit, or before any."""
    size, declared = 0, request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _BodyTooLargeError
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise _BodyTooLargeError
        yield piece


async def _form_files(request: Request, stream: AsyncIterator[bytes]) -> list[bytes]:
    parser = _InMemoryParser(request.headers, stream, max_files=MAX_IMAGES, max_fields=4)  # type: ignore[arg-type]
    try:
        form = await parser.parse()
    except MultiPartException as exc:
        raise RequestProblemError(
            400, "form", _("The form cannot be read: {e}").format(e=exc.message)
        ) from exc
    try:
        files = [await part.read() for part in form.getlist("file") if isinstance(part, UploadFile)]
    finally:
        await form.close()
    if not files:
        raise _unusable(_("The form has no file. Choose one and send again."))
    return files


def to_records(kind: str, parts: list[bytes], task: TaskSpec) -> list[Any]:
    """Records for ``Predictor.predict``: dicts of floats, PIL images or texts. Raises RequestProblemError."""
    if task.kind == "image":
        if kind != "files":
            raise _unusable(_("This model reads images: send a form with a file."))
        return _images(parts)
    if task.kind == "text":
        return _texts(_json_records(kind, parts), task)
    if kind == "json":
        return [_row(record, place, task) for place, record in enumerate(_json_records(kind, parts), 1)]
    return _csv_rows(parts, task)


def _json_records(kind: str, parts: list[bytes]) -> list[Any]:
    if kind != "json":
        raise _unusable(_('This model reads JSON: {{"records": [...]}}.').format())
    try:
        body = json.loads(parts[0])
    except (ValueError, RecursionError) as exc:
        raise RequestProblemError(400, "json", _("The request is not valid JSON.")) from exc
    records = body.get("records") if isinstance(body, dict) else None
    if not isinstance(records, list) or not 1 <= len(records) <= MAX_RECORDS:
        raise _unusable(_("Send 1 to {n} records in a list named records.").format(n=MAX_RECORDS))
    return records


def _csv_rows(parts: list[bytes], task: TaskSpec) -> list[dict[str, float]]:
    if len(parts) != 1:
        raise _unusable(_("Send one CSV file at a time."))
    try:
        reader = csv.DictReader(io.StringIO(parts[0].decode("utf-8-sig")), strict=True)
        _check_header(reader.fieldnames or [])
        rows: list[dict[str, float]] = []
        for place, raw in enumerate(reader, 1):
            if place > MAX_RECORDS:
                raise _unusable(_("The file has more than {n} rows. Send it in parts.").format(n=MAX_RECORDS))
            if None in raw:
                raise _unusable(_("Row {row} has more cells than the header.").format(row=place))
            rows.append(_row({name.strip(): _number(cell) for name, cell in raw.items()}, place, task))
    except (UnicodeDecodeError, csv.Error) as exc:
        raise _unusable(_("The file is not CSV in UTF-8 with a header line.")) from exc
    if not rows:
        raise _unusable(_("The file has no rows below its header line."))
    return rows


def _check_header(header: Sequence[str]) -> None:
    names = [name.strip() for name in header]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        sentence = _("The header names {names} more than once. Leave one column of each.")
        raise _unusable(sentence.format(names=_listed(twice)))


def _number(cell: str | None) -> float | str | None:
    try:
        return float(cell) if cell and cell.strip() else None
    except ValueError:
        return cell


def _row(record: Any, place: int, task: TaskSpec) -> dict[str, float]:
    """One checked record; what is missing, unknown or not a number is named."""
    if not isinstance(record, dict):
        raise _unusable(_("Record {n} is not an object of feature and number.").format(n=place))
    missing = [name for name in task.features if record.get(name) is None]
    if missing:
        raise _unusable(_("Record {n} lacks {names}.").format(n=place, names=_listed(missing)))
    unknown = [name for name in record if name not in task.features]
    if unknown:
        sentence = _("Record {n} has features this model does not know: {names}. Leave them out.")
        raise _unusable(sentence.format(n=place, names=_listed(unknown)))
    wrong = [name for name in task.features if not _is_number(record[name])]
    if wrong:
        sentence = _("Record {n}: {names} must be a number, not text, NaN or infinity.")
        raise _unusable(sentence.format(n=place, names=_listed(wrong)))
    return {name: float(record[name]) for name in task.features}


def _is_number(value: Any) -> bool:
    """A finite number that 32 bits can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e38


def _texts(records: list[Any], task: TaskSpec) -> list[str]:
    for place, text in enumerate(records, 1):
        if not isinstance(text, str) or not text.strip():
            raise _unusable(_("Record {n} is not a text.").format(n=place))
        if len(text) > task.max_characters:
            sentence = _("Text {n} has {length} characters; this model reads at most {limit}. Shorten it.")
            raise _unusable(sentence.format(n=place, length=len(text), limit=task.max_characters))
    return records


def _images(parts: list[bytes]) -> list[Image.Image]:
    """Decoded images. Format and size come from the header; pixels of all files count together."""
    opened = [_open_image(data, place) for place, data in enumerate(parts, 1)]
    if sum(image.width * image.height for image in opened) > MAX_PIXELS:
        raise _too_many_pixels(_("The images together have"))
    for place, image in enumerate(opened, 1):
        try:
            image.load()
        except DAMAGED_IMAGE as exc:
            raise _unusable(_("Image {n} is damaged and cannot be read.").format(n=place)) from exc
    return list(opened)


def _open_image(data: bytes, place: int) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise _too_many_pixels(_("Image {n} has").format(n=place)) from exc
    except DAMAGED_IMAGE as exc:
        sentence = _("File {n} is not a PNG, JPEG, TIFF or BMP image.").format(n=place)
        raise _unusable(sentence) from exc
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(_("Image {n} has").format(n=place))
    return image


def _too_many_pixels(who: str) -> RequestProblemError:
    sentence = _("{who} more than {n} million pixels. Send a smaller one or cut out the region.")
    return _unusable(sentence.format(who=who, n=MAX_PIXELS // 10**6))


def _listed(names: list[str]) -> str:
    shown = ", ".join(str(name)[:60] for name in names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} (+{len(names) - _NAMES_SHOWN})"


def _unusable(sentence: str) -> RequestProblemError:
    return RequestProblemError(422, "input", sentence)
