"""``python -m tests.bench.secure_agg``: CPU time of masking, as ratios measured side by side in one run.

Ten sites, float32, a process's own CPU time, medians. Flower's part needs an interpreter that has flwr: this
one, or the one that CONSILIUM_FLOWER_PYTHON names. ``--small``: one million numbers, a small memory test.

How many times faster than Flower a client can be depends on the processor: where generators run at twice the
speed and AES does not, ten passes of AES alone are 14 to 17 times faster. Each row says that limit beside its
bound, for the reader; the verdict is that of the bound (ADR 7).
"""

import argparse
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import tests.conftest  # noqa: F401  one thread per library: set before numpy is imported

# isort: split
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from rich.console import Console
from rich.table import Table

from secure_agg.encoding import Accumulator, encode_masked
from secure_agg.masks import CHUNK_BYTES
from secure_agg.model_hash import model_hash
from secure_agg.plan import Plan, Purpose, TensorField, Weighting, make_plan

SITES, WEIGHT, WEIGHT_MAX = 10, 250, 1024
SIZES = {"1m": 1_000_000, "10m": 10_000_000}
REPETITIONS = {"1m": 7, "10m": 3}
MIB = 1024 * 1024
FLOWER = Path(__file__).with_name("flower_client.py")
REPOSITORY = Path(__file__).resolve().parents[2]
BOUNDS = {
    "client_vs_flower_1m": ("≥", 8.0, "client of 1M, times faster than Flower"),
    "client_vs_flower_10m": ("≥", 15.0, "client of 10M, times faster than Flower"),
    "client_vs_aes_passes": ("≤", 4.0, "client over ten passes of AES-256-CTR"),
    "server_vs_plain_mean": ("≤", 2.5, "server over a plain mean, no dropouts"),
    "upload_vs_float32": ("≤", 1.001, "upload over float32"),
    "extra_rss_mib": ("≤", 16.0, "memory beside the output, MiB"),
    "hashed_vs_flower_1m": ("≥", 4.0, "the same of 1M with both hashes"),
    "hashed_vs_flower_10m": ("≥", 8.0, "the same of 10M with both hashes"),
}
KEYS = tuple(BOUNDS)[:6]
Ask = Callable[[int], float | None]
Figures = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    parser.add_argument("--small", action="store_true", help="without the size of ten million")
    options = parser.parse_args()
    sizes = ["1m"] if options.small else ["1m", "10m"]
    with flower() as ask:
        medians = {size: measure(SIZES[size], REPETITIONS[size], ask) for size in sizes}
    figures = ratios(medians)
    figures["extra_rss_mib"] = extra_rss_mib(10 if options.small else 100, 100)
    if options.json:
        print(json.dumps({key: figures[key] for key in (*KEYS, "limits")}, indent=1))
    else:
        show(medians, figures)
    return 0 if all(verdict(figures, key) != "FAIL" for key in BOUNDS) else 1


