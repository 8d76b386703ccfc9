"""What the operator sees of a checked data set; none of it leaves but the card below it."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from fl_jobs.data.manifest import Manifest
from fl_jobs.data.register import Registration
from fl_jobs.data.tables import PARTS, Table, numbers, read_table

FEATURES_SHOWN = 60


def describe_cases(folder: Path, manifest: Manifest, registration: Registration) -> dict[str, Any]:
    """Cases by label and part, patients by part, and of a table the range of every feature."""
    table = read_table(folder, manifest)
    cases: dict[str, Counter[str]] = defaultdict(Counter)
    patients: dict[str, set[str]] = defaultdict(set)
    by_label: dict[str, set[str]] = defaultdict(set)
    for row, part in zip(table.rows, registration.parts, strict=True):
        cases[row.label][part] += 1
        patients[part].add(row.group)
        by_label[row.label].add(row.group)
    return {
        "labels": [
            {
                "label": label,
                "parts": [cases[label][part] for part in PARTS],
                "rows": cases[label].total(),
                "patients": len(by_label[label]),
                "hidden": label in (registration.hidden or ()),
            }
            for label in manifest.labels
        ],
        "patients": [len(patients[part]) for part in PARTS],
        "grouped": any(not row.group.startswith("row-") for row in table.rows[:1]),
        "features": _features(table, manifest) if manifest.kind == "tabular" else [],
    }


def _features(table: Table, manifest: Manifest) -> list[dict[str, Any]]:
    values = numbers(table, table.rows, manifest.features).astype(np.float64)
    return [
        {
            "name": name,
            "mean": round(float(column.mean()), 4),
            "spread": round(float(column.std()), 4),
            "smallest": round(float(column.min()), 4),
            "largest": round(float(column.max()), 4),
        }
        for name, column in zip(manifest.features[:FEATURES_SHOWN], values.T, strict=False)
    ]
