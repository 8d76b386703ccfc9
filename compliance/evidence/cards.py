"""Model card, data sheet and two drafts for the data protection officer. All they say has a source."""

from itertools import pairwise
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

STEPS: Final = (1, 2, 5)


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Datum(_Card):
    """A value and where it comes from. ``value`` None: nobody measured or said it."""

    value: Any
    source: str


class SiteFigures(_Card):
    """What one site has of the model. Figures are None where the site keeps them."""

    site: str
    personal_sha256: str
    training_rows: str
    figures: dict[str, Any] | None
    difference_to_local: dict[str, Any] | None
    source: str


class ModelCard(_Card):
    """One model version, for who decides on its use."""

    label: Datum
    arm: Datum
    chosen_round: Datum
    shared_sha256: Datum
    run_digest: Datum
    intended_use: Datum
    labels: Datum
    algorithm: Datum
    hyper_parameters: Datum
    architecture: Datum
    analysis: Datum
    sites: list[SiteFigures]
    all_sites: Datum
    privacy: Datum
    subgroups: Datum
    limitations: list[Datum]
    human_oversight: Datum


class DataSheet(_Card):
    """What one site says about the data it trained on: counts in steps, never a row."""

    site: Datum
    organisation: Datum
    dataset: Datum
    digest: Datum
    kind: Datum
    rows: Datum
    rows_per_label: Datum
    synthetic: Datum
    certificate_serial: Datum
    collection_purpose: Datum
    legal_basis: Datum
    period: Datum


class Measure(_Card):
    """A control of the pack, by its name in controls.json."""

    control: str
    holds: bool


class Risk(_Card):
    """A threat of the threat model and the controls that stand against it."""

    threat: str
    measures: list[Measure]


class ImpactDraft(_Card):
    """Draft of the impact assessment (GDPR 35, PIPL 55). What only the institution can say is None."""

    purpose: Datum
    necessity: Datum
    data: Datum
    risks: list[Risk]
    residual_risk: Datum
    signed_off_by: Datum


class ProcessingDraft(_Card):
    """Draft of one institution's record of processing (GDPR 30). What only it can say is None."""

    controller: Datum
    contact: Datum
    purposes: Datum
    data_subjects: Datum
    data: Datum
    recipients: Datum
    transfers: Datum
    retention: Datum
    measures: list[Measure]


def in_steps(count: int) -> str:
    """``count`` within its step of 1, 2, 5, 10, 20, 50 …: "100–199". Below ten nothing closer is said."""
    if count < 10:
        return "0–9"
    power = 10 ** (len(str(count)) - 1)
    edges = [step * power for step in STEPS] + [10 * power]
    low, high = next((a, b) for a, b in pairwise(edges) if a <= count < b)
    return f"{low}–{high - 1}"
