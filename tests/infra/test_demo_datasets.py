import csv
import json

import numpy as np
from sklearn.datasets import load_breast_cancer

from infra.demo.datasets import _patients, cytology, deal_cytology, write_dataset


def test_every_case_goes_to_exactly_one_hospital_and_the_shares_differ():
    target = load_breast_cancer().target
    hands = deal_cytology(target)
    assert sorted(np.concatenate(hands)) == list(range(len(target)))
    malignant = [float((target[hand] == 0).mean()) for hand in hands]
    assert malignant == sorted(malignant)
    assert malignant[-1] - malignant[0] > 0.25


def test_a_hospitals_folder_is_what_an_operator_would_drop(tmp_path):
    study = cytology()
    write_dataset(study, study.sites[1], tmp_path, data_home=None)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["name"], manifest["kind"], manifest["labels"]) == (
        "breast-cytology",
        "tabular",
        ["benign", "malignant"],
    )
    with (tmp_path / "cases.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 143
    assert set(study.features) < rows[0].keys()
    assert {row["diagnosis"] for row in rows} == {"benign", "malignant"}


def test_patches_are_grouped_by_patient_or_slide():
    names = np.array(
        [
            "Non-Tumor___Case-3-A15-2939-11262_112.jpg",
            "Viable___Case-3-A7-1.jpg",
            "Non-Tumor___P9-B12-15791-34183_103.jpg",
            "malignant___SOB_M_DC-14-2773-100-001.png",
            "ADI___ADI-TCGA-ALPPQLSF_106.jpg",
        ]
    )
    assert list(_patients(names)) == [
        "Case-3",
        "Case-3",
        "P9",
        "SOB_M_DC-14-2773",
        "ADI___ADI-TCGA-ALPPQLSF_106",
    ]
