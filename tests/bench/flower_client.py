"""Flower's SecAgg+ client between its fit and its upload: quantise, weigh, mask. Imports nothing of ours.

Run by any interpreter that has flwr. Each line of standard input is a number of parameters, the answer is the
CPU seconds of one site of ten. Its own functions in the order of its ``_collect_masked_vectors``, without the
key agreement, the decryption of shares and the packing that come on top of it there.
"""

import json
import os
import sys
import time

import numpy as np
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

SITES = 10
CLIP, LEVELS, MODULUS, WEIGHT, WEIGHT_MAX = 8.0, 1 << 22, 1 << 32, 250, 1024


def client_cpu_s(numbers: int) -> float:
    updates = [np.random.default_rng(1).standard_normal(numbers, np.float32)]
    updates[0] *= 0.1
    seeds = [os.urandom(32) for _ in range(SITES)]  # the site's own and nine pairs
    began = time.process_time()
    ratio = round(WEIGHT / WEIGHT_MAX * LEVELS)
    quantised = quantize(parameters_multiply(updates, ratio / LEVELS), CLIP, LEVELS)
    masked = factor_combine(ratio, quantised)
    shapes = [array.shape for array in masked]
    for seed in seeds:
        masked = parameters_addition(masked, pseudo_rand_gen(seed, MODULUS, shapes))
    parameters_mod(masked, MODULUS)
    return time.process_time() - began


def main() -> None:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(client_cpu_s(int(line))), flush=True)


if __name__ == "__main__":
    main()
