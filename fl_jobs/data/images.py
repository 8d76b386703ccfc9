"""Images of a data folder or a request: the header is judged before a pixel is decoded."""

import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fl_jobs.data.manifest import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS
from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import TaskSpec

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
# what Pillow's decoders raise for a damaged file, more than its documentation says (seen by altering bytes)
DAMAGED_IMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    ArithmeticError,
    LookupError,
    EOFError,
    struct.error,
    zlib.error,
)


def read_image_file(path: Path, *, where: str) -> tuple[bytes, str]:
    """Bytes of an image file and their SHA-256. Raises DataError."""
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise DataError(
                "%(file)s is larger than %(most)s MiB. Make it smaller.",
                where=where, file=path.name, most=MAX_IMAGE_BYTES >> 20,
            )  # fmt: skip
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            "%(file)s is missing or cannot be read. Add the file or remove the row.",
            where=where,
            file=path.name,
        ) from error
    return data, hashlib.sha256(data).hexdigest()


def open_image(data: bytes, *, where: str) -> Image.Image:
    """An image whose header was judged and whose pixels were decoded. Raises DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        check_pixels(image.size, where=where)
        image.load()
    except Image.DecompressionBombError as error:
        raise DataError(
            "the image has more than %(most)s million pixels. Make it smaller.",
            where=where,
            most=MAX_IMAGE_PIXELS // 1_000_000,
        ) from error
    except DAMAGED_IMAGE as error:
        raise DataError(
            "the image cannot be read (%(kind)s). Replace it.", where=where, kind=type(error).__name__
        ) from error
    return image


def check_pixels(size: tuple[int, int], *, where: str) -> None:
    """Refuse an image by its header. Raises DataError."""
    if size[0] * size[1] > MAX_IMAGE_PIXELS:
        raise DataError(
            "the image has more than %(most)s million pixels. This one has %(width)s × %(height)s. Make it "
            "smaller.",
            where=where, most=MAX_IMAGE_PIXELS // 1_000_000, width=size[0], height=size[1],
        )  # fmt: skip


def encode_image(image: Image.Image, task: TaskSpec) -> NDArray[np.uint8]:
    """Channels × height × width in bytes, resized to the task's size (bilinear)."""
    mode = "L" if task.channels == 1 else "RGB"
    if task.channels == 2:
        raise DataError("Images with two channels are not read. Use one (grey) or three (colour).")
    ready = image.convert(mode)
    if ready.size != (task.width, task.height):
        ready = ready.resize((task.width, task.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(ready, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
