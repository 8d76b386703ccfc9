"""Fills a site's data folder with cases, as an operator would: files and a manifest. One file per study."""

import json
from collections.abc import Callable
from pathlib import Path

from infra.demo.datasets.cytology import cytology
from infra.demo.datasets.dermoscopy import dermoscopy
from infra.demo.datasets.heart import heart
from infra.demo.datasets.histology import histology
from infra.demo.datasets.hotline import hotline
from infra.demo.datasets.study import DemoSite, DemoStudy

__all__ = (
    "STUDIES", "DemoSite", "DemoStudy", "cytology", "dermoscopy", "heart", "histology", "hotline",
    "write_dataset",
)  # fmt: skip
STUDIES: dict[str, Callable[[], DemoStudy]] = {
    "cytology": cytology,
    "heart": heart,
    "histology": histology,
    "dermoscopy": dermoscopy,
    "hotline": hotline,
}


def write_dataset(study: DemoStudy, site: DemoSite, folder: Path, *, data_home: Path | None) -> None:
    """Write the site's share below ``folder`` (the kit's ``data/<dataset>``); the manifest comes last."""
    if study.data_file and (data_home is None or not (data_home / study.data_file).exists()):
        raise SystemExit(
            f"This study needs {study.data_file} in the folder CONSILIUM_DATA names. "
            "Use `make demo STUDY=cytology` or STUDY=hotline instead."
        )
    folder.mkdir(parents=True, exist_ok=True)
    manifest = study.write(site, folder, data_home)
    manifest |= {"name": study.dataset, "kind": study.kind, "labels": list(study.labels)}
    if study.synthetic:
        manifest["synthetic"] = True
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
