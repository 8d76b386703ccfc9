"""What the table studies share."""

import csv
from pathlib import Path


def first_row(folder: Path, features: tuple[str, ...]) -> dict[str, float]:
    """The features of the first row of a site's own ``cases.csv``."""
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as handle:
        case = next(csv.DictReader(handle))
    return {name: float(case[name]) for name in features}
