"""The server's side of a run, without a network: which task comes next, what the sites' answers add up to.

Torch-free. It sees sums over sites; which round is best is decided by the cohort's validation alone.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fl_jobs.aggregation import fold_mean, load_fold
from fl_jobs.catalog import validate_hyper_parameters
from fl_jobs.errors import AggregationError, SharedStateError
from fl_jobs.messages import VALIDATION, Commit, Gathered, Sums, TaskOrder, TensorMap
from fl_jobs.packaging.spec import Arm, RunSpec
from fl_jobs.tensor_files import shared_part

TRAIN = "train"
_WORST = (math.inf, math.inf)
Metrics = dict[str, dict[str, float]]


class ServerSession:
    """Drives one run. ``next_order`` and ``fold`` alternate; asking again before ``fold`` changes nothing.

    To resume, give ``start_round`` = last committed round + 1 and ``previous`` = that round's aggregate (for
    round 1: what the one-off phases gave); ``records`` (the journal so far) and ``load_round`` (aggregate of
    an earlier round) bring back the best round and the steps after the last round that were done already.
    """

    def __init__(
        self,
        spec: RunSpec,
        *,
        start_round: int = 1,
        previous: TensorMap | None = None,
        records: Iterable[Mapping[str, Any]] = (),
        load_round: Callable[[int], TensorMap] | None = None,
    ) -> None:
        self.spec = spec
        self._aggregates: dict[int, TensorMap] = {start_round - 1: dict(previous or {})}
        self._last = start_round - 1
        self._best: dict[Arm, tuple[tuple[float, float], int]] = {}
        self._step = TRAIN
        settings = validate_hyper_parameters(spec.algorithm, spec.hyper_parameters, spec.study.task.kind)
        self._patience = int(settings["patience"])
        self._phases = [
            key
            for key in dict.fromkeys((t.arm, t.phase) for t in spec.tensors if t.phase != TRAIN)
            if not all(t.wire_name in (previous or {}) for t in spec.tensors if (t.arm, t.phase) == key)
        ]
        self._check_previous(start_round, previous)
        self._recall(list(records), load_round)

    @property
    def chosen(self) -> dict[Arm, int]:
        """The round of each arm that did best on the cohort's validation; the last while none is known."""
        return {arm: self._best[arm][1] if arm in self._best else self._last for arm in self.spec.arms()}

    def next_order(self) -> TaskOrder | None:
        """The next task for all sites; None after ``finish``."""
        if self._phases:
            arm, phase = self._phases[0]
            return TaskOrder("phase", 0, {"arm": arm, "phase": phase}, self._aggregates[self._last])
        if self._step == TRAIN and self._last < self.spec.rounds and not self._has_stopped():
            best = {arm: number for arm, (_, number) in self._best.items()}
            return TaskOrder(TRAIN, self._last + 1, {"best": best}, self._aggregates[self._last])
        if self._step in (TRAIN, "validate"):
            best = {arm: number for arm, (_, number) in self._best.items()}
            return TaskOrder("validate", self._last, {"best": best}, self._aggregates[self._last])
        if self._step == "finish":
            return TaskOrder("finish", self._last, {"chosen": dict(self.chosen)}, self._chosen_aggregate())
        return None

    def fold(self, order: TaskOrder, gathered: Gathered) -> Commit:
        """Take what the answers to ``order`` add up to, and go on.

        Raises AggregationError; then nothing has changed.
        """
        _check_initial_models(gathered)
        if order.name == "phase":
            return self._fold_phase(order, gathered)
        if order.name == TRAIN:
            return self._fold_round(order, gathered)
        if order.name == "validate":
            validated = self._validated(order.round_number, gathered)
            self._step = "finish"
            return Commit({}, {"kind": "validate", "round": order.round_number, "validated": validated})
        self._step = "done"
        record = {"kind": "finish", "chosen": dict(self.chosen), "sites": _parts(gathered, "finish")}
        return Commit({}, record | {"cohort": _tested(gathered)})

    def chosen_shared(self) -> dict[Arm, TensorMap]:
        """The shared part of each arm's chosen round, as it lies under ``artifacts/sha256/``."""
        aggregate = self._chosen_aggregate()
        parts = {arm: shared_part(self.spec, arm, aggregate) for arm in self.spec.arms()}
        return {arm: part for arm, part in parts.items() if part}

    def _has_stopped(self) -> bool:
        """Early stop: no arm was better in any of the last ``patience`` validated rounds than before."""
        newest = max((number for _, number in self._best.values()), default=self._last)
        return 0 < self._patience <= self._last - 1 - newest  # the last round is validated with the next

    def _fold_phase(self, order: TaskOrder, gathered: Gathered) -> Commit:
        arm, phase = order.header["arm"], order.header["phase"]
        constants = fold_mean({}, gathered.sums)
        self._aggregates[self._last] = self._aggregates[self._last] | constants
        self._phases.pop(0)
        record = {"kind": "phase", "arm": arm, "phase": phase, "sites": gathered.sites}
        return Commit(self._aggregates[self._last], record)

    def _fold_round(self, order: TaskOrder, gathered: Gathered) -> Commit:
        number, before = order.round_number, self._aggregates[self._last]
        sums, after = gathered.sums, dict(before)
        for arm in self.spec.arms():
            mine = {wire for wire, tensor in self.spec.shared().items() if tensor.arm == arm}
            own = Sums({w: sums.tensors[w] for w in mine}, {w: sums.weights[w] for w in mine})
            if mine:
                after |= load_fold(self.spec.arm_algorithm(arm))(before, own)
        record: dict[str, Any] = {
            "kind": "round",
            "round": number,
            "sites": gathered.sites,
            "cohort": {arm: _mean(gathered, arm, {"train_loss": "train_n"}) for arm in self.spec.arms()},
            "site_metrics": _parts(gathered, "trained"),
            "validated": self._validated(number - 1, gathered) if number > 1 else None,
        }
        self._aggregates[number], self._last = after, number
        self._forget()
        return Commit(after, record)

    def _validated(self, number: int, gathered: Gathered) -> dict[str, Any]:
        wanted = dict.fromkeys(VALIDATION.values(), "val_n")
        cohort: Metrics = {}
        for arm in self.spec.arms():
            if means := _mean(gathered, arm, wanted):
                cohort[arm] = {name: means[key] for name, key in VALIDATION.items()}
                self._consider(arm, cohort[arm], number)
        return {"round": number, "cohort": cohort, "site_metrics": _parts(gathered, "validated")}

    def _consider(self, arm: Arm, means: Mapping[str, float], number: int) -> None:
        """Keep the round if it is the best: balanced accuracy, then loss, then the earlier one."""
        score = (-float(means["val_balanced_accuracy"]), float(means["val_loss"]))
        if all(map(math.isfinite, score)) and number in self._aggregates:
            self._best[arm] = min(self._best.get(arm, (_WORST, number)), (score, number))

    def _forget(self) -> None:
        """Hold the last aggregate, the one before (validated next) and the best ones."""
        keep = {self._last, self._last - 1, *(number for _, number in self._best.values())}
        self._aggregates = {number: value for number, value in self._aggregates.items() if number in keep}

    def _chosen_aggregate(self) -> TensorMap:
        tensors = {tensor.wire_name: tensor for tensor in self.spec.tensors}
        chosen = self.chosen
        return {wire: self._aggregates[chosen[tensor.arm]][wire] for wire, tensor in tensors.items()}

    def _check_previous(self, start_round: int, previous: TensorMap | None) -> None:
        """A resumed run needs exactly the tensors its specification declares."""
        for wire, tensor in self.spec.shared().items() if start_round > 1 else ():
            found = (previous or {}).get(wire)
            if found is None or tuple(found.shape) != tensor.shape:
                raise SharedStateError(
                    f"The aggregate of round {start_round - 1} lacks “{wire}”. Start from the first round."
                )

    def _recall(
        self, records: list[Mapping[str, Any]], load_round: Callable[[int], TensorMap] | None
    ) -> None:
        ends = {record["kind"] for record in records if record.get("round", self._last) == self._last} & {
            "validate",
            "finish",
        }  # they come after the last round only, be it the agreed or an earlier one
        self._step = "done" if "finish" in ends else "finish" if "validate" in ends else TRAIN
        by_round = {
            record["validated"]["round"]: record["validated"] for record in records if record.get("validated")
        }
        for number in sorted(by_round):  # a round measured again after a resume counts as last measured
            for arm, means in by_round[number]["cohort"].items() if number <= self._last else ():
                if number not in self._aggregates and load_round is not None:
                    self._aggregates[number] = load_round(number)
                self._consider(arm, means, number)
            self._forget()


