"""Small partitions in PFLlib's manner for tests."""

import json

import numpy as np


def write_partition(folder, sizes=(30, 22, 41), *, shape=(1, 8, 8), seed=0, test=9):
    """Sites whose label is where an input is brightest; ``sizes`` are their training cases."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text(json.dumps({"name": folder.name}))
    generator = np.random.default_rng(seed)
    for number, size in enumerate(sizes):
        x = generator.normal(size=(size + test, *shape)).astype(np.float32)
        y = generator.integers(0, 3, size + test)
        x.reshape(len(x), -1)[np.arange(len(x)), y * 3] += 3
        np.savez(
            folder / f"client_{number:02d}.npz",
            x_train=x[:size], y_train=y[:size], x_test=x[size:], y_test=y[size:],
        )  # fmt: skip
    return folder
