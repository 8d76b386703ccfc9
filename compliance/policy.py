"""What an institution permits: read from TOML, joined with the others' policies, decided. No I/O.

The meet of policies permits only what each of them permits: lists are intersected, minimums take the larger,
ceilings the smaller, "required" wins over "optional", "ask" over "standing". A field that is absent permits
everything; every field here is enforced at the site (docs/adr/0014).
"""

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

MAX_POLICY_BYTES: Final = 65_536
Need = Literal["optional", "required"]
Mode = Literal["standing", "ask"]
Effect = Literal["allow", "ask", "refuse"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$")]
Names = Annotated[tuple[Name, ...], AfterValidator(lambda names: tuple(sorted(set(names))))]
EFFECTS: Final[tuple[Effect, ...]] = ("allow", "ask", "refuse")  # from open to strict


class PolicyError(ValueError):
    """A policy cannot be used; the sentence names the place."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Cohort(_Part):
    """``min_sites``: with how many sites at least a run must go on."""

    min_sites: int = Field(default=1, ge=1, le=1000)


class Listed(_Part):
    """Names that may ask (all, without a list) and names that may not."""

    allow: Names | None = None
    deny: Names = ()

    def has(self, name: str) -> bool:
        """Whether ``name`` may."""
        return (self.allow is None or name in self.allow) and name not in self.deny


class Privacy(_Part):
    """``epsilon`` and ``delta``: what each patient may pay over all runs; a budget makes privacy required."""

    secure_aggregation: Need = "optional"
    differential_privacy: Need = "optional"
    epsilon: float | None = Field(default=None, gt=0)
    delta: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _budget_is_whole(self) -> Self:
        if (self.epsilon is None) != (self.delta is None):
            raise ValueError("a budget has both epsilon and delta")
        return self


class Output(_Part):
    """``max_answer_bytes``: of the numbers in one answer to the server; ``max_rounds``: of a run."""

    share_site_metrics: bool = True
    max_answer_bytes: int | None = Field(default=None, ge=0)
    max_rounds: int | None = Field(default=None, ge=0)


class Approval(_Part):
    """With "standing" what satisfies the whole policy runs without a click; with "ask" a person decides."""

    mode: Mode = "standing"


class Policy(_Part):
    """One institution's policy. The default permits everything: it is the neutral one of the meet."""

    version: Literal[1] = 1
    cohort: Cohort = Cohort()
    studies: Listed = Listed()
    algorithms: Listed = Listed()
    privacy: Privacy = Privacy()
    output: Output = Output()
    approval: Approval = Approval()

    def canonical(self) -> bytes:
        """Sorted keys, no white space, UTF-8."""
        content = self.model_dump(mode="json")
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def digest(self) -> str:
        """SHA-256 of the canonical bytes in hex."""
        return hashlib.sha256(self.canonical()).hexdigest()


@dataclass(frozen=True)
class RequestFacts:
    """What a policy looks at.

    ``private``: with differential privacy, or no model leaves. ``answer_bytes``: of the largest answer.
    """

    study: str
    algorithm: str
    min_sites: int
    rounds: int
    masked: bool
    private: bool
    answer_bytes: int


@dataclass(frozen=True)
class Decision:
    """``rules`` names the fields that refuse, or ``approval.mode`` when a person must decide."""

    effect: Effect
    rules: tuple[str, ...]
    policy_digest: str


def parse_policy(data: bytes) -> Policy:
    """A policy from TOML of at most 64 KiB. Raises PolicyError with the place in one sentence."""
    if len(data) > MAX_POLICY_BYTES:
        raise PolicyError(f"The policy is larger than {MAX_POLICY_BYTES // 1024} KiB. Shorten it.")
    try:
        content = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"The policy is not TOML ({error}). Correct it.") from error
    return policy_from(content)


def policy_from(content: Mapping[str, Any]) -> Policy:
    """A policy from plain data. Raises PolicyError with the place in one sentence."""
    try:
        return Policy.model_validate_json(json.dumps(content, allow_nan=False))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        reason = "is no setting of a policy" if first["type"] == "extra_forbidden" else f"({first['msg']})"
        raise PolicyError(f"The policy cannot be used: {where} {reason}. Correct it.") from error
    except (TypeError, ValueError, RecursionError) as error:  # a date, NaN
        raise PolicyError(f"The policy holds a value that no setting takes ({error}). Correct it.") from error


def meet(*policies: Policy) -> Policy:
    """The policy that permits exactly what every one of ``policies`` permits; the open one for none."""
    return reduce(_meet, policies, Policy())


def decide(request: RequestFacts, policy: Policy) -> Decision:
    """What ``policy`` says to ``request``. Pure and total; anything not permitted is refused."""
    broken = tuple(rule for rule, permits in RULES.items() if not permits(request, policy))
    if broken:
        return Decision("refuse", broken, policy.digest())
    if policy.approval.mode == "ask":
        return Decision("ask", ("approval.mode",), policy.digest())
    return Decision("allow", (), policy.digest())


RULES: Final[dict[str, Callable[[RequestFacts, Policy], bool]]] = {
    "cohort.min_sites": lambda r, p: r.min_sites >= p.cohort.min_sites,
    "studies": lambda r, p: p.studies.has(r.study),
    "algorithms": lambda r, p: p.algorithms.has(r.algorithm),
    "privacy.secure_aggregation": lambda r, p: r.masked or p.privacy.secure_aggregation == "optional",
    "privacy.differential_privacy": lambda r, p: r.private or not needs_privacy(p),
    "output.max_answer_bytes": lambda r, p: within(r.answer_bytes, p.output.max_answer_bytes),
    "output.max_rounds": lambda r, p: within(r.rounds, p.output.max_rounds),
}


def needs_privacy(policy: Policy) -> bool:
    """Whether only runs with differential privacy are permitted."""
    return policy.privacy.differential_privacy == "required" or policy.privacy.epsilon is not None


def within(value: int, ceiling: int | None) -> bool:
    """Whether ``value`` keeps to a ceiling that may be absent."""
    return ceiling is None or value <= ceiling


def _meet(a: Policy, b: Policy) -> Policy:
    need = {
        name: "required" if "required" in (getattr(a.privacy, name), getattr(b.privacy, name)) else "optional"
        for name in ("secure_aggregation", "differential_privacy")
    }
    budget = {
        name: _least(getattr(a.privacy, name), getattr(b.privacy, name)) for name in ("epsilon", "delta")
    }
    ceilings = {
        name: _least(getattr(a.output, name), getattr(b.output, name))
        for name in ("max_answer_bytes", "max_rounds")
    }
    shares = a.output.share_site_metrics and b.output.share_site_metrics
    return Policy(
        cohort=Cohort(min_sites=max(a.cohort.min_sites, b.cohort.min_sites)),
        studies=_both(a.studies, b.studies),
        algorithms=_both(a.algorithms, b.algorithms),
        privacy=Privacy.model_validate({**need, **budget}),
        output=Output.model_validate({"share_site_metrics": shares, **ceilings}),
        approval=Approval(mode="ask" if "ask" in (a.approval.mode, b.approval.mode) else "standing"),
    )


def _both(a: Listed, b: Listed) -> Listed:
    lists = [set(each.allow) for each in (a, b) if each.allow is not None]
    allow = tuple(sorted(set.intersection(*lists))) if lists else None
    return Listed(allow=allow, deny=(*a.deny, *b.deny))


def _least(a: Any, b: Any) -> Any:
    given = [value for value in (a, b) if value is not None]
    return min(given, default=None)
