"""Whose sum was asked for last, on disk before anybody signs it.

A server that dies between the survivors' signatures and the commit asks the same question again. The sites
answer it only for the same sites: with one more, the difference of the two sums would be that site's update.
So a site that was out then stays out of this one order, and takes part again in the next.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from fl_jobs.errors import ModelFileError, RunInterruptedError
from fl_jobs.flare.journal import RunFolder
from secure_agg.errors import SecureAggregationError
from secure_agg.plan import Plan
from secure_agg.thresholds import apart_min

FROZEN = Path("FROZEN")


class Cohorts:
    """The cohorts of the one order that is not committed yet, and which others would be too near to them."""

    def __init__(self, kept: RunFolder) -> None:
        self._kept = kept

    def users(self, plan: Plan, model_hash: bytes, at_work: Iterable[str]) -> list[str]:
        """Whom to ask of those ``at_work``. Raises RunInterruptedError (E_DIFFERENCING) to wait for some."""
        chosen = list(at_work)
        for cohort in self._noted(_question(plan, model_hash)):
            self._check_gone(plan, cohort, chosen)
            new = set(chosen) - set(cohort)
            if len(new) < _apart(plan):
                chosen = [site for site in chosen if site not in new]
        return chosen

    def note(self, plan: Plan, model_hash: bytes, survivors: Iterable[str]) -> None:
        """Write down whose sum is going to be signed. Raises RunInterruptedError as ``users``."""
        question, chosen = _question(plan, model_hash), sorted(survivors)
        noted = self._noted(question)
        for cohort in noted:
            self._check_gone(plan, cohort, chosen)
        if chosen not in noted:
            content = json.dumps({"question": question, "cohorts": [*noted, chosen]})
            self._kept.write_artifact(FROZEN, content.encode())

    def _check_gone(self, plan: Plan, cohort: list[str], chosen: Iterable[str]) -> None:
        gone = sorted(set(cohort) - set(chosen))
        if 0 < len(gone) < _apart(plan):
            error = SecureAggregationError(
                "E_DIFFERENCING",
                have=len(gone),
                need=_apart(plan),
                missing=", ".join(gone),
                cohort=", ".join(cohort),
            )
            raise RunInterruptedError(str(error), code=error.code, missing=gone)

    def _noted(self, question: str) -> list[list[str]]:
        try:
            found = json.loads((self._kept.folder / FROZEN).read_text(encoding="utf-8"))
            return list(found["cohorts"]) if found["question"] == question else []
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"{self._kept.folder / FROZEN} cannot be read. Move it away; if sites then refuse with "
                "E_DIFFERENCING, start the run again."
            ) from error


def _apart(plan: Plan) -> int:
    """By how many sites two cohorts of one question must differ before the sites answer both."""
    return apart_min(plan.colluding, plan.cohort_min)


def _question(plan: Plan, model_hash: bytes) -> str:
    return f"{plan.context.hex()}:{model_hash.hex()}"
