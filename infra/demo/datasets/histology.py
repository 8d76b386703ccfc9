"""Patches of four real institutions with different organs and staining.

Patches are grouped by patient or slide, parsed from the source file's name, because the file's own split puts
one patient on both sides. Organs and what "tumour" means differ from site to site: a stress test of concept
shift, no evidence of clinical benefit.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.demo.datasets.images import first_image, write_images
from infra.demo.datasets.study import DemoSite, DemoStudy

FILE = "histo_mini_4institutions_64.npz"
SITES = (
    ("dallas-bone", "Dallas Bone Pathology", "UTSW_Dallas", "us"),
    ("parana-breast", "Paraná Breast Pathology", "PD_Lab_Brazil", "br"),
    ("heidelberg-colon", "Heidelberg Colon Pathology", "NCT_Germany", "de"),
    ("tampa-lung", "Tampa Lung and Colon Pathology", "VA_Tampa", "us"),
)


def histology() -> DemoStudy:
    """The study on the patches of four real institutions."""
    return DemoStudy(
        slug="tumour-patches",
        title="Histology patches: tumour or not",
        purpose="Find tumour in 64-pixel patches of four institutions. Teaching data, not for patients.",
        dataset="tumour-patches",
        kind="image",
        labels=("no-tumour", "tumour"),
        features=(),
        model="image_cnn",
        rounds=12,
        sites=tuple(DemoSite(*row, index=i) for i, row in enumerate(SITES)),
        write=write,
        case=lambda _site, folder: first_image(folder),
        data_file=FILE,
    )


def write(site: DemoSite, folder: Path, data_home: Path | None) -> dict[str, Any]:
    """The institution's patches."""
    assert data_home is not None  # noqa: S101 - the study names its data_file
    with np.load(data_home / FILE, allow_pickle=False) as archive:
        mine = np.flatnonzero(archive["site"] == site.index)
        images, labels, files = archive["images"][mine], archive["label"][mine], archive["source_files"][mine]
    return write_images(folder, images, ["tumour" if y else "no-tumour" for y in labels], patients(files))


def patients(files: NDArray[np.str_]) -> Iterator[str]:
    """Name the patient or slide of each patch: ``Case-3``, the BreakHis slide, else the source image."""
    for name in files:
        for pattern in (r"(Case-\d+)", r"(P\d+)-B\d+", r"(SOB_[BM]_[A-Z]+-\d+-\w+?)-\d+-\d+"):
            if found := re.search(pattern, str(name)):
                yield found.group(1)
                break
        else:
            yield str(name).rsplit(".", 1)[0]
