"""The identity of a model: sites that hold different bytes get masks that do not cancel."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_agg.errors import SecureAggregationError
from secure_agg.keys import digest
from secure_agg.wire import Writer

_KINDS = "biuf"


def model_hash(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """H("model", manifest, SHA-256 of each tensor) over the bytes as received (specification 4.4).

    The manifest has name, type and shape of every tensor, by the UTF-8 bytes of the names. No tensors at all
    is a model too: that of an order which starts from nothing.
    """
    manifest, hashes = Writer(), []
    for name in sorted(tensors, key=str.encode):
        tensor = tensors[name]
        if tensor.dtype.kind not in _KINDS:
            raise SecureAggregationError("E_UNSUPPORTED_DTYPE", field=name, dtype=str(tensor.dtype))
        manifest.blob("name", name.encode(), 1 << 16)
        manifest.text("type", tensor.dtype.newbyteorder("<").str, 16)
        manifest.u8("rank", tensor.ndim)
        for size in tensor.shape:
            manifest.u64("shape", size)
        little = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
        hashes.append(hashlib.sha256(little.reshape(-1).view(np.uint8).data).digest())
    return digest("model", manifest.done(), *hashes)
