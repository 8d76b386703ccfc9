"""DICOM files: the header is bounded and judged before pixels are read, then one image becomes 8-bit PNG.

Only what NumPy alone can decode: uncompressed and RLE. How grey values become bytes: the modality's slope and
intercept; then the first window of the file as PS3.3 C.11.2.1.2 says, or, without one, from the smallest to
the largest value; MONOCHROME1 is turned round. Header values never appear in a refusal.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble

from fl_jobs.data.images import check_pixels
from fl_jobs.errors import DataError

MAX_DICOM_BYTES = 256 * 2**20
MAX_HEADER_BYTES = 4 * 2**20
MAX_PIXEL_BYTES = 160 * 2**20
SPARE_BYTES = 2**20  # of a file behind its pixels
# implicit and explicit little endian, explicit big endian, RLE. Not "deflated": pydicom unpacks it unbounded
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5")
_RLE = SYNTAXES[-1]
_PIXELS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
# what pydicom raises for a damaged file (seen by altering bytes); RecursionError for nested sequences
DAMAGED_DICOM = (
    InvalidDicomError, BytesLengthException, OSError, ValueError, TypeError, AttributeError, LookupError,
    ArithmeticError, EOFError, NotImplementedError, RecursionError, RuntimeError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class DicomImage:
    """A file whose header was read and judged; ``header`` ends before the pixels."""

    path: Path
    header: pydicom.Dataset
    rows: int
    columns: int
    samples: int
    bits: int

    @property
    def pixel_bytes(self) -> int:
        """What its pixels take in memory."""
        return self.rows * self.columns * self.samples * self.bits // 8


def read_dicom(path: Path, *, where: str) -> DicomImage:
    """The header of one DICOM image, at most 4 MiB of the file. Raises DataError."""
    size = path.stat().st_size
    if size > MAX_DICOM_BYTES:
        most = MAX_DICOM_BYTES >> 20
        raise DataError("the file is larger than %(most)s MiB. Leave it out.", where=where, most=most)
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    stream = io.BytesIO(head)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_preamble(stream, False)
            syntax = str(_read_file_meta_info(stream).get("TransferSyntaxUID", ""))
            if syntax not in SYNTAXES:
                raise DataError(
                    "its pixels are packed in a way that is not read here. Export it uncompressed "
                    "(Explicit VR Little Endian).",
                    where=where,
                )
            stream.seek(0)
            header = pydicom.dcmread(stream, stop_before_pixels=True)
            if head[stream.tell() : stream.tell() + 4] not in _PIXELS:
                raise DataError(
                    "no pixels within the first %(most)s MiB: no image, cut off, or a giant header. Leave it "
                    "out.",
                    where=where,
                    most=MAX_HEADER_BYTES >> 20,
                )
            image = _shape(path, header, where)
    except DAMAGED_DICOM as error:
        raise DataError(
            "not a DICOM file that can be read (%(kind)s). Export it again.",
            where=where,
            kind=type(error).__name__,
        ) from error
    if syntax != _RLE and size > stream.tell() + image.pixel_bytes + SPARE_BYTES:
        raise DataError("the file holds far more than its image. Leave it out.", where=where)
    return image


def _shape(path: Path, header: pydicom.Dataset, where: str) -> DicomImage:
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    samples, bits = int(header.get("SamplesPerPixel") or 1), int(header.get("BitsAllocated") or 0)
    frames = int(header.get("NumberOfFrames") or 1)
    if rows < 1 or columns < 1 or samples not in (1, 3) or bits not in (8, 16):
        raise DataError("no image of 8 or 16 bits in grey or colour. Leave it out.", where=where)
    check_pixels((columns, rows), where=where)
    if rows * columns * samples * frames * bits // 8 > MAX_PIXEL_BYTES:
        most = MAX_PIXEL_BYTES >> 20
        raise DataError("its pixels take more than %(most)s MiB. Leave it out.", where=where, most=most)
    if frames != 1:
        raise DataError("it holds %(n)s frames. Export each as a file.", where=where, n=frames)
    return DicomImage(path, header, rows, columns, samples, bits)


def to_picture(image: DicomImage, *, where: str) -> Image.Image:
    """The pixels as an 8-bit image without any of the header. Raises DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = pydicom.dcmread(image.path)
            pixels = whole.pixel_array
            kind = str(whole.get("PhotometricInterpretation", ""))
            if kind == "RGB" and image.bits == 8:
                return Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
            if kind in ("MONOCHROME1", "MONOCHROME2"):
                return Image.fromarray(_grey(pixels, whole, is_inverted=kind == "MONOCHROME1"))
    except DAMAGED_DICOM as error:
        raise DataError(
            "its pixels cannot be read (%(kind)s). Export it again.", where=where, kind=type(error).__name__
        ) from error
    raise DataError("its colours are of a kind that is not read here. Export it as RGB or grey.", where=where)


def _grey(pixels: NDArray[Any], header: pydicom.Dataset, *, is_inverted: bool) -> NDArray[np.uint8]:
    slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
    values = pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if centre is not None and width is not None and width >= 1:
        low, span = centre - 0.5 - (width - 1) / 2, width - 1
    else:
        low, span = float(values.min()), float(values.max() - values.min())
    values = np.clip((values - low) / max(span, 1e-6), 0, 1) * 255
    return np.asarray(np.rint(255 - values if is_inverted else values), dtype=np.uint8)


def _first(value: Any) -> float | None:
    """The first of one or several values; None when there is none."""
    if value is None or value == "":
        return None
    return float(value[0]) if isinstance(value, pydicom.multival.MultiValue) else float(value)
