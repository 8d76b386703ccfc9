"""On real cases: the cytology inside scikit-learn, and histology where CONSILIUM_DATA has it."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer

from fl_jobs.data import load_part, register
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec
from fl_jobs.simulate import run_in_process
from tests.fl_jobs.sites import LABELS, write_table

HISTOLOGY = Path(os.environ.get("CONSILIUM_DATA", "../shared/data")) / "histo_mini_4institutions_64.npz"


def deal_cytology(root: Path) -> tuple[dict[str, Path], TaskSpec]:
    """Four sites with rising shares of malignant cases; each measures sizes with a gain of its own."""
    cases = load_breast_cancer()
    names = tuple(name.replace(" ", "_") for name in cases.feature_names)
    order = np.random.default_rng(5).permutation(len(cases.target))
    leaning = np.argsort(-cases.target[order] + np.random.default_rng(6).normal(0, 0.7, len(order)))
    homes = {}
    for number, hand in enumerate(np.array_split(order[leaning], 4)):
        home = root / f"site-{number}"
        rows = [
            (
                f"c{i}",
                *(f"{v:.6g}" for v in cases.data[i] * (0.9 + 0.1 * number)),
                LABELS[1 - cases.target[i]],
            )
            for i in hand
        ]
        write_table(home / "data" / "cases", rows, header=("case", *names, "diagnosis"), features=names)
        register(home / "data" / "cases", home / "registered")
        homes[home.name] = home
    return homes, TaskSpec(kind="tabular", labels=LABELS, features=names)


def run(homes, task, model, rounds):
    spec = RunSpec(
        study=StudySpec(slug="real", purpose="test", dataset="cases", task=task, teaching=True),
        algorithm="dbe",
        hyper_parameters={},
        model=ModelSpec(name=model),
        rounds=rounds,
        seed=1,
        min_sites=2,
        policy=PolicySpec(secure_aggregation=False),
    )
    return run_in_process(spec, homes)


def test_cytology_is_learned_and_dbe_is_no_worse_than_fedavg_on_validation(tmp_path):
    homes, task = deal_cytology(tmp_path)
    records = run(homes, task, "tabular_mlp", rounds=8)
    last = records[-2]["validated"]["cohort"]
    assert last["local"]["val_accuracy"] > 0.9
    assert last["personal"]["val_accuracy"] > 0.9
    assert last["personal"]["val_balanced_accuracy"] >= last["global"]["val_balanced_accuracy"]
    assert last["personal"]["val_loss"] < last["global"]["val_loss"]
    for payload in records[-1]["sites"].values():
        assert payload["cells"]["personal"]["accuracy"] > 0.8
        assert payload["proposal"] == "local"  # 28 test cases a site prove nothing
        assert payload["differences"]["personal"]["verdict"] == "cannot be tested here"


@pytest.mark.skipif(not HISTOLOGY.exists(), reason="CONSILIUM_DATA has no histology")
def test_histology_patches_load_without_a_patient_on_both_sides_and_train(tmp_path):
    homes, task = {}, TaskSpec(kind="image", labels=("no-tumour", "tumour"))
    with np.load(HISTOLOGY, allow_pickle=False) as archive:
        for site in (1, 2):
            mine = np.flatnonzero(archive["site"] == site)
            homes[f"s{site}"] = write_patches(tmp_path / f"s{site}", archive, mine)
    for home in homes.values():
        groups = [
            set(load_part(home / "data" / "cases", home / "registered", part, task).groups)
            for part in ("train", "validation", "test")
        ]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    records = run(homes, task, "image_cnn", rounds=2)
    losses = [record["cohort"]["personal"]["train_loss"] for record in records if record["kind"] == "round"]
    assert losses[1] < losses[0]


def write_patches(home, archive, mine):
    folder = home / "data" / "cases"
    (folder / "images").mkdir(parents=True)
    lines = ["path,label,group"]
    images, labels, files = (archive[name] for name in ("images", "label", "source_files"))
    for i in mine:
        Image.fromarray(images[i]).save(folder / "images" / f"{i}.png")
        patient = str(files[i]).rsplit("_", 1)[0].rsplit("-400-", 1)[0]
        lines.append(f"images/{i}.png,{('no-tumour', 'tumour')[labels[i]]},{patient}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "manifest.json").write_text(
        '{"name": "cases", "kind": "image", "file": "labels.csv", "labels": ["no-tumour", "tumour"]}'
    )
    register(folder, home / "registered")
    return home
