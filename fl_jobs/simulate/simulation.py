"""A simulated run of many sites: the server's session, the sites one after another, sums as they come."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fl_jobs.aggregation import Adding
from fl_jobs.algorithms.base import TRAIN
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.catalog import ALGORITHMS
from fl_jobs.errors import SpecError
from fl_jobs.messages import Commit, TaskOrder
from fl_jobs.packaging.spec import COHORT_MIN, Arm, HyperValue, ModelSpec, PolicySpec, RunSpec, StudySpec
from fl_jobs.server_session import ServerSession
from fl_jobs.simulate.in_process import with_tensors
from fl_jobs.simulate.memory import keep_freed_memory
from fl_jobs.simulate.session import VisitingSession
from fl_jobs.simulate.sources import Source
from fl_jobs.simulate.stacked import can_stack, train_stacked
from fl_jobs.training import train_phase

Stacking = Literal["auto", "on", "off"]
TOGETHER = 64  # sites in one stack at most
CLEARLY = 0.8
MEASURED = 16  # sites that the choice between stacked and one after another is measured with, at most
MEASURED_NUMBERS = 2**20  # weights of all of them together: a large network needs no more to lose


class SimulatedSpec(RunSpec):
    """A run of which only some arms are played; ``only`` empty means all."""

    only: tuple[Arm, ...] = ()

    def arms(self) -> tuple[Arm, ...]:
        return tuple(arm for arm in super().arms() if not self.only or arm in self.only)


def as_run(spec: SimulatedSpec) -> RunSpec:
    """The specification of the same run with all its arms."""
    return RunSpec.model_validate(spec.model_dump(exclude={"only"}))


@dataclass(frozen=True)
class Options:
    """How a run is played. ``fraction`` of the sites train in each round, drawn by the run's seed.

    ``every``: all sites are measured after each so many rounds, and after the last. ``memory_bytes`` bounds
    what is held of personal parts, and of data.
    """

    fraction: float = 1.0
    every: int = 1
    stacked: Stacking = "auto"
    memory_bytes: int = 2**30

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction <= 1.0:
            raise SpecError(f"The share of sites in a round is {self.fraction}; choose one above 0 up to 1.")
        if self.every < 1 or self.memory_bytes < 0:
            raise SpecError("Measure at least every 1000 rounds and with a memory of 0 MB or more.")


@dataclass(frozen=True)
class Row:
    """What the sites reached after a round, weighted by their numbers of cases; None: no such part.

    ``seconds`` and ``cpu_seconds`` are those of the round's training and summing, of all arms together;
    ``evaluation_cpu_seconds`` of measuring all sites once.
    """

    seed: int
    round: int
    arm: Arm
    validation_accuracy: float | None
    test_accuracy: float | None
    train_loss: float | None
    validation_loss: float | None
    seconds: float
    cpu_seconds: float
    evaluation_cpu_seconds: float


def make_spec(
    source: Source, algorithm: str, model: ModelSpec, *, rounds: int, seed: int = 0,
    hyper_parameters: dict[str, HyperValue] | None = None, only: tuple[Arm, ...] = (),
) -> SimulatedSpec:  # fmt: skip
    """The specification of a simulated run on ``source``. Raises SpecError."""
    if algorithm not in ALGORITHMS:
        raise SpecError(f"There is no algorithm “{algorithm}”. Choose one of: {', '.join(ALGORITHMS)}.")
    spec = SimulatedSpec(
        study=StudySpec(slug="simulated", purpose="simulation", dataset="simulated", task=source.task),
        algorithm=algorithm, hyper_parameters=hyper_parameters or {}, model=model, rounds=rounds, seed=seed,
        min_sites=COHORT_MIN, only=only,
        policy=PolicySpec(secure_aggregation=not ALGORITHMS[algorithm].needs_updates),
    )  # fmt: skip
    if not spec.arms():
        raise SpecError(f"A run of {algorithm} has no arm “{only[0]}”. Choose others with --arms.")
    return with_tensors(spec)


class Simulation:
    """One run over ``source``; ``rows`` plays it. ``scratch`` takes what does not fit in memory."""

    def __init__(self, spec: RunSpec, source: Source, scratch: Path, options: Options | None = None) -> None:
        keep_freed_memory()
        self.spec, self.source, self.options = spec, source, options or Options()
        self.server = ServerSession(spec)
        self.session = VisitingSession(spec, source, scratch, memory_bytes=self.options.memory_bytes)
        self.stacked: dict[Arm, bool] = {}
        self._seconds = self._cpu = 0.0
        self._losses: dict[Arm, float] = {}

    def rows(self, on_round: Callable[[int], None] | None = None) -> Iterator[Row]:
        """Play the run; yields a row for each arm and each measured round, from round 0 (nothing learned)."""
        while (order := self.server.next_order()) is not None and order.name != "finish":
            before = order.round_number - (order.name == TRAIN)
            if order.name != "phase" and (before % self.options.every == 0 or order.name == "validate"):
                yield from self._measure(order, before)
            if order.name == "validate":
                return
            self._play(order)
            if order.name == TRAIN and on_round is not None:
                on_round(order.round_number)

    def sampled(self, number: int) -> tuple[str, ...]:
        """The sites of a round, in the order of their names."""
        sites = self.source.sites
        count = max(1, round(len(sites) * self.options.fraction))
        digest = hashlib.sha256(f"{self.spec.seed}\nsites\n{number}".encode()).digest()
        chosen = np.random.default_rng(int.from_bytes(digest[:8], "big")).choice(
            len(sites), count, replace=False
        )
        return tuple(sites[place] for place in sorted(chosen))

    def _play(self, order: TaskOrder) -> Commit:
        began, cpu = time.perf_counter(), time.process_time()
        sites = self.sampled(order.round_number) if order.name == TRAIN else self.source.sites
        adding = Adding(order, self.spec)
        for start in range(0, len(sites), TOGETHER):
            together = sites[start : start + TOGETHER]
            if order.name == TRAIN:
                self._stack(order, together)
            for site in together:
                self.session.visit(site)
                adding.add(site, self.session.execute(order))
        commit = self.server.fold(order, adding.gathered())
        if order.name == TRAIN:
            cohort = commit.record["cohort"]
            self._losses = {arm: means["train_loss"] for arm, means in cohort.items()}
            self._seconds, self._cpu = time.perf_counter() - began, time.process_time() - cpu
        return commit

    def _stack(self, order: TaskOrder, sites: tuple[str, ...]) -> None:
        """Train what is faster together in one pass; the sites' sessions take it from there."""
        progress = max(order.round_number - 1, 0) / self.spec.rounds
        for arm in self.spec.arms():
            if len(sites) < 2 or not self._stacks(arm, order, sites):
                continue
            works = []
            for site in sites:
                self.session.visit(site)
                works.append(self.session.work(arm, order))
            algorithm = self.session.models.load(arm, order.tensors, order.round_number - 1).algorithm
            name = self.spec.arm_algorithm(arm)
            done = train_stacked(name, algorithm, works, seed=self.spec.seed, progress=progress)
            for site, (state, trained) in zip(sites, done, strict=True):
                self.session.take(site, arm, state, trained)

    def _stacks(self, arm: Arm, order: TaskOrder, sites: tuple[str, ...]) -> bool:
        if arm not in self.stacked:
            possible = can_stack(self.spec.arm_algorithm(arm), build_algorithm(self.spec, arm))
            if possible and self.options.stacked == "auto":
                possible = self._stacking_wins(arm, order, sites)
            self.stacked[arm] = possible and self.options.stacked != "off"
        return self.stacked[arm]

    def _stacking_wins(self, arm: Arm, order: TaskOrder, sites: tuple[str, ...]) -> bool:
        """Measure one round of a few sites both ways, on copies, the better of two turns each.

        Stacking must win clearly: below that the measurement is noise, and memory counts.
        """
        algorithm, spec = build_algorithm(self.spec, arm), self.spec
        numbers = sum(parameter.numel() for parameter in algorithm.parameters())
        works = []
        for site in sites[: max(2, min(MEASURED, MEASURED_NUMBERS // numbers))]:
            self.session.visit(site)
            works.append(self.session.work(arm, order))
        together, alone = math.inf, math.inf
        for _ in range(2):
            began = time.process_time()
            train_stacked(spec.arm_algorithm(arm), algorithm, works, seed=spec.seed)
            middle = time.process_time()
            for work in works:
                algorithm.load_state_dict(work.state)
                train_phase(algorithm, TRAIN, work.cases, seed=spec.seed, words=work.words)
            together, alone = min(together, middle - began), min(alone, time.process_time() - middle)
        return together < CLEARLY * alone

    def _measure(self, order: TaskOrder, number: int) -> Iterator[Row]:
        cpu = time.process_time()
        totals = self.session.measure_all(self.source.sites, order.tensors, number)
        cpu = time.process_time() - cpu
        for arm, parts in totals.items():
            means = {
                part: {
                    "accuracy": sums["val_correct"] / sums["val_n"],
                    "loss": sums["val_loss"] / sums["val_n"],
                }
                for part, sums in parts.items()
            }
            validation, test = means.get("validation", {}), means.get("test", {})
            yield Row(
                seed=self.spec.seed, round=number, arm=arm,
                validation_accuracy=validation.get("accuracy"), test_accuracy=test.get("accuracy"),
                train_loss=self._losses.get(arm), validation_loss=validation.get("loss"),
                seconds=self._seconds, cpu_seconds=self._cpu, evaluation_cpu_seconds=cpu,
            )  # fmt: skip