def _parts(gathered: Gathered, name: str) -> dict[str, Any]:
    """What each site says openly under ``name``; None where it keeps it."""
    return {site: (gathered.open_parts[site].get("site") or {}).get(name) for site in gathered.sites}


def _mean(gathered: Gathered, arm: str, wanted: dict[str, str]) -> dict[str, float]:
    """Cohort means from sums; empty when no site could measure the arm."""
    total = gathered.metrics.get(arm, {})
    return {name: total.get(name, 0.0) / total[by] for name, by in wanted.items() if total.get(by, 0.0) > 0}


def _tested(gathered: Gathered) -> Metrics:
    """What the cohort reached on the test parts, by arm: all that is known when sites keep their cells."""
    wanted = {"test_correct": "test_n", "test_balanced": "test_n"}
    return {
        arm: {
            "test_accuracy": means["test_correct"],
            "test_balanced_accuracy": means["test_balanced"],
            "test_n": gathered.metrics[arm]["test_n"],
        }
        for arm in sorted(gathered.metrics)
        if (means := _mean(gathered, arm, wanted))
    }


def _check_initial_models(gathered: Gathered) -> None:
    """Refuse sites that built another initial model. Raises AggregationError."""
    digests = {site: str(gathered.open_parts[site].get("initial_sha256")) for site in gathered.sites}
    if len(set(digests.values())) > 1:
        first = next(iter(digests))
        other = next(site for site, digest in digests.items() if digest != digests[first])
        raise AggregationError(
            f"Sites {first} and {other} built different initial models from the same seed. "
            "Install the same version of the package and of torch at both, then start again."
        )
