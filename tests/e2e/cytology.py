"""A small real study for end-to-end tests: scikit-learn's breast-cytology cases, dealt to N sites."""

import csv
import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from fl_jobs.data import register
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec
from fl_jobs.simulate import with_tensors

LABELS = ("benign", "malignant")


def write_site_data(home: Path, index: int, of: int) -> None:
    """Put every ``of``-th case into the site's data folder and register it, as the operator would."""
    cases = load_breast_cancer()
    folder = home / "data" / "cytology"
    folder.mkdir(parents=True)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["case_id", *features(), "diagnosis"])
        for row in range(index, len(cases.target), of):
            values = (f"{value:.6g}" for value in cases.data[row])
            writer.writerow([f"case-{row:03d}", *values, LABELS[1 - int(cases.target[row])]])
    manifest = {
        "name": "cytology",
        "kind": "tabular",
        "file": "cases.csv",
        "label": "diagnosis",
        "group": "case_id",
        "features": list(features()),
        "labels": list(LABELS),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    register(folder, home / "registered")


def features() -> tuple[str, ...]:
    """The columns, in order."""
    return tuple(str(np.str_(name)).replace(" ", "_") for name in load_breast_cancer().feature_names)


def run_spec(
    *,
    rounds: int,
    algorithm: str = "dbe",
    min_sites: int = 2,
    epochs: int = 1,
    masked: bool = False,
    seed: int = 7,
) -> RunSpec:
    """A run over the cytology cases with the tensors its algorithms share."""
    task = TaskSpec(kind="tabular", labels=LABELS, features=features())
    spec = RunSpec(
        study=StudySpec(slug="cytology", purpose="test", dataset="cytology", task=task),
        algorithm=algorithm,
        hyper_parameters={"learning_rate": 0.003, "batch_size": 16, "local_epochs": epochs},
        model=ModelSpec(name="tabular_mlp"),
        rounds=rounds,
        seed=seed,
        min_sites=max(min_sites, 3) if masked else min_sites,
        policy=PolicySpec(secure_aggregation=masked),
    )
    return with_tensors(spec)
