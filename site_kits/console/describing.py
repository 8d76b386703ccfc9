"""From what lies in a folder to its manifest: roles guessed for every column, corrected by the operator."""

import json
from typing import Any

from pydantic import ValidationError

from fl_jobs.data.manifest import Manifest
from fl_jobs.errors import DataError

ROLES = ("", "label", "patient", "feature", "text", "image", "part")
_LABEL = ("label", "diagnosis", "diagnose", "class", "category", "target", "outcome", "intent")
_LABEL_ZH = ("标签", "诊断", "类别", "分类", "结果")
_PATIENT = ("patient", "patient_id", "patientid", "pid", "mrn", "group", "case_id", "subject")
_PATIENT_ZH = ("患者", "病人", "病历号", "患者编号", "住院号")
_TEXT = ("text", "content", "transcript", "description", "message")
_TEXT_ZH = ("文本", "内容", "描述", "诉求", "工单", "工单内容")
_IMAGE = ("path", "image", "file", "filename")
_IDENTITY = ("id", "no", "number", "name", "index", "序号", "编号", "姓名")
_MOST_LABELS, _LONG_TEXT = 50, 200


def guess_roles(columns: list[dict[str, Any]]) -> dict[str, str]:
    """A role for every column; what is not clear gets none."""
    roles = {column["name"]: _by_name(column) for column in columns}
    if "label" not in roles.values():
        likely = [c for c in columns if not roles[c["name"]] and 2 <= c["distinct"] <= _MOST_LABELS]
        words = [column for column in likely if not column["is_number"]]
        if chosen := (words or likely)[-1:]:
            roles[chosen[0]["name"]] = "label"
    reads_numbers = not {"text", "image"} & set(roles.values())
    for column in columns:
        name = column["name"]
        is_number = column["is_number"] and name.strip().lower() not in _IDENTITY
        if not roles[name] and reads_numbers and is_number and column["filled"]:
            roles[name] = "feature"
    return roles


def _by_name(column: dict[str, Any]) -> str:
    name = column["name"].strip().lower()
    if name == "part":
        return "part"
    if name in _PATIENT or name in _PATIENT_ZH:
        return "patient"
    if (name in _LABEL or name in _LABEL_ZH) and column["distinct"] >= 1:
        return "label"
    if column["is_number"]:
        return ""
    if name in _TEXT or name in _TEXT_ZH:
        return "text"
    return "image" if name in _IMAGE else ""


def roles_of(manifest: Manifest) -> dict[str, str]:
    """The roles that a manifest gives."""
    roles = dict.fromkeys(manifest.features, "feature")
    if manifest.kind != "tabular":
        roles[manifest.value_column] = manifest.kind
    roles[manifest.label] = "label"
    if manifest.group:
        roles[manifest.group] = "patient"
    if manifest.part:
        roles[manifest.part] = "part"
    return roles


def manifest_of(
    name: str, table: dict[str, Any], roles: dict[str, str], labels: list[str], *, is_synthetic: bool
) -> Manifest:
    """The manifest for a table and the roles of its columns. Raises DataError saying what is missing.

    Without ``labels``, all values of the label column are.
    """
    values = [column for column in roles if roles[column] in ("text", "image")]
    features = [column for column in roles if roles[column] == "feature"]
    if len(values) > 1 or (values and features):
        raise DataError("Choose either features, or one column of texts, or one of images.")
    if not values and not features:
        raise DataError("Choose what to learn from: features, or one column of texts or of images.")
    label = _only(roles, "label")
    if not label:
        raise DataError("Choose the column that holds the label.")
    kind = roles[values[0]] if values else "tabular"
    facts: dict[str, Any] = {
        "name": name, "kind": kind, "file": table["file"], "encoding": table["encoding"],
        "value": values[0] if values else None, "label": label, "group": _only(roles, "patient"),
        "part": _only(roles, "part"), "features": features, "labels": labels or _values(table, label),
        "synthetic": is_synthetic,
    }  # fmt: skip
    kept = {key: value for key, value in facts.items() if value not in (None, [], False)}
    try:
        return Manifest.model_validate_json(json.dumps(kept))
    except ValidationError as error:
        fault = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DataError("The description does not hold together (%(fault)s).", fault=fault) from error


def _only(roles: dict[str, str], role: str) -> str | None:
    found = [column for column in roles if roles[column] == role]
    if len(found) > 1:
        raise DataError("Two columns have the same role (%(columns)s). Choose one.", columns=", ".join(found))
    return found[0] if found else None


def _values(table: dict[str, Any], label: str) -> list[str]:
    column = next((one for one in table["columns"] if one["name"] == label), None)
    if column is None or not column["values"] or len(column["values"]) < column["distinct"]:
        raise DataError("“%(column)s” has too many values for labels. Write the labels down.", column=label)
    if column["distinct"] < 2:
        raise DataError("“%(column)s” has one value only. A model needs two labels or more.", column=label)
    return sorted(column["values"])
