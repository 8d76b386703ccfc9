import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from fl_jobs.data import load_part, register
from fl_jobs.packaging.spec import TaskSpec
from infra.demo.datasets import STUDIES, cytology, heart, hotline, write_dataset
from infra.demo.datasets.cytology import deal_cytology
from infra.demo.datasets.histology import patients

DATA = Path(os.environ.get("CONSILIUM_DATA", "../shared/data"))


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
    assert list(patients(names)) == [
        "Case-3",
        "Case-3",
        "P9",
        "SOB_M_DC-14-2773",
        "ADI___ADI-TCGA-ALPPQLSF_106",
    ]


def with_data(name):
    study = STUDIES[name]()
    if study.data_file and not (DATA / study.data_file).exists():
        pytest.skip("CONSILIUM_DATA has no such file")
    return study


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_registers_at_every_site_with_whole_groups_in_one_part(tmp_path, name):
    study = with_data(name)
    pixels = {"height": study.pixels, "width": study.pixels} if study.kind == "image" else {}
    task = TaskSpec(kind=study.kind, labels=study.labels, features=study.features, **pixels)
    assert len({site.name for site in study.sites}) == len(study.sites) >= 4
    for site in study.sites:
        folder = tmp_path / site.name
        write_dataset(study, site, folder, data_home=DATA)
        assert register(folder, tmp_path / "registered").synthetic == study.synthetic
        parts = [load_part(folder, tmp_path / "registered", p, task) for p in ("train", "validation", "test")]
        groups = [set(part.groups) for part in parts]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
        assert all(len(part.y) for part in parts)
        assert study.case(site, folder)


def test_what_a_hospital_never_measured_is_no_value_and_a_gap_is_said(tmp_path):
    study = with_data("heart")
    rows = {}
    for site in study.sites:
        write_dataset(study, site, tmp_path / site.name, data_home=DATA)
        with (tmp_path / site.name / "cases.csv").open() as handle:
            rows[site.name] = list(csv.DictReader(handle))
    assert {name: len(found) for name, found in rows.items()} == {
        "cleveland": 303,
        "budapest": 294,
        "switzerland": 123,
        "long-beach": 200,
    }
    assert {(row["chol"], row["chol_missing"]) for row in rows["switzerland"]} == {("0", "1")}
    gaps = [row for row in rows["long-beach"] if row["chol_missing"] == "1"]
    assert len(gaps) == 56  # 49 zeros and 7 empty cells
    assert len({row["chol"] for row in gaps}) == 1
    assert float(gaps[0]["chol"]) > 100
    assert set(heart().features) < rows["cleveland"][0].keys()


def test_a_province_keeps_its_requests_in_its_own_way_and_says_they_are_synthetic(tmp_path):
    study = hotline()
    files = set()
    for site in study.sites:
        write_dataset(study, site, tmp_path / site.name, data_home=None)
        manifest = json.loads((tmp_path / site.name / "manifest.json").read_text())
        files.add((manifest["file"], manifest.get("encoding")))
        assert manifest["synthetic"] is True
    assert files == {("tickets.xlsx", None), ("tickets.csv", "utf-8"), ("tickets.csv", "gb18030")}
    assert "synthetic" in study.title
    assert "合成数据" in study.purpose


def test_a_study_whose_file_is_not_there_says_what_to_do(tmp_path):
    study = heart()
    with pytest.raises(SystemExit, match="CONSILIUM_DATA"):
        write_dataset(study, study.sites[0], tmp_path / "x", data_home=tmp_path)
