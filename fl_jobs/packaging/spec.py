"""What a run is: the specification every site approves by its digest. Torch-free.

The run digest is SHA-256 over the canonical JSON of :class:`RunSpec`. What may change when the same run
is resumed (start round, epoch, NVFlare job id, signature files) is not part of it.
"""

import hashlib
import json
import math
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fl_jobs.errors import SpecError

Arm = Literal["local", "global", "personal"]
Candidate = Literal["global", "tuned", "personal"]
POSITIVE: Final = "positive_balanced_accuracy"
NEGATIVE_CLASS, POSITIVE_CLASS = "all other labels", "positive labels"
Endpoint = Literal["balanced_accuracy", "accuracy", "positive_balanced_accuracy"]
TaskKind = Literal["tabular", "image", "text"]
Lane = Literal["samples", "one"]
HyperValue = bool | int | float | str
MAX_SPEC_BYTES = 8 * 2**20
COHORT_MIN = 3  # fewest sites under masks, by FLSA-1
NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TaskSpec(_Frozen):
    """What is predicted from what. Every head has all labels, in this order."""

    kind: TaskKind
    labels: tuple[str, ...] = Field(min_length=2, max_length=200)
    features: tuple[str, ...] = ()  # tabular: the columns, in order
    channels: int = Field(default=3, ge=1, le=3)  # image
    height: int = Field(default=64, ge=8, le=1024)  # image, pixels
    width: int = Field(default=64, ge=8, le=1024)  # image, pixels
    max_characters: int = Field(default=512, ge=1, le=20_000)  # text


class StudySpec(_Frozen):
    """Purpose and data of a study. ``dataset`` is the name under which sites registered their data."""

    slug: str = Field(pattern=NAME_PATTERN)
    purpose: str = Field(max_length=2000)
    dataset: str = Field(pattern=NAME_PATTERN)
    task: TaskSpec
    teaching: bool = False  # small-pixel or toy data: never evidence of clinical benefit


class ModelSpec(_Frozen):
    """A catalog name and its arguments; ``SplitModel(base, head)`` is built from them at each site."""

    name: str
    arguments: dict[str, HyperValue] = Field(default_factory=dict)


class TensorSpec(_Frozen):
    """One tensor that leaves a site. Nothing that is not listed leaves.

    ``phase`` is "train" (every round) or the name of a one-off phase. ``lane`` names the weight it is
    multiplied with before it leaves, so that the server only divides two sums.
    """

    arm: Arm
    phase: str
    name: str
    shape: tuple[int, ...]
    lane: Lane = "samples"

    @property
    def wire_name(self) -> str:
        """The tensor's name in a message, for example ``personal/base.0.weight``."""
        return f"{self.arm}/{self.name}"

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class PrivacySpec(_Frozen):
    """Differential privacy of what leaves a site. Every number is public; none is made from a site's data.

    ``unit`` "record": a patient (a group of the manifest). Every step of an arm that leaves the site adds up
    one gradient a patient, clipped to ``clip_norm``, over a Poisson sample of ``sample_rate``, with Gaussian
    noise of ``noise_multiplier`` × ``clip_norm`` (Abadi et al., arXiv:1607.00133). ``unit`` "site": the whole
    update is clipped and the sum of the sites that do not collude holds that noise. ``epsilon_max``: more the
    run may not spend at one site, repeated orders included. ``scaling``: public centre and spread of each
    feature or channel (record).
    """

    unit: Literal["record", "site"]
    noise_multiplier: float = Field(ge=0.3, le=1000.0, allow_inf_nan=False)
    clip_norm: float = Field(gt=0.0, le=1000.0, allow_inf_nan=False)
    sample_rate: float = Field(default=1.0, ge=0.001, le=1.0)
    delta: float = Field(default=1e-5, ge=1e-12, le=1e-2)
    epsilon_max: float = Field(gt=0.0, le=100.0)
    scaling: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="after")
    def _fits_unit(self) -> Self:
        if self.unit == "site" and (self.sample_rate != 1.0 or self.scaling):
            raise ValueError("sample_rate and scaling belong to unit record")
        if any(not math.isfinite(centre) or not 1e-6 <= spread < 1e30 for centre, spread in self.scaling):
            raise ValueError("scaling needs a finite centre and a spread of at least 0.000001 for each input")
        return self

    @property
    def adjacency(self) -> str:
        """What one unit is and what two neighbouring data sets differ by."""
        if self.unit == "record":
            return "adding or removing one patient of a site's registered training part"
        return "adding or removing one site's update"


