"""A control: what it answers, a sentence when it holds, one when it does not, and the check that decides."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from platform_web.registry.evidence.case import Case

Facts = Mapping[str, int | str]
Check = Callable[[Case], "Finding"]


@dataclass(frozen=True)
class Finding:
    """What a check saw just now. ``facts`` fill the sentence; the numbers stand in the pack beside it."""

    holds: bool
    facts: Facts


@dataclass(frozen=True)
class Control:
    """``answers``: threats (T1 …) and clauses. ``proof``: files of the pack in which one can look."""

    name: str
    answers: tuple[str, ...]
    holds: Any  # lazy sentences: the pack's language decides
    fails: Any
    proof: tuple[str, ...]
    check: Check


@dataclass(frozen=True)
class Claim:
    """A control with what it found, in the language that is active."""

    control: Control
    finding: Finding

    @property
    def sentence(self) -> str:
        said = self.control.holds if self.finding.holds else self.control.fails
        return str(said) % self.finding.facts

    @property
    def holds(self) -> bool:
        return self.finding.holds

    def content(self) -> dict[str, Any]:
        """As controls.json has it."""
        return {
            "control": self.control.name,
            "answers": list(self.control.answers),
            "holds": self.holds,
            "sentence": self.sentence,
            "facts": dict(self.finding.facts),
            "proof": list(self.control.proof),
        }


def assess(controls: Iterable[Control], case: Case) -> list[Claim]:
    """Look at every control now. A check that cannot be made raises: no claim is made without one."""
    return [Claim(control, control.check(case)) for control in controls]
