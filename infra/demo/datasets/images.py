"""What the image studies share: patches as PNG files with a CSV of labels and groups."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def write_images(
    folder: Path, images: NDArray[np.uint8], labels: Sequence[str], groups: Iterable[str]
) -> dict[str, Any]:
    """Write ``images`` (number × height × width × 3) and ``labels.csv``; return the manifest's part."""
    (folder / "images").mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path", "label", "group"])
        for number, (image, label, group) in enumerate(zip(images, labels, groups, strict=True)):
            path = f"images/{number:04d}.png"
            Image.fromarray(image).save(folder / path)
            writer.writerow([path, label, group])
    return {"file": "labels.csv"}


def first_image(folder: Path) -> dict[str, Any]:
    """The site's first patch as a request."""
    return {"files": {"file": ("patch.png", (folder / "images" / "0000.png").read_bytes(), "image/png")}}