class PolicySpec(_Frozen):
    """What this run promises about what the server sees.

    ``weight_max`` bounds a site's number of training cases: FLSA-1 sizes its ring with it. It is a power of
    two, so that the specification says less about the largest site than the exact number would.
    """

    secure_aggregation: bool = True
    weight_max: int = Field(default=2**16, ge=2**10, le=2**24)
    privacy: PrivacySpec | None = None  # None: no differential privacy

    @field_validator("weight_max")
    @classmethod
    def _is_power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("weight_max must be a power of two")
        return value

    @property
    def server_sees_updates(self) -> bool:
        """Said to every site and on every page of a run without masks."""
        return not self.secure_aggregation


def arms_of(algorithm: str) -> tuple[Arm, ...]:
    """The arms a run of ``algorithm`` trains; one of FedAvg or local-only has no third one."""
    if algorithm == "local_only":
        return ("local",)
    return ("local", "global") if algorithm == "fedavg" else ("local", "global", "personal")


def candidates_of(algorithm: str) -> tuple[Candidate, ...]:
    """The arms of such a run that may be judged against local-only."""
    personal: tuple[Candidate, ...] = ("personal",) if "personal" in arms_of(algorithm) else ()
    return () if algorithm == "local_only" else ("global", "tuned", *personal)


class AnalysisSpec(_Frozen):
    """What will be said about benefit, and how: part of the run digest, so fixed before a test label is read.

    ``candidate`` None means the run's own algorithm (FedAvg's common model in a run of FedAvg). ``positive``
    are the labels that count as disease for sensitivity; empty means the second of two labels. The endpoint
    "positive_balanced_accuracy" is the mean of sensitivity and specificity for them, whichever of several
    labels is answered: rare labels by themselves need no ``minimum_groups`` then. Whichever the endpoint,
    an arm's round is that of the best balanced accuracy over all labels on validation.
    """

    endpoint: Endpoint = "balanced_accuracy"
    candidate: Candidate | None = None
    margin: float = Field(default=0.02, gt=0, lt=0.5)  # a loss up to this is no harm
    error: float = Field(default=0.05, gt=0, lt=0.5)  # of "helps" and "harms" together, and of the bound
    minimum_groups: int = Field(
        default=30, ge=10
    )  # of every class the endpoint tells apart; below it nothing can be tested
    specificity: float = Field(default=0.90, gt=0, lt=1)  # on validation, where the threshold is chosen
    positive: tuple[str, ...] = ()
    draws: int = Field(default=2000, ge=200, le=100_000)  # of the bootstrap
    swaps: int = Field(default=9999, ge=199, le=1_000_000)  # of the permutation test