@contextmanager
def flower() -> Iterator[Ask]:
    """Asks Flower's client for its CPU seconds; answers None where there is no Flower."""
    named = os.environ.get("CONSILIUM_FLOWER_PYTHON")
    if not named and importlib.util.find_spec("flwr") is None:
        yield lambda numbers: None
        return
    command = [named or sys.executable, str(FLOWER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        if json.loads(process.stdout.readline() or "null") != "ready":
            raise SystemExit(f"{command[0]} cannot run Flower; see what it printed above.")

        def ask(numbers: int) -> float:
            print(numbers, file=process.stdin, flush=True)
            return float(json.loads(process.stdout.readline()))

        yield ask
        process.stdin.close()


def plan_of(numbers: int, sites: int = SITES) -> Plan:
    plan = make_plan(
        fields=[TensorField("x", "float32", (numbers,), Weighting.MEAN, 0)], purpose=Purpose.TRAIN, ring=32,
        weight_max=WEIGHT_MAX, colluding=2, cohort_min=3, site_count=sites,
    )  # fmt: skip
    plan.validate()
    return plan


def masks(count: int) -> list[tuple[bytes, int]]:
    return [(os.urandom(32), 1 if number % 2 else -1) for number in range(count)]


def measure(numbers: int, repetitions: int, ask: Ask) -> Figures:
    """Median CPU seconds of each part; every repetition runs all parts in turn.

    The first after waiting for Flower finds cold caches; Flower's process has just made its input.
    """
    plan, rng = plan_of(numbers), np.random.default_rng(1)
    updates = [rng.standard_normal(numbers, np.float32) for _ in range(SITES)]
    for update in updates:
        np.clip(np.multiply(update, 0.1, out=update), -1, 1, out=update)
    own = masks(SITES)
    vectors = [
        encode_masked(plan, {"x": update}, WEIGHT, {}, [mask])
        for update, mask in zip(updates, own, strict=True)
    ]
    parts: dict[str, Callable[[], object]] = {
        "aes": lambda: aes_passes(4 * numbers, SITES),
        "plain": lambda: plain_mean(updates),
        "client": lambda: encode_masked(plan, {"x": updates[0]}, WEIGHT, {}, masks(SITES)),
        "hashes": lambda: (hashlib.sha256(vectors[0]).digest(), model_hash({"x": updates[0]})),
        "server": lambda: server_mean(plan, vectors, own),
    }
    if np.abs(plain_mean(updates) - server_mean(plan, vectors, own)).max() > 1e-6:
        raise SystemExit("The masked mean differs from the plain one.")
    taken: dict[str, list[float | None]] = {"flower": [], **{name: [] for name in parts}}
    for _ in range(repetitions):
        taken["flower"].append(ask(numbers))
        for name, part in parts.items():
            taken[name].append(cpu_s(part))
    return {name: None if None in times else median(times) for name, times in taken.items()}


def cpu_s(part: Callable[[], object]) -> float:
    began = time.process_time()
    part()
    return time.process_time() - began


def aes_passes(size: int, count: int) -> None:
    """What no implementation with these masks can do without."""
    zeros, room = memoryview(bytes(CHUNK_BYTES)), bytearray(CHUNK_BYTES + 16)
    for _ in range(count):
        stream = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
        for at in range(0, size, CHUNK_BYTES):
            stream.update_into(zeros[: min(CHUNK_BYTES, size - at)], room)


def plain_mean(updates: list[np.ndarray]) -> np.ndarray:
    total, product = np.zeros(len(updates[0])), np.empty(len(updates[0]))
    for update in updates:
        np.multiply(update, float(WEIGHT), out=product, dtype=np.float64)
        total += product
    total /= WEIGHT * len(updates)
    return total.astype(np.float32)


def server_mean(plan: Plan, vectors: list[np.ndarray], own: list[tuple[bytes, int]]) -> np.ndarray:
    total = Accumulator(plan)
    for vector in vectors:
        total.add(vector)
    total.unmask(own)
    return total.decode().means()["x"]


def extra_rss_mib(megabytes: int, mask_count: int) -> float:
    """In a process of its own, since memory once used stays with a process."""
    code = (
        f"from tests.bench.secure_agg import *; print(memory_of_masking({megabytes * 250_000}, {mask_count}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def memory_of_masking(numbers: int, mask_count: int) -> float:
    update = np.full(numbers, 0.25, np.float32)
    small = plan_of(CHUNK_BYTES // 4, mask_count)
    encode_masked(small, {"x": update[: CHUNK_BYTES // 4]}, 1, {}, masks(1))  # loads what is loaded once
    plan, seeds = plan_of(numbers, mask_count), masks(mask_count)
    before = resident_mib("VmRSS")
    vector = encode_masked(plan, {"x": update}, 1, {}, seeds)
    return resident_mib("VmHWM") - before - vector.nbytes / MIB


def resident_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise SystemExit("The memory test needs Linux.")


def ratios(medians: dict[str, Figures]) -> Figures:
    """By key; ``limits`` has what ten passes of AES alone (and the hashes) would reach against Flower."""
    figures: Figures = dict.fromkeys(BOUNDS)
    figures["limits"] = {}
    for size, parts in medians.items():
        client, hashed = parts["client"], parts["client"] + parts["hashes"]
        if parts["flower"] is not None:
            figures[f"client_vs_flower_{size}"] = round(parts["flower"] / client, 2)
            figures[f"hashed_vs_flower_{size}"] = round(parts["flower"] / hashed, 2)
            least = {"client": parts["aes"], "hashed": parts["aes"] + parts["hashes"]}
            for name, cost in least.items():
                figures["limits"][f"{name}_vs_flower_{size}"] = round(parts["flower"] / cost, 2)
        worst = figures["client_vs_aes_passes"] or 0.0, figures["server_vs_plain_mean"] or 0.0
        figures["client_vs_aes_passes"] = max(worst[0], round(client / parts["aes"], 2))
        figures["server_vs_plain_mean"] = max(worst[1], round(parts["server"] / parts["plain"], 2))
        figures["upload_vs_float32"] = round(plan_of(SIZES[size]).vector_bytes / SIZES[size] / 4, 6)
    return figures


def verdict(figures: Figures, key: str) -> str:
    (sign, bound, _), value = BOUNDS[key], figures[key]
    if value is None:
        return "not measured"
    return "PASS" if (value >= bound if sign == "≥" else value <= bound) else "FAIL"


def bound_text(figures: Figures, key: str) -> str:
    (sign, bound, _), limit = BOUNDS[key], figures["limits"].get(key)
    text = f"{sign} {bound:g}"
    return f"{text}; AES alone {limit:g}" if limit else text


def show(medians: dict[str, Figures], figures: Figures) -> None:
    console = Console(highlight=False, width=110)
    times = Table("CPU ms, median", *medians, title=f"{SITES} sites, ring of 32 bits")
    rows = {
        "flower": "Flower SecAgg+ client",
        "client": "client: encode and mask",
        "hashes": "client: both hashes",
        "aes": "ten passes of AES-256-CTR",
        "plain": "server: plain mean",
        "server": "server: add, unmask, mean",
    }
    for name, label in rows.items():
        cells = [parts[name] for parts in medians.values()]
        times.add_row(label, *("–" if cell is None else f"{1000 * cell:.1f}" for cell in cells))
    console.print(times)
    bounds = Table("", "measured", "bound", "")
    for key, (_, _, label) in BOUNDS.items():
        value = figures[key]
        shown = "–" if value is None else f"{value:g}"
        bounds.add_row(label, shown, bound_text(figures, key), verdict(figures, key))
    console.print(bounds)


if __name__ == "__main__":
    sys.exit(main())
