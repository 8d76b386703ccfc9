"""Texts as codes: hashed characters and pairs of them, the same on every machine, for every language.

A model's entry in the catalog names a function here that gives, from (its arguments, the site's folder of
weights), the encoder its texts go through.
"""

import unicodedata
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_jobs.catalog import MODELS, validate_model
from fl_jobs.packaging.spec import RunSpec

TextEncoder = Callable[[Sequence[str], int], NDArray[np.int64]]
CODES = 2**30  # a model folds the codes into the rows of its table


def encode_texts(texts: Sequence[str], max_characters: int) -> NDArray[np.int64]:
    """Codes (1 … CODES) of each text's characters and pairs, padded with 0 to the longest text.

    Texts are NFKC-normalised, lower-cased and cut at ``max_characters``.
    """
    return _padded([_hashed(_grams(plain)) for plain in _plain(texts, max_characters)])


def encode_characters(texts: Sequence[str], max_characters: int) -> NDArray[np.int64]:
    """As :func:`encode_texts`, without the pairs: one code per character, in their order."""
    return _padded([_hashed(plain or " ") for plain in _plain(texts, max_characters)])


def hashed_grams(arguments: Mapping[str, Any], weights: Path | None) -> TextEncoder:
    del arguments, weights
    return encode_texts


def hashed_characters(arguments: Mapping[str, Any], weights: Path | None) -> TextEncoder:
    del arguments, weights
    return encode_characters


def text_encoder(spec: RunSpec, weights: Path | None) -> TextEncoder:
    """The encoder of a run's model; only texts need it. Raises SpecError, ModelFileError."""
    if spec.study.task.kind != "text":
        return encode_texts
    arguments = validate_model(spec.model.name, spec.model.arguments, "text")
    module, _, function = MODELS[spec.model.name].encoder.partition(":")
    encoder: TextEncoder = getattr(import_module(module), function)(arguments, weights)
    return encoder


def _padded(coded: list[list[int]]) -> NDArray[np.int64]:
    result = np.zeros((len(coded), max(map(len, coded), default=1)), dtype=np.int64)
    for row, codes in enumerate(coded):
        result[row, : len(codes)] = codes
    return result


def _plain(texts: Sequence[str], limit: int) -> list[str]:
    normal = (unicodedata.normalize("NFKC", text[: 4 * limit]).lower() for text in texts)
    return [" ".join(text.split())[:limit] for text in normal]


def _grams(plain: str) -> list[str]:
    return [*plain, *(plain[i : i + 2] for i in range(len(plain) - 1))] or [" "]


def _hashed(grams: Sequence[str]) -> list[int]:
    return [zlib.crc32(gram.encode("utf-8", "surrogatepass")) % CODES + 1 for gram in grams]