class RunSpec(_Frozen):
    """One run. Three arms train with the same seed and the same number of steps.

    They are ``local`` (nothing is shared), ``global`` (FedAvg) and ``personal`` (``algorithm``).
    A specification of version 1 had no ``analysis``; it keeps its digest, and its models are still served.
    """

    version: Literal[1, 2] = 2
    study: StudySpec
    algorithm: str
    hyper_parameters: dict[str, HyperValue]
    model: ModelSpec
    rounds: int = Field(ge=1, le=1000)
    seed: int = Field(ge=0, lt=2**31)
    min_sites: int = Field(ge=2, le=1000)
    tensors: tuple[TensorSpec, ...] = ()
    policy: PolicySpec = PolicySpec()
    analysis: AnalysisSpec = AnalysisSpec()

    @model_validator(mode="after")
    def _analysis_fits(self) -> Self:
        if self.version == 1 and self.analysis != AnalysisSpec():
            raise ValueError("a specification of version 1 has no analysis of its own")
        wanted = self.analysis.candidate
        if wanted and wanted not in candidates_of(self.algorithm):
            raise ValueError(f"this run trains no arm “{wanted}” that could be the candidate")
        if unknown := [label for label in self.analysis.positive if label not in self.study.task.labels]:
            raise ValueError(f"“{unknown[0]}” is not one of the study's labels")
        if len(set(self.analysis.positive)) < len(self.analysis.positive):
            raise ValueError("each positive label is named once")
        some = 0 < len(self.analysis.positive) < len(self.study.task.labels)
        if self.analysis.endpoint == POSITIVE and not some:
            raise ValueError(f"“{POSITIVE}” needs some of the labels as positive, and not all of them")
        return self

    @model_validator(mode="after")
    def _masks_need_three(self) -> Self:
        # with two sites each subtracts its own update from the sum and has the other's
        if self.policy.secure_aggregation and self.min_sites < COHORT_MIN:
            raise ValueError(f"secure aggregation needs min_sites of at least {COHORT_MIN}")
        return self

    def arms(self) -> tuple[Arm, ...]:
        """The arms this run trains."""
        return arms_of(self.algorithm)

    def arm_algorithm(self, arm: Arm) -> str:
        """The catalog name of the algorithm that trains ``arm``."""
        return {"local": "local_only", "global": "fedavg", "personal": self.algorithm}[arm]

    def candidate(self) -> Candidate | None:
        """The one arm whose benefit this run tests; None in a run of local-only. Others are information."""
        trained = [arm for arm in self.arms() if arm != "local"]
        return self.analysis.candidate or (trained[-1] if trained else None)

    def positive_places(self) -> tuple[int, ...]:
        """Places of the labels that count as disease; empty where sensitivity is not asked for."""
        labels = self.study.task.labels
        named = tuple(labels.index(label) for label in self.analysis.positive)
        return named or ((1,) if len(labels) == 2 else ())

    def judged_classes(self) -> tuple[str, ...]:
        """What the endpoint tells apart: the labels, or all others and the positive ones."""
        one = self.analysis.endpoint == POSITIVE
        return (NEGATIVE_CLASS, POSITIVE_CLASS) if one else self.study.task.labels

    def class_of_label(self) -> tuple[int, ...]:
        """For each label of the study the place of its class among ``judged_classes``."""
        places = range(len(self.study.task.labels))
        if self.analysis.endpoint != POSITIVE:
            return tuple(places)
        return tuple(int(place in self.positive_places()) for place in places)

    def shared(self, phase: str = "train") -> dict[str, TensorSpec]:
        """The tensors that leave in ``phase``, by wire name."""
        return {tensor.wire_name: tensor for tensor in self.tensors if tensor.phase == phase}

    def canonical(self) -> bytes:
        """Canonical bytes: sorted keys, no white space, UTF-8; floats in Python's shortest form.

        Without differential privacy they do not mention it: earlier specifications keep their digest.
        """
        content = self.model_dump(mode="json", exclude={"analysis"} if self.version == 1 else None)
        if self.policy.privacy is None:
            del content["policy"]["privacy"]
        return canonical_json(content)

    def digest(self) -> str:
        """The run digest, SHA-256 in hex."""
        return hashlib.sha256(self.canonical()).hexdigest()


def parse_spec(data: bytes) -> RunSpec:
    """A specification from a file or a pipe, at most MAX_SPEC_BYTES. Raises SpecError with the place."""
    if len(data) > MAX_SPEC_BYTES:
        raise SpecError("The run specification is too large. Shorten its lists of labels and features.")
    try:
        return RunSpec.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise SpecError(f"The run specification is not valid at {where}: {first['msg']}.") from error


def run_folder_name(run_digest: str, run_id: str) -> str:
    """The folder of a run's personal parts at a site.

    The digest alone is not enough: the same specification may be run twice, and the second run would
    overwrite the personal parts that the first one's promoted versions name.
    """
    return f"{run_digest[:12]}-{run_id[:8]}"


def canonical_json(value: object) -> bytes:
    """Encode with sorted keys and no white space. Raises ValueError for NaN and infinity."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()
