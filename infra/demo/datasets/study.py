"""What a demo study is: what people type into the portal, and what an operator puts into a kit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEED = 20261123


@dataclass(frozen=True)
class DemoSite:
    """What the administrator types to add the site; ``index`` picks its share of the data."""

    name: str
    title: str
    organisation: str
    zone: str
    index: int


@dataclass(frozen=True)
class DemoStudy:
    """What the data scientist types to open the study and to submit the run, and where the data come from.

    ``settings``: fields of the run form that are not left at their defaults. ``write`` puts a site's files
    into a folder and returns its part of the manifest; it gets CONSILIUM_DATA or None. ``case`` is a request
    that the site's model can answer, as httpx sends it, made from the site and its folder. ``data_file``: the
    file of CONSILIUM_DATA the study needs.
    """

    slug: str
    title: str
    purpose: str
    dataset: str
    kind: str
    labels: tuple[str, ...]
    features: tuple[str, ...]
    model: str
    rounds: int
    sites: tuple[DemoSite, ...]
    write: Callable[[DemoSite, Path, Path | None], dict[str, Any]]
    case: Callable[[DemoSite, Path], dict[str, Any]]
    algorithm: str = "dbe"
    settings: Mapping[str, str | int | float | tuple[str, ...]] = field(default_factory=dict)
    pixels: int = 64
    data_file: str = ""
    synthetic: bool = False
