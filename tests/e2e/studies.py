"""The demo's studies on a bare federation: data as an operator leaves them, runs as a form makes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_jobs import catalog
from fl_jobs.data import register
from fl_jobs.packaging.spec import AnalysisSpec, ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec
from fl_jobs.simulate import with_tensors
from infra.demo.datasets import DemoStudy, write_dataset
from tests.e2e.federation import Federation


def write_home(study: DemoStudy, place: int, home: Path, data_home: Path | None) -> None:
    """Write and register the data of the study's site number ``place``."""
    folder = home / "data" / study.dataset
    write_dataset(study, study.sites[place], folder, data_home=data_home)
    register(folder, home / "registered")


def run_spec(
    study: DemoStudy, algorithm: str, *, seed: int, rounds: int | None = None, masked: bool = True
) -> RunSpec:
    """What the study's form would make of its suggested settings and ``algorithm``."""
    pixels = {"height": study.pixels, "width": study.pixels} if study.kind == "image" else {}
    task = TaskSpec(kind=study.kind, labels=study.labels, features=study.features, **pixels)
    given = {name.partition("_")[::2]: value for name, value in study.settings.items()}
    spec = RunSpec(
        study=StudySpec(
            slug=study.slug, purpose=study.purpose, dataset=study.dataset, task=task, teaching=True
        ),
        algorithm=algorithm,
        hyper_parameters=catalog.validate_hyper_parameters(
            algorithm, {name: value for (kind, name), value in given.items() if kind == "hp"}, study.kind
        ),
        model=ModelSpec(
            name=study.model,
            arguments=catalog.validate_model(
                study.model,
                {name: value for (kind, name), value in given.items() if kind == "arg"},
                study.kind,
            ),
        ),
        rounds=rounds or study.rounds,
        seed=seed,
        min_sites=3,
        policy=PolicySpec(secure_aggregation=masked),
        analysis=AnalysisSpec(**{name: value for (kind, name), value in given.items() if kind == "analysis"}),
    )
    return with_tensors(spec)


@contextmanager
def study_federation(study: DemoStudy, root: Path, data_home: Path | None) -> Iterator[Federation]:
    """A federation of the study's sites, all online; every process has ended when the block does."""
    with Federation(root) as federation:
        for place, site in enumerate(study.sites):
            federation.add_site(site.name)
            write_home(study, place, federation.site_home(site.name), data_home)
        federation.start_server()
        federation.start_sites()
        yield federation
    if left := federation.leftover():
        raise RuntimeError(f"{len(left)} processes of the federation are left: {left[:3]}")
