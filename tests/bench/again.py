"""Which of the kept measurements are made once more."""

import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from tests.bench.kept_rows import processor

Key = TypeVar("Key", bound=tuple[Any, ...])


def drawn(processors: Mapping[Key, str], count: int) -> list[Key]:
    """``count`` keys by chance, first those measured on this kind of processor: only they must not move.

    ``processors``: the processor's name of each kept measurement.
    """
    here = sorted(key for key, name in processors.items() if name == processor())
    elsewhere = sorted(processors.keys() - set(here))
    chance = secrets.SystemRandom()
    first = chance.sample(here, min(count, len(here)))
    return first + chance.sample(elsewhere, min(count - len(first), len(elsewhere)))
