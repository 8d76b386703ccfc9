"""Texts as codes of a checkpoint's own tokenizer (its tokenizer.json, read by the ``tokenizers`` library)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fl_jobs.data.texts import TextEncoder
from fl_jobs.errors import ModelFileError, SpecError
from fl_jobs.weights import read_checkpoint

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not survive the fork of a job process
OFFSETS = {"bert": 0, "roberta": 2, "xlm-roberta": 2}  # positions that a family leaves unused


class CheckpointTokens:
    """Codes are token numbers + 1, so that 0 is padding for every tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, texts: Sequence[str], max_characters: int) -> NDArray[np.int64]:
        found = self._tokenizer.encode_batch([text[:max_characters] for text in texts])
        result = np.zeros((len(found), max((len(one.ids) for one in found), default=1)), dtype=np.int64)
        for row, one in enumerate(found):
            result[row, : len(one.ids)] = np.asarray(one.ids, dtype=np.int64) + 1
        return result


def checkpoint_tokens(arguments: Mapping[str, Any], weights: Path | None) -> TextEncoder:
    """The encoder of a checkpoint's folder. Raises SpecError, ModelFileError."""
    if weights is None:
        raise SpecError("This model reads texts with its checkpoint's tokenizer. Name the folder of weights.")
    data = read_checkpoint(weights, arguments["weights"])["tokenizer.json"]
    try:
        tokenizer = Tokenizer.from_str(data.decode("utf-8"))
    except Exception as error:  # the library raises plain Exception for any fault of the file
        raise ModelFileError(
            "The checkpoint's tokenizer.json cannot be read. Copy the folder again."
        ) from error
    numbers = tokenizer.get_vocab(with_added_tokens=True).values()
    if max(numbers, default=0) >= int(arguments["vocab_size"]):
        raise SpecError(
            f"The checkpoint's tokenizer knows token {max(numbers)}; the model has "
            f"{arguments['vocab_size']}. Copy the settings from config.json and submit the run again."
        )
    room = int(arguments["max_position_embeddings"]) - OFFSETS[arguments["family"]]
    tokenizer.enable_truncation(min(int(arguments["tokens"]), room))
    tokenizer.no_padding()
    return CheckpointTokens(tokenizer)
