"""A CycloneDX 1.6 bill of materials: every installed distribution, and the model with its card.

Written by the schema: cyclonedx-python-lib has no model cards and brings five packages (docs/adr/0022).
"""

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from typing import Any, Final

from compliance.evidence.archive import json_bytes

LONGEST_LICENCE: Final = 100  # some packages put the whole text where its name belongs
NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:consilium:sbom")


@dataclass(frozen=True)
class Model:
    """The model as a component. ``card`` is CycloneDX's ``modelCard``."""

    name: str
    version: str
    sha256: str
    card: dict[str, Any]


def installed_components() -> list[dict[str, Any]]:
    """What is installed beside this process, by name; the first of a name wins, as at import."""
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        found.setdefault(_normal(distribution.name), distribution)
    return [_component(name, found[name]) for name in sorted(found)]


def sbom_bytes(model: Model, components: Iterable[dict[str, Any]], timestamp: str) -> bytes:
    """The document; its serial number is made from the model's digest and the time."""
    reference = f"model:{model.sha256 or model.name}"
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": reference,
        "name": model.name,
        "version": model.version,
        "modelCard": model.card,
    }
    if model.sha256:
        component["hashes"] = [{"alg": "SHA-256", "content": model.sha256}]
    listed = list(components)
    return json_bytes(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": uuid.uuid5(NAMESPACE, f"{reference} {timestamp}").urn,
            "version": 1,
            "metadata": {"timestamp": timestamp, "component": component},
            "components": listed,
            "dependencies": [
                {"ref": reference, "dependsOn": sorted(one["bom-ref"] for one in listed)},
            ],
        }
    )


def _component(name: str, distribution: Distribution) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{distribution.version}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": distribution.version,
        "purl": purl,
    }
    if record := distribution.read_text("RECORD"):
        digest = hashlib.sha256(record.encode()).hexdigest()
        component["properties"] = [{"name": "consilium:record-sha256", "value": digest}]
    if licences := _licences(distribution):
        component["licenses"] = licences
    return component


def _licences(distribution: Distribution) -> list[dict[str, Any]]:
    metadata: Any = distribution.metadata  # an email.message.Message, whatever its stub says
    if expression := metadata.get("License-Expression"):
        return [{"expression": str(expression)}]
    named = str(metadata.get("License") or "").strip()
    if 0 < len(named) <= LONGEST_LICENCE and "\n" not in named:
        return [{"license": {"name": named}}]
    classified = (str(text) for text in metadata.get_all("Classifier") or ())
    names = [text.rpartition(" :: ")[2] for text in classified if text.startswith("License ::")]
    return [{"license": {"name": name}} for name in names]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
