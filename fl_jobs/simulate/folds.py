"""Which arm each site should use, by group-k-fold inside training and validation (``--choose K``).

In each fold a site's held-out groups stand where a run has its test part, and the groups of the next fold are
its validation part, by which a run picks its round. The site's own test part is in no fold: it is left for
the one run that confirms the choice.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fl_jobs.benefit.answers import Answers, average_seeds, join_folds
from fl_jobs.benefit.evidence import EVIDENCE, read_evidence
from fl_jobs.choosing import Gain, PooledGain, choose, fold_of_groups, gains, pool_sites
from fl_jobs.data.manifest import read_manifest
from fl_jobs.data.register import read_registration
from fl_jobs.data.tables import PARTS, read_table
from fl_jobs.errors import DataError, SpecError
from fl_jobs.packaging.spec import RunSpec, run_folder_name
from fl_jobs.simulate.in_process import run_in_process
from fl_jobs.simulate.sources import SiteFolders

FEWEST_FOLDS = 3  # one is held out, one validates, the others train
KEPT = "kept"  # of a row that no fold loads
RUN_ID = "fold"


@dataclass(frozen=True)
class Choice:
    """Of one site: the arm to use, each arm's gain over local-only, and what the sites together say of it."""

    arm: str
    gains: dict[str, Gain]
    pooled: dict[str, PooledGain]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def choose_by_simulation(
    source: SiteFolders,
    specs: Sequence[RunSpec],
    folds: int,
    scratch: Path,
    *,
    on_run: Callable[[], object] = lambda: None,
) -> dict[str, Choice]:
    """The choice at each site. ``specs`` differ in their seed only; each is run once in every fold.

    Raises SpecError for fewer than three folds, DataError when a site has fewer groups than folds.
    """
    if folds < FEWEST_FOLDS:
        raise SpecError(f"Choose with at least {FEWEST_FOLDS} folds: --choose {FEWEST_FOLDS}.")
    held_out: dict[str, list[Answers]] = {site: [] for site in source.sites}
    for homes in fold_homes(source, specs[0].study.dataset, folds, scratch):
        answers: dict[str, list[Answers]] = {site: [] for site in source.sites}
        for spec in specs:
            run_in_process(spec, homes, run_id=RUN_ID)
            for site, home in homes.items():
                folder = home / "personal" / spec.study.slug / spec.algorithm
                path = folder / run_folder_name(spec.digest(), RUN_ID) / EVIDENCE
                answers[site].append(read_evidence(path).answers)
            on_run()
        for site, found in answers.items():
            held_out[site].append(average_seeds(found))
    analysis = specs[0].analysis
    by_site = {site: gains(join_folds(found), analysis.endpoint) for site, found in held_out.items()}
    pooled = {
        arm: pool_sites({site: found[arm] for site, found in by_site.items()}, analysis.margin)
        for arm in next(iter(by_site.values()))
    }
    return {
        site: Choice(choose(found), found, {arm: pooled[arm][site] for arm in found})
        for site, found in by_site.items()
    }


def fold_homes(source: SiteFolders, dataset: str, folds: int, scratch: Path) -> Iterator[dict[str, Path]]:
    """For each fold a home of every site: its data by link, and a registration of the fold's own parts."""
    fold_of_row = {site: _fold_of_row(source, site, folds) for site in source.sites}
    for number in range(folds):
        homes = {site: scratch / f"fold-{number}" / site for site in source.sites}
        for site, home in homes.items():
            (home / "data").mkdir(parents=True)
            (home / "data" / dataset).symlink_to(source.folders[site].resolve(), target_is_directory=True)
            _write_registration(source, site, home / "registered", fold_of_row[site], number, folds)
        yield homes


def _fold_of_row(source: SiteFolders, site: str, folds: int) -> list[int | None]:
    """The fold each row is held out in; None for the rows of the site's test part."""
    folder = source.folders[site]
    manifest = read_manifest(folder)
    known = read_registration(source.registered(site), manifest.name)
    table = read_table(folder, manifest)
    counts: dict[str, Counter[str]] = {}
    for row, part in zip(table.rows, known.parts, strict=True):
        if part != "test":
            counts.setdefault(row.group, Counter())[row.label] += 1
    if len(counts) < folds:
        raise DataError(
            f"{site} has {len(counts)} patients (or images) to train and validate with, fewer than {folds} "
            "folds. Choose with fewer folds, or leave the site out."
        )
    groups, labels = sorted(counts), manifest.labels
    stratum_G = [max(range(len(labels)), key=lambda c: counts[group][labels[c]]) for group in groups]
    fold_G = fold_of_groups(groups, stratum_G, folds, seed=known.seed)
    fold_of = dict(zip(groups, fold_G.tolist(), strict=True))
    return [fold_of.get(row.group) for row in table.rows]


def _write_registration(
    source: SiteFolders, site: str, target: Path, fold_of_row: list[int | None], number: int, folds: int
) -> None:
    """The site's registration with the parts of fold ``number``."""
    name = read_manifest(source.folders[site]).name
    known = read_registration(source.registered(site), name)
    held, next_one = number, (number + 1) % folds
    special = {None: KEPT, held: "test", next_one: "validation"}
    parts = tuple(special.get(fold, "train") for fold in fold_of_row)
    card = known.card.model_copy(update={"parts": {part: parts.count(part) for part in PARTS}})
    fold = known.model_copy(update={"parts": parts, "card": card})
    target.mkdir(parents=True)
    (target / f"{name}.json").write_text(json.dumps(fold.model_dump(mode="json")), encoding="utf-8")
