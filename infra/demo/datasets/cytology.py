"""The 569 Wisconsin breast-cytology cases inside scikit-learn (UCI, CC BY 4.0), dealt to four hospitals.

The deal has a seeded skew: half of each hospital's cases are drawn by its referral pattern (the share of
malignant cases below), and each hospital's instrument reads a little differently (a fixed gain per hospital
on the size features), which is what makes one common model a compromise.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

from infra.demo.datasets.study import SEED, DemoSite, DemoStudy
from infra.demo.datasets.tables import first_row

SITES = (
    ("st-anna", "St Anna Hospital", "Anna_Foundation", "north", 0.20, 1.00),
    ("riverside", "Riverside Clinic", "Riverside_Group", "east", 0.35, 1.08),
    ("huashan-west", "Huashan West Hospital", "Huashan_Group", "west", 0.45, 0.94),
    ("lakeside", "Lakeside Cancer Centre", "Lakeside_Trust", "south", 0.65, 1.15),
)


def cytology() -> DemoStudy:
    """The study on the embedded breast-cytology cases."""
    features = tuple(_column(name) for name in load_breast_cancer().feature_names)
    return DemoStudy(
        slug="breast-cytology",
        title="Breast cytology: benign or malignant",
        purpose="Tell benign from malignant fine-needle aspirates. Teaching data, not for patients.",
        dataset="breast-cytology",
        kind="tabular",
        labels=("benign", "malignant"),
        features=features,
        model="tabular_mlp",
        rounds=10,
        sites=tuple(DemoSite(*row[:4], index=i) for i, row in enumerate(SITES)),
        write=write,
        case=lambda _site, folder: {"json": {"records": [first_row(folder, features)]}},
    )


def _column(name: str) -> str:
    return name.replace(" ", "_")


def deal_cytology(target: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Deal case numbers to the four hospitals: equal sizes, malignant shares near those of the table.

    ``target`` is scikit-learn's (0 malignant, 1 benign). Every case goes to exactly one hospital.
    """
    generator = np.random.default_rng(SEED)
    pools = {label: list(generator.permutation(np.flatnonzero(target == label))) for label in (0, 1)}
    size = -(-len(target) // len(SITES))
    hands: list[NDArray[np.int64]] = []
    for *_names, share, _gain in SITES[:-1]:
        malignant = min(round(size * share), len(pools[0]))
        hand = [pools[0].pop() for _ in range(malignant)]
        hand += [pools[1].pop() for _ in range(min(size - malignant, len(pools[1])))]
        hands.append(np.sort(np.array(hand)))
    hands.append(np.sort(np.array(pools[0] + pools[1])))
    return hands


def write(site: DemoSite, folder: Path, _data_home: Path | None) -> dict[str, Any]:
    """The hospital's cases as a CSV."""
    cases = load_breast_cancer()
    gain = SITES[site.index][-1]
    names = [_column(name) for name in cases.feature_names]
    sizes = [any(word in name for word in ("radius", "perimeter", "area")) for name in names]
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["case_id", *names, "diagnosis"])
        for row in deal_cytology(cases.target)[site.index]:
            values = np.where(sizes, cases.data[row] * gain, cases.data[row])
            diagnosis = "benign" if cases.target[row] else "malignant"
            writer.writerow([f"case-{row:03d}", *(f"{value:.6g}" for value in values), diagnosis])
    return {"file": "cases.csv", "label": "diagnosis", "group": "case_id", "features": names}
