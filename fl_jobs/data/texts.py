"""Texts as codes: hashed characters and pairs of them, the same on every machine, for every language."""

import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CODES = 2**30  # a model folds the codes into the rows of its table


def encode_texts(texts: Sequence[str], max_characters: int) -> NDArray[np.int64]:
    """Codes (1 … CODES) of each text's characters and pairs, padded with 0 to the longest text.

    Texts are NFKC-normalised, lower-cased and cut at ``max_characters``.
    """
    coded = [_codes(text, max_characters) for text in texts]
    result = np.zeros((len(coded), max(map(len, coded), default=1)), dtype=np.int64)
    for row, codes in enumerate(coded):
        result[row, : len(codes)] = codes
    return result


def _codes(text: str, max_characters: int) -> list[int]:
    plain = " ".join(unicodedata.normalize("NFKC", text[: 4 * max_characters]).lower().split())[
        :max_characters
    ]
    grams = [*plain, *(plain[i : i + 2] for i in range(len(plain) - 1))] or [" "]
    return [zlib.crc32(gram.encode("utf-8", "surrogatepass")) % CODES + 1 for gram in grams]
