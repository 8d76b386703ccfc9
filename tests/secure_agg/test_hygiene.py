"""What the package may not do: weak random numbers, secrets in what a person or a log reads."""

import ast
import base64
from pathlib import Path

import numpy as np
import pytest

import secure_agg
from secure_agg import shamir
from secure_agg.encoding import Accumulator, encode_masked
from secure_agg.errors import SecureAggregationError
from secure_agg.masks import Masks, MaskStream
from secure_agg.messages import Recover, Reveal, Upload
from secure_agg.plan import Purpose, TensorField, Weighting, make_plan
from tests.secure_agg.examples import HEADER

SOURCES = sorted(Path(secure_agg.__file__).parent.rglob("*.py"))
WEAK = {"random", "numpy.random"}
SECRET = bytes(range(100, 132))


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and node.attr == "random":
            found.add("numpy.random")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_weak_random_numbers_in_the_package(path):
    assert not imported(ast.parse(path.read_text(encoding="utf-8"))) & WEAK


@pytest.mark.parametrize(
    "source",
    ["import random", "from random import choice", "from numpy import random", "np.random.default_rng()"],
)
def test_the_search_finds_weak_random_numbers(source):
    assert imported(ast.parse(source)) & WEAK


def leaks(text: str) -> bool:
    forms = (
        SECRET.hex(),
        base64.b64encode(SECRET).decode().rstrip("="),
        repr(SECRET)[2:-1],
        str(list(SECRET)),
    )
    return any(form[:24] in text for form in forms)


def test_secrets_are_not_in_what_is_printed():
    printed = [
        repr(Reveal(bytes(32), SECRET, ((1, SECRET),))),
        repr(Recover(bytes(32), ((1, (SECRET + b"\0", ((2, SECRET + b"\0"),))),))),
        repr(Upload(HEADER, ((1, SECRET),))),
        repr(MaskStream(SECRET)) + repr(Masks([(SECRET, 1)])) + repr(vars(Masks([(SECRET, 1)]))),
    ]
    assert not any(leaks(text) for text in printed)
    assert leaks(f"seed {SECRET!r}")
    assert leaks(SECRET.hex())


def test_values_are_not_in_errors_and_aggregates():
    plan = make_plan(
        fields=[TensorField("x", "float32", (2,), Weighting.MEAN, 0)], purpose=Purpose.TRAIN, ring=32,
        weight_max=8, colluding=1, cohort_min=3, site_count=4,
    )  # fmt: skip
    with pytest.raises(SecureAggregationError) as caught:
        shamir.reconstruct({1: SECRET})
    assert not leaks(str(caught.value) + repr(caught.value) + repr(caught.value.facts))
    with pytest.raises(SecureAggregationError) as caught:
        encode_masked(plan, {"x": np.array([0.123456, np.nan], np.float32)}, 1, {}, [])
    assert "0.12" not in str(caught.value) + repr(caught.value.facts)
    assert "main" not in repr(Accumulator(plan).decode())
