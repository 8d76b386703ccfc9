"""``python -m tests.bench.audit [--json]``: what the audit log costs, and what a proof of it weighs.

Appends are durable: a transaction each, fsync on; PostgreSQL (an instance of the bench's own) with eight
connections, SQLite with one writer. The added latency is that of an effect with its entry minus that without,
in turn. Full verification hashes the stored bytes and compares places, tiles and signed heads.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from compliance.merkle import leaf_hash
from compliance.note import COSIGNATURE_V1, Checkpoint, cosign, sign, verifier_key
from compliance.tiles import TiledTree, TilesInMemory
from compliance.tlog_proof import TlogProof, proof_of_entry
from compliance.witness_policy import policy_of
from tests.prove.audit_kills import Portal
from tests.prove.own_postgresql import BINARIES, instance

BOUNDS = {
    "append_per_s": (">=", 1000),
    "append_p99_ms": ("<=", 10),
    "sequence_per_s": (">=", 20_000),
    "proof_bytes_10m": ("<=", 2048),
    "verify_events_per_s": (">=", 100_000),
}
WITNESSES, CONNECTIONS = 5, 8
ORIGIN = "consilium/audit/2026"
console = Console(highlight=False, width=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the figures and nothing else")
    parser.add_argument("--entries", type=int, default=100_000, help="to sequence and to verify")
    parser.add_argument("--seconds", type=float, default=5.0, help="of appending, twice")
    options = parser.parse_args()
    figures = measured(options.entries, options.seconds)
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        show(figures)
    return 0 if all(holds(name, figures[name]) for name in BOUNDS) else 1


def measured(entries: int, seconds: float) -> dict[str, Any]:
    load = os.getloadavg()[0]
    sqlite = leg("", 1, entries, seconds)
    postgresql = None
    if (BINARIES / "initdb").exists():
        with instance() as server:
            postgresql = leg(server.url, CONNECTIONS, entries, seconds)
    main_leg = postgresql or sqlite
    figures: dict[str, Any] = {name: main_leg[name] for name in BOUNDS if name in main_leg}
    figures |= proofs()
    figures |= {"database": "PostgreSQL, 8 connections" if postgresql else "SQLite, one writer"}
    figures |= {"postgresql": postgresql, "sqlite": sqlite, "cpus": os.cpu_count(), "load_before": load}
    if load > 0.5 * (os.cpu_count() or 1):
        figures["note"] = f"The machine was busy (load {load:.1f}): the figures are too low."
    return figures


def leg(url: str, writers: int, entries: int, seconds: float) -> dict[str, Any]:
    """One database; appending and the tree each in a database of their own state, one after the other."""
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as folder, ExitStack() as stack:
        portal = Portal(Path(folder), url)
        stack.callback(portal.end)
        portal.set_up()
        run = ("-m", "tests.bench.audit_leg")
        latencies = json.loads(portal.finished(*run, "append", str(writers), str(seconds)))
        figures = json.loads(portal.finished(*run, "tree", str(entries)))
    p99 = {name: 1000 * float(np.percentile(values, 99)) for name, values in latencies.items()}
    p50 = {name: 1000 * float(np.percentile(values, 50)) for name, values in latencies.items()}
    return {
        "append_per_s": len(latencies["entry"]) / seconds,
        "append_p99_ms": p99["with"] - p99["without"],
        "append_p50_ms": p50["with"] - p50["without"],
        "transaction_p99_ms": p99["with"],
        "writers": writers,
        **figures,
    }


def proofs() -> dict[str, Any]:
    """Bytes of a proof file with five cosignatures at 10M entries; how long one takes to verify at 1M."""
    log = TilesInMemory()
    entry = b'{"id":"an entry"}'
    for number in range(1_000_000):
        log.append(leaf_hash(entry) if number == 333_333 else sha256(number.to_bytes(8, "big")).digest())
    tree = log.tree()
    began = time.perf_counter()
    root = tree(0, tree.size)
    proof, policy = cosigned(tree, 333_333, root)
    made = time.perf_counter() - began
    text = str(proof)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        read = TlogProof.parse(text)
        fits = read.leads_to_its_checkpoint(entry) and policy.is_met_by(set(policy.signers(read.note)))
        times.append(time.perf_counter() - began)
        assert fits
    height = 24  # ceil(log2(10^7)) hashes; the hashes themselves are not needed for the length

    def row(level: int, start: int, end: int) -> list[bytes]:
        return [sha256(f"{level} {index}".encode()).digest() for index in range(start, end)]

    large, _ = cosigned(TiledTree(10_000_000, row), 4_999_999, b"\0" * 32)
    assert len(large.hashes) <= height
    return {
        "proof_bytes_1m": len(text.encode()),
        "proof_bytes_10m": len(str(large).encode()) + 45 * (height - len(large.hashes)),
        "proof_formula": "905 + 45 ⌈log₂ n⌉, and a digit or two,",
        "proof_make_ms_1m": 1000 * made,
        "proof_verify_ms_1m": 1000 * float(np.median(times)),
    }


def cosigned(tree: TiledTree, index: int, root: bytes) -> tuple[TlogProof, Any]:
    key, keys = Ed25519PrivateKey.generate(), [Ed25519PrivateKey.generate() for _ in range(WITNESSES)]
    text = str(Checkpoint(ORIGIN, tree.size, root))
    named = {f"consilium/site-{n:02d}/witness": one for n, one in enumerate(keys)}
    lines = [cosign(text, name, one, 1_790_000_000) for name, one in named.items()]
    note = sign(text, ORIGIN, key).with_signatures(lines)
    witnesses = {name: verifier_key(name, one, COSIGNATURE_V1) for name, one in named.items()}
    return proof_of_entry(tree, index, note), policy_of(verifier_key(ORIGIN, key), witnesses)


def holds(name: str, value: float) -> bool:
    way, bound = BOUNDS[name]
    return value >= bound if way == ">=" else value <= bound


def show(figures: dict[str, Any]) -> None:
    table = Table("figure", figures["database"], "bound", "", "SQLite, one writer")
    for name, (way, bound) in BOUNDS.items():
        verdict = "PASS" if holds(name, figures[name]) else "FAIL"
        beside = figures["sqlite"].get(name)
        table.add_row(
            name, f"{figures[name]:,.1f}", f"{way} {bound:,}", verdict, f"{beside:,.1f}" if beside else ""
        )
    for name in ("proof_bytes_1m", "proof_verify_ms_1m", "proof_make_ms_1m"):
        table.add_row(name, f"{figures[name]:,.2f}", "", "", "")
    for name in ("verify_columns_per_s", "head_ms", "append_p50_ms", "transaction_p99_ms"):
        leg_figures = figures["postgresql"] or figures["sqlite"]
        table.add_row(name, f"{leg_figures[name]:,.1f}", "", "", f"{figures['sqlite'][name]:,.1f}")
    console.print(table)
    console.print(f"A proof among n entries, with five cosignatures, has {figures['proof_formula']} bytes.")
    console.print(figures.get("note", ""))


if __name__ == "__main__":
    sys.exit(main())
