"""How a task order and a contribution travel in NVFlare: one JSON text and a flat dict of numpy arrays."""

import json
from typing import Any

import numpy as np
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from fl_jobs.errors import SharedStateError
from fl_jobs.messages import Contribution, TaskOrder, TensorMap

TEXT_KEY = "consilium.json"
TENSORS_KEY = "consilium.tensors"
ERROR_KEY = "consilium.error"
TEXT_BYTES_MAX = 4_000_000
SENTENCE_CHARACTERS_MAX = 300


def order_to_shareable(order: TaskOrder, run_digest: str) -> Shareable:
    """Pack a server's order; the digest lets a site refuse an order of another run."""
    text = {"name": order.name, "round": order.round_number, "header": order.header, "run": run_digest}
    return _pack(text, order.tensors)


def order_from_shareable(shareable: Shareable, run_digest: str) -> TaskOrder:
    """Unpack an order. Raises SharedStateError when it is malformed or of another run."""
    text, tensors = _unpack(shareable)
    if text.get("run") != run_digest:
        raise SharedStateError("The server sent a task of another run; it was not carried out.")
    header = text.get("header")
    if not isinstance(text.get("name"), str) or not isinstance(text.get("round"), int):
        raise SharedStateError("The server sent a task without name or round; it was not carried out.")
    return TaskOrder(text["name"], text["round"], header if isinstance(header, dict) else {}, tensors)


def contribution_to_shareable(contribution: Contribution, order: TaskOrder, run_digest: str) -> Shareable:
    """Pack a site's answer to ``order``."""
    text = {
        "name": order.name,
        "round": order.round_number,
        "phase": order.header.get("phase", "train"),
        "run": run_digest,
        "lanes": contribution.lanes,
        "metrics": contribution.metrics,
    }
    return _pack(text, contribution.tensors)


def contribution_from_shareable(shareable: Shareable, order: TaskOrder, run_digest: str) -> Contribution:
    """Unpack an answer. Raises SharedStateError when it is malformed or answers another order."""
    text, tensors = _unpack(shareable)
    if (text.get("run"), text.get("name"), text.get("round")) != (run_digest, order.name, order.round_number):
        raise SharedStateError("a site answered another order than the one it was given")
    lanes, metrics = text.get("lanes"), text.get("metrics")
    if not isinstance(lanes, dict) or not isinstance(metrics, dict):
        raise SharedStateError("a site's answer has no weights or metrics")
    return Contribution(tensors, {name: float(value) for name, value in lanes.items()}, metrics)


def refusal(sentence: str) -> Shareable:
    """Make the reply of a site that did not carry out a task; the sentence names no file and no patient."""
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    reply[ERROR_KEY] = sentence[:SENTENCE_CHARACTERS_MAX]
    return reply


def refusal_sentence(shareable: Shareable) -> str | None:
    """Return why a reply is no contribution, or None when it is one."""
    code = shareable.get_return_code(ReturnCode.OK)
    if code == ReturnCode.OK:
        return None
    if code == ReturnCode.TASK_RESULT_FILTER_ERROR:
        return "The site's own filter did not let the result leave; its log says why."
    sentence = shareable.get(ERROR_KEY)
    return (
        str(sentence)[:SENTENCE_CHARACTERS_MAX] if sentence else f"The site could not do the task ({code})."
    )


def read_text(shareable: Shareable) -> dict[str, Any]:
    """Return the JSON part. Raises SharedStateError when it is missing, too long or not an object."""
    raw = shareable.get(TEXT_KEY)
    if not isinstance(raw, str) or len(raw) > TEXT_BYTES_MAX:
        raise SharedStateError("a message has no readable description")
    try:
        text = json.loads(raw)
    except ValueError as error:
        raise SharedStateError("a message's description is not JSON") from error
    if not isinstance(text, dict):
        raise SharedStateError("a message's description is not an object")
    return text


def read_tensors(shareable: Shareable) -> TensorMap:
    """Return the tensors. Raises SharedStateError for anything but named float32 arrays."""
    tensors = shareable.get(TENSORS_KEY)
    if not isinstance(tensors, dict):
        raise SharedStateError("a message has no tensors")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray) or value.dtype != np.float32:
            raise SharedStateError(f"{name!r} is not a float32 array")
    return tensors


def _pack(text: dict[str, Any], tensors: TensorMap) -> Shareable:
    shareable = Shareable()
    try:
        shareable[TEXT_KEY] = json.dumps(text, allow_nan=False)
    except ValueError as error:
        raise SharedStateError(
            "The training gave numbers that are not finite. Lower the learning rate and start again."
        ) from error
    shareable[TENSORS_KEY] = dict(tensors)
    return shareable


def _unpack(shareable: Shareable) -> tuple[dict[str, Any], TensorMap]:
    return read_text(shareable), read_tensors(shareable)
