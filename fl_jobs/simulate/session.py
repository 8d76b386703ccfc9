"""One site session that visits many sites: the models are built once, one site's data are there at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm
from fl_jobs.data import DataPart
from fl_jobs.errors import SpecError
from fl_jobs.evaluation import predict_probabilities, validation_sums
from fl_jobs.messages import VALIDATION, TaskOrder, TensorMap
from fl_jobs.packaging.spec import Arm, RunSpec
from fl_jobs.private_steps import PrivateSteps
from fl_jobs.simulate.arena import Arena
from fl_jobs.simulate.sources import SiteParts, Source
from fl_jobs.simulate.stacked import SiteWork, State
from fl_jobs.site_session import SiteSession
from fl_jobs.site_session.arms import ArmModels
from fl_jobs.training import Trained

Sums = dict[str, float]


class VisitedModels(ArmModels):
    """The models with the scaling of whichever site is visited; none where the source has none."""

    def __init__(self, spec: RunSpec, arena: Arena, train_x: Tensor, *, standardised: bool) -> None:
        self._standardised = standardised
        self._scalings: dict[str, dict[str, Tensor]] = {}
        super().__init__(spec, arena, train_x)

    def scale(self, train_x: Tensor) -> None:
        if self._standardised:
            super().scale(train_x)
            return
        for model in self._models.values():
            model.scaler.size = 0  # passes inputs on

    def scale_for(self, site: str, train_x: Tensor) -> None:
        """Take a site's scaling; it is computed once."""
        if site not in self._scalings:
            self.scale(train_x)
            initial = next(iter(self._initial.values()))
            self._scalings[site] = {n: v for n, v in initial.items() if n.startswith("scaler.")}
        for initial in self._initial.values():
            initial |= self._scalings[site]

    def arm_of(self, algorithm: PersonalAlgorithm) -> Arm:
        return next(arm for arm, model in self._models.items() if model is algorithm)


class VisitingSession(SiteSession):
    """What a site does with an order, done at the site that :meth:`visit` named last.

    ``memory_bytes``: so much of personal parts, and as much of data, is held in memory; what is beyond is
    written to ``scratch``, and read from its source again.
    """

    models: VisitedModels

    def __init__(self, spec: RunSpec, source: Source, scratch: Path, *, memory_bytes: int) -> None:
        if spec.policy.privacy is not None:
            raise SpecError(
                "The simulator keeps no privacy ledger. Leave differential privacy out of the run."
            )
        self.arena = Arena(scratch / "personal", memory_bytes)
        super().__init__(spec, run_id="simulated", site="", site_home=scratch, share_site_metrics=True)
        self._source, self._data_left = source, memory_bytes
        self._data: dict[str, SiteParts] = {}
        self._measured: tuple[int, dict[str, dict[str, Sums]]] = (-1, {})
        self._trained: dict[tuple[str, Arm], tuple[State, Trained]] = {}
        first = torch.from_numpy(source.read(source.sites[0], self.encode_texts).train.x)
        self.models = VisitedModels(spec, self.arena, first, standardised=source.standardised)

    def open_store(self) -> Arena:
        return self.arena

    def visit(self, site: str) -> None:
        """Go to a site. Raises DataError."""
        parts = self._data.get(site) or self._source.read(site, self.encode_texts)
        if site not in self._data and parts.nbytes <= self._data_left:
            self._data[site] = parts
            self._data_left -= parts.nbytes
        self.site = self.arena.site = site
        self._parts = parts
        self.training_cases, self.validation = self.cases_of(parts.train), parts.validation
        self.models.scale_for(site, self.training_cases.x)

    def part(self, name: str) -> DataPart:
        part: DataPart = getattr(self._parts, name)
        return part

    def work(self, arm: Arm, order: TaskOrder) -> SiteWork:
        """The site's share of a stacked round of ``arm``."""
        algorithm = self.models.load(arm, order.tensors, order.round_number - 1).algorithm
        state = {name: value.clone() for name, value in algorithm.state_dict().items()}
        return SiteWork(state, self.training_cases, (self.site, TRAIN, order.round_number))

    def take(self, site: str, arm: Arm, state: State, trained: Trained) -> None:
        """Hand in what stacked training gave; the site's next round of ``arm`` is this one."""
        self._trained[site, arm] = (state, trained)

    def train(
        self, algorithm: PersonalAlgorithm, phase: str, number: int, private: PrivateSteps | None = None
    ) -> Trained:
        ready = self._trained.pop((self.site, self.models.arm_of(algorithm)), None)
        if ready is None:
            return super().train(algorithm, phase, number, private)
        state, trained = ready
        algorithm.phase = phase
        algorithm.train()
        algorithm.load_state_dict(state)
        algorithm.end_round(())
        return trained

    def measure_all(
        self, sites: Sequence[str], tensors: TensorMap, number: int
    ) -> dict[Arm, dict[str, Sums]]:
        """Sums over ``sites`` by arm and part ("validation", "test"), of their models after ``number``."""
        totals: dict[Arm, dict[str, Sums]] = {arm: {} for arm in self.spec.arms()}
        measured: dict[str, dict[str, Sums]] = {}
        for site in sites:
            self.visit(site)
            measured[site] = {}
            for arm in self.spec.arms():
                loaded = self.models.load(arm, tensors, number)
                for name in ("validation", "test"):
                    if not len((part := self.part(name)).y):
                        continue
                    found = validation_sums(
                        predict_probabilities(loaded.algorithm, torch.from_numpy(part.x)), part.y
                    )
                    into = totals[arm].setdefault(name, dict.fromkeys(found, 0.0))
                    for key, value in found.items():
                        into[key] += value
                    if name == "validation" and (loaded.own_round is not None or self._is_shared(arm)):
                        measured[site][arm] = found
        self._measured = (number, measured)
        return totals

    def _validate(self, order: TaskOrder, number: int) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
        """What ``measure_all`` found, if it was the same round; a site without validation says nothing."""
        if not len(self.validation.y):
            return {}, {"validated": {}}
        at, measured = self._measured
        if at != number or self.site not in measured:
            return super()._validate(order, number)
        sums = {arm: dict(values) for arm, values in measured[self.site].items()}
        return sums, {"validated": _cells(sums)}


def _cells(sums: Mapping[str, Sums]) -> dict[str, Sums]:
    return {arm: {name: s[key] / s["val_n"] for name, key in VALIDATION.items()} for arm, s in sums.items()}
