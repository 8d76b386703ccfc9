"""Masked vectors look like noise. This catches wrong wiring of masks; it does not show security.

Fixed seeds, limits at one in a million.
"""

import hashlib

import numpy as np
import pytest

from secure_agg.encoding import encode_masked
from secure_agg.masks import MaskStream
from secure_agg.plan import Purpose, TensorField, Weighting, make_plan

SIZE = 1 << 16
CHI2_255 = 377.0  # of 255 degrees of freedom
NORMAL = 4.9


def seed(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(4, "little")).digest()


def plan_of(ring: int, size: int):
    return make_plan(
        fields=[TensorField("x", "float32", (size,), Weighting.MEAN, 0)], purpose=Purpose.TRAIN, ring=ring,
        weight_max=1024, colluding=1, cohort_min=3, site_count=4,
    )  # fmt: skip


def chi2(observed: np.ndarray, expected: float) -> float:
    return float(np.sum((observed - expected) ** 2) / expected)


def vectors():
    """A constant and a zero vector under all masks, and a dropped site's one whose pair masks are known."""
    for ring in (32, 64):
        plan = plan_of(ring, SIZE)
        for name, value in (("constant", 0.75), ("zero", 0.0)):
            tensors = {"x": np.full(SIZE, value, np.float32)}
            for kind, masks in (
                ("all masks", [(seed(1), 1), (seed(2), -1), (seed(3), 1)]),
                ("own mask alone", [(seed(4), 1)]),
                ("pair mask alone, taken away", [(seed(5), -1)]),
            ):
                yield pytest.param(
                    ring, encode_masked(plan, tensors, 999, {}, masks), id=f"ring {ring}, {name}, {kind}"
                )


every_vector = pytest.mark.parametrize(("ring", "vector"), list(vectors()))


@every_vector
def test_bytes_are_uniform_at_every_position_of_a_word(ring, vector):
    main = vector[: SIZE * ring // 8].reshape(SIZE, ring // 8)
    assert chi2(np.bincount(main.ravel(), minlength=256), main.size / 256) < CHI2_255
    for column in main.T:
        assert chi2(np.bincount(column, minlength=256), SIZE / 256) < CHI2_255


@every_vector
def test_every_bit_of_a_word_is_balanced(ring, vector):
    bits = np.unpackbits(vector[: SIZE * ring // 8].reshape(SIZE, ring // 8), axis=1)
    deviations = np.abs(bits.sum(axis=0, dtype=np.int64) - SIZE / 2) / np.sqrt(SIZE / 4)
    assert deviations.max() < NORMAL + 0.8  # of 32 or 64 positions


@every_vector
def test_neighbours_are_not_correlated(ring, vector):
    words = vector[: SIZE * ring // 8].view(f"<u{ring // 8}").astype(np.float64)
    for lag in (1, 2, 4, 16):
        correlation = np.corrcoef(words[:-lag], words[lag:])[0, 1]
        assert abs(correlation) * np.sqrt(SIZE) < NORMAL


@every_vector
def test_masked_bytes_and_bytes_of_a_fresh_stream_have_one_distribution(ring, vector):
    stream = MaskStream(seed(77))
    fresh = np.concatenate([stream.take(1 << 16).copy() for _ in range(SIZE * ring // 8 >> 16)])
    ours, theirs = (np.bincount(part, minlength=256) for part in (vector[: len(fresh)], fresh))
    assert float(np.sum((ours - theirs) ** 2 / (ours + theirs))) < CHI2_255


def test_each_coordinate_is_uniform_over_the_rounds():
    plan, rounds = plan_of(32, 8), 4096
    tensors = {"x": np.full(8, -0.5, np.float32)}
    seen = np.stack([encode_masked(plan, tensors, 7, {}, [(seed(number), 1)]) for number in range(rounds)])
    for column in seen.T:
        assert chi2(np.bincount(column, minlength=256), rounds / 256) < CHI2_255 + 30  # of 64 positions
