"""Small sites for tests: a home with a registered data set, dealt by a seed."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from fl_jobs.data import register
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec
from fl_jobs.simulate import with_tensors

FEATURES = tuple(f"f{number}" for number in range(6))
LABELS = ("benign", "malignant")
TABULAR = TaskSpec(kind="tabular", labels=LABELS, features=FEATURES)
IMAGE = TaskSpec(kind="image", labels=LABELS, height=16, width=16)
TEXT = TaskSpec(kind="text", labels=LABELS, max_characters=60)
MODELS = {"tabular": "tabular_mlp", "image": "image_cnn", "text": "text_hash"}
SMALL = {
    "tabular": {"hidden": 8, "feature_dim": 4},
    "image": {"width": 4},
    "text": {"buckets": 256, "dim": 4, "feature_dim": 4},
}


def make_spec(algorithm="dbe", task=TABULAR, rounds=2, seed=7, masked=False, **hyper_parameters):
    spec = RunSpec(
        study=StudySpec(slug="study", purpose="test", dataset="cases", task=task),
        algorithm=algorithm,
        hyper_parameters=hyper_parameters,
        model=ModelSpec(name=MODELS[task.kind], arguments=SMALL[task.kind]),
        rounds=rounds,
        seed=seed,
        min_sites=3 if masked else 2,
        policy=PolicySpec(secure_aggregation=masked),
    )
    return with_tensors(spec)


def write_table(folder, rows, *, header=("case", *FEATURES, "diagnosis"), **changes):
    """Write cases.csv and its manifest; ``changes`` replace entries of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cases.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        writer.writerows(rows)
    manifest = {
        "name": "cases",
        "kind": "tabular",
        "file": "cases.csv",
        "label": "diagnosis",
        "group": "case",
        "features": list(FEATURES),
        "labels": list(LABELS),
    } | changes
    (folder / "manifest.json").write_text(json.dumps(manifest))


def tabular_rows(count=60, *, seed=0, flip=False):
    """Cases a linear rule tells apart; ``flip`` swaps the labels (a site with another concept)."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, len(FEATURES)))
    y = (x[:, 0] + x[:, 1] > 0) != flip
    return [
        (f"c{i}", *(f"{v:.5f}" for v in row), LABELS[int(label)])
        for i, (row, label) in enumerate(zip(x, y, strict=True))
    ]


def tabular_home(home: Path, count=60, *, seed=0, flip=False) -> Path:
    write_table(home / "data" / "cases", tabular_rows(count, seed=seed, flip=flip))
    register(home / "data" / "cases", home / "registered")
    return home


def write_images(folder, count=12, *, size=16, seed=0):
    """Dark and bright noise, three patches per patient."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    lines = ["path,label,group"]
    for number in range(count):
        bright = number % 2
        pixels = generator.integers(0, 128, (size, size, 3)) + 127 * bright
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        lines.append(f"images/{number}.png,{LABELS[bright]},p{number // 6}-{bright}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    manifest = {"name": "cases", "kind": "image", "file": "labels.csv", "labels": list(LABELS)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def image_home(home: Path, count=36, *, seed=0) -> Path:
    write_images(home / "data" / "cases", count, seed=seed)
    register(home / "data" / "cases", home / "registered")
    return home


def text_home(home: Path, count=30, *, seed=0) -> Path:
    folder = home / "data" / "cases"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    lines = ["text,label,group"]
    for number in range(count):
        words = ("疼痛 发热", "随访 复查")[number % 2]
        lines.append(f"病人 {generator.integers(1000)} {words},{LABELS[number % 2]},t{number}")
    (folder / "texts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    manifest = {"name": "cases", "kind": "text", "file": "texts.csv", "labels": list(LABELS)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    register(folder, home / "registered")
    return home


def tabular_homes(root: Path, names=("a", "b", "c"), **kwargs) -> dict[str, Path]:
    return {name: tabular_home(root / name, seed=seed, **kwargs) for seed, name in enumerate(names)}
