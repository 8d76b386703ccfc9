"""The lines of a run's journal, checked before anything is written from them. No Django here but words."""

import math
from typing import Annotated, Any, Literal

from django.utils.translation import gettext as _
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from platform_web.training.errors import JournalError

MAX_LINE_BYTES = 1_000_000
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _finite(value: Any) -> Any:
    """A diverged loss is NaN on the wire; a browser's JSON has no such number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shortened(value: Any) -> Any:
    """A sentence may quote the refusal of every site."""
    return value[:2000] if isinstance(value, str) else value


Figure = Annotated[float | None, BeforeValidator(_finite)]
Figures = dict[str, dict[str, Figure]]  # arm → name → value


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Validated(_Line):
    """What the state after round ``round`` measured on the validation parts."""

    round: int = Field(ge=0)
    cohort: Figures = {}
    site_metrics: dict[str, Figures | None] | None = None


class Masking(_Line):
    """How one masked sum came about. Nothing in it belongs to a single site's update."""

    ring: int
    threshold: int = Field(ge=1)
    cohort: list[str]
    signers: list[str] = []
    recovered: list[str] = []
    clipped: int = Field(default=0, ge=0)
    clip_total: int = Field(default=0, ge=0)
    freeze_hash: str = Field(default="", max_length=128)
    round_ctx: str = Field(default="", max_length=128)
    bytes_per_site: int = Field(default=0, ge=0)


class RosterLine(_Line):
    """Whose keys the sites verified at the start of a masked job, and whom they refused."""

    sites: list[str]
    verified: dict[str, str] = {}
    refused: dict[str, str] = {}
    threshold: int = Field(ge=1)
    colluding: int = Field(default=0, ge=0)
    cohort_min: int = Field(default=3, ge=1)
    roster_hash: str = Field(default="", max_length=128)


class RoundLine(_Line):
    round: int = Field(ge=1)
    sites: list[str]
    lost: list[str] = []
    received_sha256: dict[str, Sha256] = {}
    masking: Masking | None = None
    cohort: Figures = {}
    site_metrics: dict[str, Figures | None] | None = None
    validated: Validated | None = None
    aggregate_sha256: dict[str, Sha256] | Sha256 | None = None

    def digests(self) -> dict[str, str]:
        """Digest per aggregate file; one file for all arms is called ``all``."""
        found = self.aggregate_sha256
        return {"all": found} if isinstance(found, str) else dict(found or {})


class SiteFile(_Line):
    round: int = Field(ge=0)
    personal_sha256: Sha256


Number = Annotated[float, Field(allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]


class ValidationGain(_Line):
    value: Number
    error: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DifferenceLine(_Line):
    """An arm minus local-only at one site (``fl_jobs.benefit.Difference``); older sites send less."""

    metric: str = Field(max_length=60)
    value: Number
    low: Number
    high: Number
    groups: dict[str, int]
    verdict: Literal["helps", "harms", "no proven difference", "cannot be tested here"]
    lower: Number | None = None
    margin: Number | None = None
    p_gain: Probability | None = None
    p_harm: Probability | None = None
    validation: ValidationGain | None = None


class SiteFinish(_Line):
    """What one site reports after it has read its test part once."""

    rows: dict[str, int] | None = None  # a site that keeps its counts to itself sends none
    files: dict[str, SiteFile]
    shared_sha256: dict[str, Sha256] = {}
    cells: dict[str, dict[str, Figure]] | None = None
    differences: dict[str, DifferenceLine] | None = None
    proposal: str | None = None
    absent_labels: list[str] | None = None


def _without_silent(value: Any) -> Any:
    """A site that left before it could report has None; it gets no model from this run."""
    return (
        {name: report for name, report in value.items() if report is not None}
        if isinstance(value, dict)
        else value
    )


class FinishLine(_Line):
    chosen: dict[str, int]
    aggregate_sha256: dict[str, Sha256] = {}  # shared part per arm, as the server wrote it
    sites: Annotated[dict[str, SiteFinish], BeforeValidator(_without_silent)]
    cohort: Figures = {}  # arm → test figures of all sites together
    masking: Masking | None = None


class FailureLine(_Line):
    """The controller gave up; the sentence is for the person who started the run."""

    error: Annotated[str, BeforeValidator(_shortened)]
    code: str = Field(default="", max_length=40)


class InterruptedLine(FailureLine):
    """The controller ended the job at a round's boundary; the run is to go on in another one."""

    missing: list[str] = []


def epoch_of(line: dict[str, Any], default: int) -> int:
    """The epoch of the job that wrote ``line``."""
    epoch = line.get("epoch")
    return epoch if isinstance(epoch, int) and not isinstance(epoch, bool) and epoch > 0 else default


def read_line(kind: type[_Line], line: dict[str, Any]) -> Any:
    """``line`` as ``kind``. Raises JournalError naming the first thing that is wrong."""
    try:
        return kind.model_validate(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "line"
        raise JournalError(
            _(
                "The run's journal holds a line that cannot be read (%(place)s: %(problem)s). Start "
                "the run again."
            )
            % {"place": place, "problem": first["msg"]}
        ) from error
