"""What an agent reports every few seconds. Strict and bounded: it comes from another institution."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fl_jobs.packaging.spec import NAME_PATTERN

NO_NUL = r"^[^\x00]*$"  # PostgreSQL keeps no NUL in a text
Short = Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)]
Sentence = Annotated[str, StringConstraints(max_length=2000, pattern=NO_NUL)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Counts = Annotated[dict[Short, Count], Field(max_length=200)]


class _Report(BaseModel):
    # a newer agent may say more; NaN is no JSON and no database keeps it
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ClientReport(_Report):
    """The NVFlare client under the agent's supervision."""

    state: Short = ""
    restarts: Count = 0


class InferenceReport(_Report):
    """On-site inference; ``url`` is where the institution's browsers reach it."""

    url: Annotated[str, StringConstraints(pattern=r"^(https?://[A-Za-z0-9.\-\[\]:]{1,253})?$")] = ""
    state: Short = ""


class PartCounts(_Report):
    """Rows of the three parts, fixed at registration."""

    train: Count
    validation: Count
    test: Count


class DatasetReport(_Report):
    """The card of a registered data set: counts its operator has seen, nothing else.

    A label's count is None where the site keeps it to itself (fewer than ten patients).
    """

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    kind: Literal["tabular", "image", "text"]
    digest: Sha256
    labels: Annotated[list[Short], Field(max_length=200)] = []
    rows: Count
    parts: PartCounts
    label_counts: Annotated[dict[Short, Count | Counts | None], Field(max_length=200)] = {}
    synthetic: bool = False


class ServingReport(_Report):
    """What became of one serve order."""

    promotion: int | Short
    state: Short
    detail: Sentence = ""


class RefusalReport(_Report):
    """A job that the site's own gate stopped; the sentence names no patient and no path."""

    run: Short = ""
    job: Short = ""  # NVFlare's id of it
    at: Short = ""
    sentence: Sentence = ""


class Heartbeat(_Report):
    """The body of ``POST /agent/v1/heartbeat``."""

    agent_version: Short
    python: Short = ""
    nvflare: Short = ""
    torch: Short = ""
    started_at: Short | float | None = None
    instance: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{32})?$")] = ""  # one start of the agent
    client: ClientReport = ClientReport()
    inference: InferenceReport = InferenceReport()
    datasets: Annotated[list[DatasetReport], Field(max_length=50)] = []
    certificate_days_left: float | None = None
    serving: Annotated[list[ServingReport], Field(max_length=200)] = []
    refusals: Annotated[list[RefusalReport], Field(max_length=50)] = []
