"""How a model came about, as an in-toto Statement v1 with the SLSA provenance v1 predicate."""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
BUILD_TYPE: Final = "urn:consilium:fl-training:v1"


class _Wire(BaseModel):
    """Fields as the specifications spell them: camelCase, absent when there is nothing to say."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Resource(_Wire):
    """An in-toto ResourceDescriptor."""

    name: str
    digest: dict[str, str] | None = None
    annotations: dict[str, Any] | None = None


class BuildDefinition(_Wire):
    build_type: Literal["urn:consilium:fl-training:v1"] = BUILD_TYPE
    external_parameters: dict[str, Any]
    internal_parameters: dict[str, Any] = Field(default_factory=dict)
    resolved_dependencies: list[Resource]


class Builder(_Wire):
    id: str
    version: dict[str, str]


class BuildMetadata(_Wire):
    invocation_id: str
    started_on: str
    finished_on: str | None


class RunDetails(_Wire):
    builder: Builder
    metadata: BuildMetadata
    byproducts: list[Resource]


class Provenance(_Wire):
    """The SLSA predicate: what was asked for, what went in, what came by."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(_Wire):
    """What DSSE signs."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(
        default="https://in-toto.io/Statement/v1", alias="_type"
    )
    subject: list[Resource] = Field(min_length=1)
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"
    predicate: Provenance

    def payload(self) -> bytes:
        """The signed bytes."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()
