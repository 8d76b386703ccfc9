"""One arm against local-only at one site: value, interval, test and verdict.

All by the run's ``AnalysisSpec``. "helps" and "harms" each need a 95 % interval clear of zero and a one-sided
swap p-value of at most half the error (2.5 %), so that the two together err in at most 5 % of sites without a
difference; over sites Holm's correction comes on top (``fl_jobs.benefit.federation``).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np

from fl_jobs.benefit.answers import Answers, rate
from fl_jobs.benefit.resampling import LEVEL, PAIRED, draw_endpoint, swap_test
from fl_jobs.packaging.spec import AnalysisSpec

Verdict = Literal["helps", "harms", "no proven difference", "cannot be tested here"]
UNTESTED: Verdict = "cannot be tested here"
OPEN: Verdict = "no proven difference"


@dataclass(frozen=True)
class Difference:
    """An arm minus local-only in the endpoint ``metric``, with the number of test groups by label.

    ``low`` and ``high`` bound it with 95 %; ``lower`` is the one-sided 95 % lower bound that 'no site
    harmed' is judged by. ``p_gain`` and ``p_harm`` are one-sided. Figures of older versions lack the last
    four.
    """

    metric: str
    value: float
    low: float
    high: float
    groups: dict[str, int]
    verdict: Verdict
    lower: float | None = None
    margin: float | None = None
    p_gain: float | None = None
    p_harm: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what a site shared, of this version or an older one."""
        return cls(**{field.name: stored[field.name] for field in fields(cls) if field.name in stored})

    @property
    def is_tested(self) -> bool:
        return self.verdict != UNTESTED and self.p_gain is not None

    @property
    def excludes_harm(self) -> bool | None:
        """Whether a loss of the margin or more is excluded at this site; None where it cannot be tested."""
        if self.lower is None or self.margin is None or self.verdict == UNTESTED:
            return None
        return self.lower > -self.margin


def compare_arms(
    answers: Answers, arm: str, labels: tuple[str, ...], analysis: AnalysisSpec, *, seed: int
) -> Difference:
    """Compare ``arm`` with local-only on the same cases; repeatable by ``seed``."""
    gain_GC, counts = answers.gain_GC(arm), answers.counts(labels)
    value = float(rate(answers.cases_GC.sum(axis=0), gain_GC.sum(axis=0), analysis.endpoint))
    draws_R = draw_endpoint(
        answers.cases_GC, gain_GC, answers.stratum_G,
        endpoint=analysis.endpoint, draws=analysis.draws, added=PAIRED, seed=seed,
    )  # fmt: skip
    half = analysis.error / 2
    low, lower, high = (float(edge) for edge in np.quantile(draws_R, (half, analysis.error, 1 - half)))
    gain, harm = swap_test(
        answers.cases_GC, gain_GC, endpoint=analysis.endpoint, swaps=analysis.swaps, seed=seed
    )
    found = Difference(
        metric=analysis.endpoint,
        value=value,
        low=min(low, value),
        high=max(high, value),
        groups=counts,
        verdict=OPEN,
        lower=min(lower, value),
        margin=analysis.margin,
        p_gain=gain,
        p_harm=harm,
    )
    return Difference(**(found.as_json() | {"verdict": judge(found, analysis)}))


def judge(found: Difference, analysis: AnalysisSpec) -> Verdict:
    """The verdict on one arm at one site. With too few groups of any label nothing is claimed."""
    half = analysis.error / 2
    if min(found.groups.values()) < analysis.minimum_groups or found.p_gain is None or found.p_harm is None:
        return UNTESTED
    if found.low > 0 and found.p_gain <= half:
        return "helps"
    return "harms" if found.high < 0 and found.p_harm <= half else OPEN


def endpoint_interval(
    answers: Answers, arm: str, analysis: AnalysisSpec, *, seed: int
) -> tuple[float, float]:
    """The 95 % interval of an arm's own endpoint over groups."""
    right_GC = answers.right_GC[arm]
    value = float(rate(answers.cases_GC.sum(axis=0), right_GC.sum(axis=0), analysis.endpoint))
    draws_R = draw_endpoint(
        answers.cases_GC, right_GC, answers.stratum_G,
        endpoint=analysis.endpoint, draws=analysis.draws, added=LEVEL, seed=seed,
    )  # fmt: skip
    low, high = np.quantile(draws_R, (analysis.error / 2, 1 - analysis.error / 2))
    return min(float(low), value), max(float(high), value)


def propose(chosen: str, differences: Mapping[str, Difference]) -> str:
    """The arm to promote: the one chosen on validation if the test part says it helps; else local-only stays.

    One arm is chosen before the test part is read, so one test is made, not the best of three.
    """
    difference = differences.get(chosen)
    return chosen if difference is not None and difference.verdict == "helps" else "local"
