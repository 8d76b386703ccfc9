"""Privacy for whole sites: the update is clipped as one vector and carries the site's share of the noise.

Masks hide the shares from each other: any sum holds at least ``honest_shares`` of them, so noise of variance
(σS)² / honest_shares a site gives the sum at least (σS)². A value that the masks' encoding would cut off
would break that, so the clip of the encoding is never below the longest update plus the longest noise.
"""

import math

import numpy as np

from fl_jobs.errors import SpecError
from fl_jobs.messages import TensorMap
from fl_jobs.packaging.spec import PrivacySpec, RunSpec
from fl_jobs.privacy.noise import LONGEST, add_gaussian
from fl_jobs.privacy.rules import honest_shares

WHOLE_PARAMETER = 16.0  # the first round sends parameters, not changes; none is larger by magnitude


def noised_update(spec: RunSpec, tensors: TensorMap, base: TensorMap) -> TensorMap:
    """``base`` plus the change, at most ``clip_norm`` long over all tensors together, plus noise."""
    privacy = spec.policy.privacy
    if privacy is None or privacy.unit != "site":
        raise SpecError("This run does not protect whole sites. Submit it again with a privacy setting.")
    if any(np.abs(value).max(initial=0.0) > WHOLE_PARAMETER for value in base.values()):
        raise SpecError("A parameter of the common model is larger than 16. Lower the learning rate.")
    names = sorted(tensors)
    change = np.concatenate([(tensors[n].astype(np.float64) - base[n]).ravel() for n in names])
    length = float(np.sqrt(np.dot(change, change)))
    clipped = change * min(1.0, privacy.clip_norm / max(length, 1e-300))
    noised = add_gaussian(clipped, share_of_noise(spec, privacy))
    ends = np.cumsum([tensors[name].size for name in names])[:-1]
    return {
        name: (base[name] + piece.reshape(base[name].shape)).astype(np.float32)
        for name, piece in zip(names, np.split(noised, ends), strict=True)
    }


def share_of_noise(spec: RunSpec, privacy: PrivacySpec) -> float:
    """Standard deviation of what one site adds to each number."""
    return privacy.noise_multiplier * privacy.clip_norm / math.sqrt(honest_shares(spec.min_sites))


def least_log2_clip(spec: RunSpec) -> int:
    """log2 of the smallest clip of the encoding that never cuts anything off; 0 without a need."""
    privacy = spec.policy.privacy
    if privacy is None or privacy.unit != "site":
        return 0
    longest = WHOLE_PARAMETER + privacy.clip_norm + LONGEST * share_of_noise(spec, privacy)
    return math.ceil(math.log2(longest))
