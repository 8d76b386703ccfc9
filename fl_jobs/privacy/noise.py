"""Noise and sampling nobody can foresee: AES-256 in counter mode under a key drawn anew for each use.

The run's seed is public, so neither the noise nor the choice of patients may follow from it: noised training
is not repeatable. What is exact and what is not: the distance of these numbers from a true Gaussian is that
of 64-bit uniforms through an inverse distribution function in 64-bit floating point; beyond 9.1 standard
deviations nothing is drawn (probability below 2^-63 a number). The low bits of a floating-point sum would
show what was added (Mironov, CCS 2012), so every noised sum is rounded to a grid of 2^-24 of the noise. That
makes the attack's bits go away; it is no proof for the discrete distribution, which an exact sampler
(Canonne, Kamath, Steinke 2020) would give one number at a time.
"""

import math
import secrets

import numpy as np
from numpy.typing import NDArray

GRID_BITS = 24
LONGEST = 9.2  # standard deviations; no draw is longer


def add_gaussian(values: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """``values`` with Gaussian noise of standard deviation ``scale`` each, on the grid."""
    from scipy.special import ndtri  # here: 16 MB that only runs with privacy need

    words = _words(values.size)
    tail = ndtri(((words >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-64)  # the lower half, up to 0
    noise = np.where(words & np.uint64(1), tail, -tail).reshape(values.shape) * scale
    grid = 2.0 ** (math.floor(math.log2(scale)) - GRID_BITS)
    return np.asarray(np.rint((values + noise) / grid) * grid, dtype=np.float64)


def poisson_sample(count: int, rate: float) -> NDArray[np.int64]:
    """The places of 0 … ``count`` - 1 that are in a sample; each is with probability ``rate``, by itself."""
    chance = (_words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.flatnonzero(chance < rate).astype(np.int64)


def _words(count: int) -> NDArray[np.uint64]:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = Cipher(algorithms.AES(secrets.token_bytes(32)), modes.CTR(bytes(16)))
    return np.frombuffer(key.encryptor().update(bytes(8 * count)), dtype="<u8")
