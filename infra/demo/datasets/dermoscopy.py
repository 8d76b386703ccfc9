"""HAM10000 skin lesions at 28 pixels from four real sources (CC BY-NC 4.0), one image per lesion.

Seven labels, judged at each source by how well the answers tell malignant from benign: rare kinds of lesion
are too few to judge one by one, a classifier that guesses the source gets far in one pooled curve, and one
source has four malignant test lesions.
"""

from pathlib import Path
from typing import Any

import numpy as np

from infra.demo.datasets.images import first_image, write_images
from infra.demo.datasets.study import DemoSite, DemoStudy

FILE = "ham10000_4sites_28.npz"
MALIGNANT = ("akiec", "bcc", "mel")
LABELS = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
SITES = (
    ("queensland", "Queensland Skin Practice", "Rosendahl_Practice", "au"),
    ("vienna-modern", "Vienna Dermoscopy, modern camera", "ViDIR_Group", "at"),
    ("vienna-molemax", "Vienna Dermoscopy, follow-up camera", "ViDIR_Group", "at"),
    ("vienna-slides", "Vienna Dermoscopy, scanned slides", "ViDIR_Group", "at"),
)


def dermoscopy() -> DemoStudy:
    """The study on dermoscopic images of four sources."""
    return DemoStudy(
        slug="dermoscopy",
        title="Dermoscopy: seven kinds of lesion",
        purpose="Tell seven kinds of skin lesion apart at 28 pixels. Teaching data, not for patients.",
        dataset="dermoscopy",
        kind="image",
        labels=LABELS,
        features=(),
        model="image_cnn",
        rounds=15,
        sites=tuple(DemoSite(*row, index=i) for i, row in enumerate(SITES)),
        write=write,
        case=lambda _site, folder: first_image(folder),
        settings={
            "hp_class_weights": "balanced",
            "analysis_endpoint": "positive_balanced_accuracy",
            "analysis_positive": MALIGNANT,
        },
        pixels=28,
        data_file=FILE,
    )


def write(site: DemoSite, folder: Path, data_home: Path | None) -> dict[str, Any]:
    """The source's images, grouped by lesion."""
    assert data_home is not None  # noqa: S101 - the study names its data_file
    with np.load(data_home / FILE, allow_pickle=False) as archive:
        mine = np.flatnonzero(archive["site"] == site.index)
        classes = tuple(str(name) for name in archive["classes"])
        labels = [classes[place] for place in archive["labels"][mine]]
        return write_images(folder, archive["images"][mine], labels, map(str, archive["lesion_id"][mine]))
