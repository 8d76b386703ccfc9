"""How a task order and a contribution travel in NVFlare: one JSON text and a flat dict of numpy arrays."""

import json
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from fl_jobs.errors import SharedStateError
from fl_jobs.messages import Contribution, MaskedContribution, TaskOrder, TensorMap

TEXT_KEY = "consilium.json"
TENSORS_KEY = "consilium.tensors"
ERROR_KEY = "consilium.error"
CODE_KEY = "consilium.error_code"
FLSA_KEY = "consilium.flsa"  # one FLSA-1 message
FLSA_RESULT_KEY = "consilium.flsa_result"  # the RESULT of the order before, when there was one
VECTOR_KEY = "consilium.flsa_vector"  # the masked vector of an UPLOAD, as bytes
PROTOCOL_PREFIX = "secagg_"
ADVERT, ROSTER = "secagg_advert", "secagg_roster"
FREEZE, REVEAL, RECOVER = "secagg_freeze", "secagg_reveal", "secagg_recover"
TEXT_BYTES_MAX = 4_000_000
MESSAGE_BYTES_MAX = 64_000_000
SENTENCE_CHARACTERS_MAX = 300
CODE_CHARACTERS_MAX = 40


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
    _check_answers(text, order, run_digest)
    lanes, metrics = text.get("lanes"), text.get("metrics")
    if not isinstance(lanes, dict) or not isinstance(metrics, dict):
        raise SharedStateError("a site's answer has no weights or metrics")
    return Contribution(tensors, {name: float(value) for name, value in lanes.items()}, metrics)


def masked_to_shareable(masked: MaskedContribution, order: TaskOrder, run_digest: str) -> Shareable:
    """Pack a site's masked answer to ``order``."""
    text = {"name": order.name, "round": order.round_number, "run": run_digest, "open": masked.open_part}
    shareable = Shareable()
    shareable[TEXT_KEY] = _dump(text)
    shareable[FLSA_KEY], shareable[VECTOR_KEY] = masked.message, masked.vector
    return shareable


def masked_from_shareable(shareable: Shareable, order: TaskOrder, run_digest: str) -> MaskedContribution:
    """Unpack a masked answer. Raises SharedStateError when it is malformed or answers another order."""
    text = read_text(shareable)
    _check_answers(text, order, run_digest)
    if not isinstance(text.get("open"), dict):
        raise SharedStateError("a site's masked answer has no description")
    return MaskedContribution(read_message(shareable), read_vector(shareable), text["open"])


def message_to_shareable(message: bytes) -> Shareable:
    """Pack one FLSA-1 message that travels alone."""
    shareable = Shareable()
    shareable[FLSA_KEY] = message
    return shareable


def read_message(shareable: Shareable, key: str = FLSA_KEY) -> bytes:
    """Return the FLSA-1 message. Raises SharedStateError when there is none or it is too long."""
    message = shareable.get(key)
    if not isinstance(message, bytes) or len(message) > MESSAGE_BYTES_MAX:
        raise SharedStateError("a message of secure aggregation is missing or too long")
    return message


def read_vector(shareable: Shareable) -> NDArray[np.uint8]:
    """Return a masked vector. Raises SharedStateError for anything but a row of bytes."""
    vector = shareable.get(VECTOR_KEY)
    if not isinstance(vector, np.ndarray) or vector.dtype != np.uint8 or vector.ndim != 1:
        raise SharedStateError("a masked answer has no masked vector")
    return vector


def numbers_sha256(shareable: Shareable) -> str:
    """SHA-256 of an answer's masked vector, or of its tensors in the order of their names.

    The site writes it down as what left, the server as what came: ``consilium-audit reconcile`` compares.
    """
    numbers = sha256()
    if VECTOR_KEY in shareable:
        numbers.update(shareable[VECTOR_KEY].tobytes())
    tensors = shareable.get(TENSORS_KEY, {})
    for name in sorted(tensors):
        numbers.update(tensors[name].tobytes())
    return numbers.hexdigest()


def refusal(sentence: str, code: str = "") -> Shareable:
    """Make the reply of a site that did not carry out a task; the sentence names no file and no patient."""
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    reply[ERROR_KEY], reply[CODE_KEY] = sentence[:SENTENCE_CHARACTERS_MAX], code[:CODE_CHARACTERS_MAX]
    return reply


def refusal_code(shareable: Shareable) -> str:
    """Return the FLSA-1 code of a refusal, or nothing."""
    code = shareable.get(CODE_KEY)
    return code[:CODE_CHARACTERS_MAX] if isinstance(code, str) else ""


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


def _check_answers(text: dict[str, Any], order: TaskOrder, run_digest: str) -> None:
    if (text.get("run"), text.get("name"), text.get("round")) != (run_digest, order.name, order.round_number):
        raise SharedStateError("a site answered another order than the one it was given")


def _pack(text: dict[str, Any], tensors: TensorMap) -> Shareable:
    shareable = Shareable()
    shareable[TEXT_KEY], shareable[TENSORS_KEY] = _dump(text), dict(tensors)
    return shareable


def _dump(text: dict[str, Any]) -> str:
    try:
        return json.dumps(text, allow_nan=False)
    except ValueError as error:
        raise SharedStateError(
            "The training gave numbers that are not finite. Lower the learning rate and start again."
        ) from error


def _unpack(shareable: Shareable) -> tuple[dict[str, Any], TensorMap]:
    return read_text(shareable), read_tensors(shareable)
