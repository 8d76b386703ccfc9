"""Heart disease in four hospitals (UCI, CC BY 4.0): 920 patients, 13 features, many values missing.

What is missing differs from hospital to hospital. As an operator would before registering, each hospital
fills a gap with the median of all its own patients and says in a further column that it was a gap. A
cholesterol or a blood pressure of 0 is a gap too. A column a hospital never measured is 0 throughout.
"""

import csv
from pathlib import Path
from statistics import median
from typing import Any

from infra.demo.datasets.study import DemoSite, DemoStudy
from infra.demo.datasets.tables import first_row

FILE = "fed_heart_disease_uci_4hospitals.csv"
SITES = (
    ("cleveland", "Cleveland Clinic", "Cleveland_Clinic", "us"),
    ("budapest", "Hungarian Institute of Cardiology", "HIC_Budapest", "hu"),
    ("switzerland", "University Hospitals Zurich and Basel", "USZ_USB", "ch"),
    ("long-beach", "VA Medical Center Long Beach", "VA_Long_Beach", "us"),
)
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
MEASURED = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca",
    "thal",
)  # fmt: skip
NEVER_ZERO = ("trestbps", "chol")
GAPS = MEASURED[3:]  # age, sex and kind of pain are always known
FEATURES = (*MEASURED, *(f"{name}_missing" for name in GAPS))
LABELS = ("healthy", "disease")


def heart() -> DemoStudy:
    """The study on heart disease."""
    return DemoStudy(
        slug="heart-disease",
        title="Heart disease in four hospitals",
        purpose="Tell who has a narrowed coronary artery. Data of the 1980s; not for patients.",
        dataset="heart-disease",
        kind="tabular",
        labels=LABELS,
        features=FEATURES,
        model="tabular_mlp",
        rounds=12,
        sites=tuple(DemoSite(*row, index=i) for i, row in enumerate(SITES)),
        write=write,
        case=lambda _site, folder: {"json": {"records": [first_row(folder, FEATURES)]}},
        settings={"hp_weight_decay": 0.001},
        data_file=FILE,
    )


def write(site: DemoSite, folder: Path, data_home: Path | None) -> dict[str, Any]:
    """The hospital's patients as a CSV without gaps."""
    assert data_home is not None  # noqa: S101 - the study names its data_file
    with (data_home / FILE).open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["hospital"] == HOSPITALS[site.index]]
    known = [{name: _known(name, row[name]) for name in MEASURED} for row in rows]
    usual = {name: _median([row[name] for row in known]) for name in MEASURED}
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["patient", *FEATURES, "diagnosis"])
        for number, (row, values) in enumerate(zip(rows, known, strict=True)):
            filled = [usual[name] if value is None else value for name, value in values.items()]
            gaps = [int(values[name] is None) for name in GAPS]
            diagnosis = LABELS[float(row["num"]) > 0]
            numbers = (f"{value:g}" for value in filled)
            writer.writerow([f"{site.name}-{number:03d}", *numbers, *gaps, diagnosis])
    return {"file": "cases.csv", "label": "diagnosis", "group": "patient", "features": list(FEATURES)}


def _known(name: str, cell: str) -> float | None:
    value = float(cell) if cell else None
    return None if value == 0 and name in NEVER_ZERO else value


def _median(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return median(known) if known else 0.0
