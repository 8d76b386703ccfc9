"""Fills a site's data folder with real cases, as a hospital's operator would: files and a manifest.

Cytology: the 569 Wisconsin breast-cytology cases inside scikit-learn (UCI, CC BY 4.0), dealt to four
hospitals with a seeded skew: half of each hospital's cases are drawn by its referral pattern (the
share of malignant cases below), and each hospital's instrument reads a little differently (a fixed gain
per hospital on the size features), which is what makes one common model a compromise.

Histology: patches of four real institutions with different organs and staining, from the file
``histo_mini_4institutions_64.npz`` of ``CONSILIUM_DATA``. Patches are grouped by patient or slide, parsed
from the source file's name, because the file's own split puts one patient on both sides.
"""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_breast_cancer

SEED = 20261123
CYTOLOGY_SITES = (
    ("st-anna", "St Anna Hospital", "Anna_Foundation", "north", 0.20, 1.00),
    ("riverside", "Riverside Clinic", "Riverside_Group", "east", 0.35, 1.08),
    ("huashan-west", "Huashan West Hospital", "Huashan_Group", "west", 0.45, 0.94),
    ("lakeside", "Lakeside Cancer Centre", "Lakeside_Trust", "south", 0.65, 1.15),
)
HISTOLOGY_SITES = (
    ("dallas-bone", "Dallas Bone Pathology", "UTSW_Dallas", "us"),
    ("parana-breast", "Paraná Breast Pathology", "PD_Lab_Brazil", "br"),
    ("heidelberg-colon", "Heidelberg Colon Pathology", "NCT_Germany", "de"),
    ("tampa-lung", "Tampa Lung and Colon Pathology", "VA_Tampa", "us"),
)


@dataclass(frozen=True)
class DemoSite:
    """What the administrator types to add the site; ``index`` picks its share of the data."""

    name: str
    title: str
    organisation: str
    zone: str
    index: int


@dataclass(frozen=True)
class DemoStudy:
    """What the data scientist types to open the study and to submit the run."""

    slug: str
    title: str
    purpose: str
    dataset: str
    kind: str
    labels: tuple[str, ...]
    features: tuple[str, ...]
    model: str
    rounds: int
    sites: tuple[DemoSite, ...]


def cytology() -> DemoStudy:
    """The study on the embedded breast-cytology cases."""
    cases = load_breast_cancer()
    return DemoStudy(
        slug="breast-cytology",
        title="Breast cytology: benign or malignant",
        purpose="Tell benign from malignant fine-needle aspirates. Teaching data, not for patients.",
        dataset="breast-cytology",
        kind="tabular",
        labels=("benign", "malignant"),
        features=tuple(_column(name) for name in cases.feature_names),
        model="tabular_mlp",
        rounds=10,
        sites=tuple(DemoSite(*row[:4], index=i) for i, row in enumerate(CYTOLOGY_SITES)),
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
        sites=tuple(DemoSite(*row, index=i) for i, row in enumerate(HISTOLOGY_SITES)),
    )


def write_dataset(study: DemoStudy, site: DemoSite, folder: Path, *, data_home: Path | None) -> None:
    """Write the site's share below ``folder`` (the kit's ``data/<dataset>``); the manifest comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    if study.kind == "tabular":
        manifest = _write_cytology(site.index, folder)
    else:
        if data_home is None:
            raise SystemExit(
                "The histology study needs CONSILIUM_DATA. Use `make demo STUDY=cytology` instead."
            )
        manifest = _write_histology(site.index, folder, data_home)
    manifest |= {"name": study.dataset, "kind": study.kind, "labels": list(study.labels)}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _column(name: str) -> str:
    return name.replace(" ", "_")


def deal_cytology(target: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Deal case numbers to the four hospitals: equal sizes, malignant shares near those of the table.

    ``target`` is scikit-learn's (0 malignant, 1 benign). Every case goes to exactly one hospital.
    """
    generator = np.random.default_rng(SEED)
    pools = {label: list(generator.permutation(np.flatnonzero(target == label))) for label in (0, 1)}
    size = -(-len(target) // len(CYTOLOGY_SITES))
    hands: list[NDArray[np.int64]] = []
    for *_names, share, _gain in CYTOLOGY_SITES[:-1]:
        malignant = min(round(size * share), len(pools[0]))
        hand = [pools[0].pop() for _ in range(malignant)]
        hand += [pools[1].pop() for _ in range(min(size - malignant, len(pools[1])))]
        hands.append(np.sort(np.array(hand)))
    hands.append(np.sort(np.array(pools[0] + pools[1])))
    return hands


def _write_cytology(index: int, folder: Path) -> dict[str, object]:
    cases = load_breast_cancer()
    gain = CYTOLOGY_SITES[index][-1]
    names = [_column(name) for name in cases.feature_names]
    sizes = [any(word in name for word in ("radius", "perimeter", "area")) for name in names]
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["case_id", *names, "diagnosis"])
        for row in deal_cytology(cases.target)[index]:
            values = np.where(sizes, cases.data[row] * gain, cases.data[row])
            diagnosis = "benign" if cases.target[row] else "malignant"
            writer.writerow([f"case-{row:03d}", *(f"{value:.6g}" for value in values), diagnosis])
    return {"file": "cases.csv", "label": "diagnosis", "group": "case_id", "features": names}


def _write_histology(index: int, folder: Path, data_home: Path) -> dict[str, object]:
    with np.load(data_home / "histo_mini_4institutions_64.npz", allow_pickle=False) as archive:
        mine = np.flatnonzero(archive["site"] == index)
        images, labels, files = archive["images"][mine], archive["label"][mine], archive["source_files"][mine]
    (folder / "images").mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path", "label", "group"])
        rows = zip(images, labels, _patients(files), strict=True)
        for number, (image, label, patient) in enumerate(rows):
            path = f"images/{number:04d}.png"
            Image.fromarray(image).save(folder / path)
            writer.writerow([path, "tumour" if label else "no-tumour", patient])
    return {"file": "labels.csv"}


def _patients(files: NDArray[np.str_]) -> Iterator[str]:
    """Name the patient or slide of each patch: ``Case-3``, the BreakHis slide, else the source image."""
    for name in files:
        for pattern in (r"(Case-\d+)", r"(P\d+)-B\d+", r"(SOB_[BM]_[A-Z]+-\d+-\w+?)-\d+-\d+"):
            if found := re.search(pattern, str(name)):
                yield found.group(1)
                break
        else:
            yield str(name).rsplit(".", 1)[0]
