"""Adding up what sites send in a run without masks; the only place where the server sees single updates.

A server step is a pure function ``fold(previous, sums)``: it sees sums over sites, never one site's update.
Torch-free.
"""

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from fl_jobs.catalog import ALGORITHMS
from fl_jobs.errors import AggregationError
from fl_jobs.messages import Contribution, Gathered, Sums, TaskOrder, TensorMap
from fl_jobs.packaging.spec import COHORT_MIN, Lane, RunSpec, TensorSpec

Fold = Callable[[TensorMap, Sums], TensorMap]


def fold_mean(previous: TensorMap, sums: Sums) -> TensorMap:
    """The weighted mean; ``previous`` is not used.

    A running variance of a normalisation layer arrives as second moment beside its mean: the square of the
    common mean is taken off, which leaves the mean of variances plus the variance of means.
    """
    del previous
    means = {name: value / sums.weights[name] for name, value in sums.tensors.items()}
    for name in means:
        beside = name.removesuffix("running_var") + "running_mean"
        if name.endswith("running_var") and beside in means:
            means[name] = np.maximum(means[name] - means[beside] ** 2, 0.0)
    return {name: np.asarray(value, dtype=np.float32) for name, value in means.items()}


def fold_prototypes(previous: TensorMap, sums: Sums) -> TensorMap:
    """FedProto's step: per label Σ of the sites' means over Σ of the sites that have it.

    A label that fewer than COHORT_MIN sites have gets zeros: the mean of so few would be a site's own. Sites
    send a mean only where ``owned_C`` of the round before is above 0, so a new label first becomes ½
    (announced) and has its prototype, and 1, in the round after.
    """
    folded: TensorMap = {}
    for name in (wire for wire in sums.tensors if wire.endswith("owned_C")):
        means = name.removesuffix("owned_C") + "prototypes_CK"
        sites_C = np.rint(sums.tensors[name])  # whole numbers again after masking
        enough_C = sites_C >= COHORT_MIN
        ready_C = enough_C & (previous.get(name, np.zeros(len(sites_C))) > 0)
        mean_CK = sums.tensors[means] / np.maximum(sites_C, 1)[:, None]
        folded[means] = np.where(ready_C[:, None], mean_CK, 0.0).astype(np.float32)
        folded[name] = np.where(ready_C, 1.0, np.where(enough_C, 0.5, 0.0)).astype(np.float32)
    return folded


def load_fold(algorithm: str) -> Fold:
    """The server step of a catalog algorithm."""
    module, _, function = ALGORITHMS[algorithm].fold.partition(":")
    fold: Fold = getattr(import_module(module), function)
    return fold


def gather(order: TaskOrder, spec: RunSpec, contributions: Mapping[str, Contribution]) -> Gathered:
    """What the answers to ``order`` add up to. Raises AggregationError naming the site at fault."""
    adding = Adding(order, spec)
    for site in sorted(contributions):
        adding.add(site, contributions[site])
    return adding.gathered()


class Adding:
    """Adds up answers one at a time, so that no more than one need be in memory.

    Added in the order of their sites' names the result is the same to the last bit on every run.
    """

    def __init__(self, order: TaskOrder, spec: RunSpec) -> None:
        self._allowed, self._declared = set(order.statistics(spec)), order.declared(spec)
        self._metrics: dict[str, dict[str, float]] = {}
        self._open_parts: dict[str, dict[str, Any]] = {}
        self._sums = _no_sums(self._declared)

    def add(self, site: str, contribution: Contribution) -> None:
        """Add one site's answer. Raises AggregationError; then the sum is unusable."""
        for arm, values in _checked_sums(site, contribution, self._allowed).items():
            into = self._metrics.setdefault(arm, {})
            for name, value in values.items():
                into[name] = into.get(name, 0.0) + float(value)
        _add(self._sums, site, self._declared, contribution)
        self._open_parts[site] = {key: v for key, v in contribution.metrics.items() if key != "sums"}

    def gathered(self) -> Gathered:
        """All that was added. Raises AggregationError when nothing was."""
        _check_any(self._open_parts)
        return Gathered(self._sums, self._metrics, self._open_parts)


def _checked_sums(site: str, contribution: Contribution, allowed: set[str]) -> dict[str, dict[str, float]]:
    sums = contribution.metrics.get("sums")
    if not isinstance(sums, dict) or {f"{arm}/{name}" for arm in sums for name in sums[arm]} - allowed:
        raise AggregationError(f"Site {site} sent unknown metrics. Check that it runs the same version.")
    return sums


def add_contributions(declared: Mapping[str, TensorSpec], contributions: Mapping[str, Contribution]) -> Sums:
    """Sum over sites, in the order of their names so that the result is the same on every run.

    Raises AggregationError naming the site whose update is not exactly the declared tensors, finite, with
    positive weights.
    """
    _check_any(contributions)
    sums = _no_sums(declared)
    for site in sorted(contributions):
        _add(sums, site, declared, contributions[site])
    return sums


def _no_sums(declared: Mapping[str, TensorSpec]) -> Sums:
    zeros = {wire: np.zeros(tensor.shape, dtype=np.float64) for wire, tensor in declared.items()}
    return Sums(zeros, dict.fromkeys(declared, 0.0))


def _check_any(sites: Collection[str]) -> None:
    if not sites:
        raise AggregationError("No site answered in time. Check that the sites are online, then resume.")


def _add(sums: Sums, site: str, declared: Mapping[str, TensorSpec], contribution: Contribution) -> None:
    check_contribution(site, declared, contribution)
    for wire, tensor in declared.items():
        weight = _weight(site, contribution, tensor.lane)
        sums.tensors[wire] += contribution.tensors[wire].astype(np.float64) * weight
        sums.weights[wire] += weight


def check_contribution(site: str, declared: Mapping[str, TensorSpec], contribution: Contribution) -> None:
    """Refuse anything but the declared names and shapes with finite values. Raises AggregationError."""
    extra = sorted(contribution.tensors.keys() - declared.keys())
    missing = sorted(declared.keys() - contribution.tensors.keys())
    if extra or missing:
        what = (
            f"sent “{extra[0]}”, which this run does not share" if extra else f"did not send “{missing[0]}”"
        )
        raise AggregationError(f"Site {site} {what}. Check that it runs the same version as the others.")
    for wire, tensor in declared.items():
        value = contribution.tensors[wire]
        if tuple(value.shape) != tensor.shape:
            raise AggregationError(
                f"Site {site} sent “{wire}” of shape {tuple(value.shape)}; {tensor.shape} was declared. "
                "Check that it runs the same version as the others."
            )
        if not np.isfinite(value).all():
            raise AggregationError(
                f"Site {site} sent numbers in “{wire}” that are not finite. "
                "Lower the learning rate and start again."
            )


def _weight(site: str, contribution: Contribution, lane: Lane) -> float:
    weight = contribution.lanes.get(lane, 0.0)
    if not 0.0 < weight < 1e12:
        raise AggregationError(f"Site {site} sent no usable weight “{lane}”. Check its training data.")
    return weight
