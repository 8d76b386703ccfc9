"""Smuggling through the result filter that NVFlare calls at a site: more than was declared does not leave."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.shareable import Shareable

from fl_jobs.approval.egress import read_lines
from fl_jobs.errors import SharedStateError
from fl_jobs.flare import wire
from fl_jobs.flare.site_filter import SharedTensorFilter
from fl_jobs.messages import SUM_NAMES, Contribution, TaskOrder
from fl_jobs.packaging.spec import RunSpec
from tests.approvals import STANDING, approve, deploy, write_policy
from tests.e2e.cytology import run_spec
from tests.prove.proof import Proof


def prove_smuggling(proof: Proof, root: Path, count: int) -> None:
    """Results that carry more than was declared, through the filter that NVFlare calls."""
    spec, home = run_spec(rounds=2), root / "smuggler"
    write_policy(home, STANDING + "[output]\nshare_site_metrics = false\nmax_answer_bytes = 100000\n")
    run_id = approve(home, spec)
    (home / "site.json").write_text("{}")
    context = _context(deploy(home / "app", spec, run_id))
    passed: Counter[str] = Counter()
    with _site_home(home):
        SharedTensorFilter().process(_result(spec), context)
        for number in range(count):
            chance = np.random.default_rng(number)
            for name, smuggle in SMUGGLED.items():
                try:
                    out = SharedTensorFilter().process(smuggle(spec, chance), context)
                except SharedStateError:
                    continue
                passed[name] += wire.TEXT_KEY in out
    tries = count * len(SMUGGLED)
    figure = f"{sum(passed.values())} of {tries} left ({len(SMUGGLED)} ways) {dict(passed) or ''}".strip()
    proof.check("4", "smuggling results that leave the site", figure, "0", passed=not passed.total())
    proof.check(
        "4", "the meter names what left, and nothing else", f"{len(list(read_lines(home)))} line", "1",
        passed=len(list(read_lines(home))) == 1,
    )  # fmt: skip
    proof.note(
        "4", "The bits of a declared float32 are the run's own: masks and privacy bound what they tell."
    )


@contextmanager
def _site_home(home: Path) -> Iterator[None]:
    before = os.environ.get("CONSILIUM_SITE_HOME")
    os.environ["CONSILIUM_SITE_HOME"] = str(home)
    try:
        yield
    finally:
        del os.environ["CONSILIUM_SITE_HOME"]
        if before is not None:
            os.environ["CONSILIUM_SITE_HOME"] = before


def _context(app: Path) -> Any:
    workspace = SimpleNamespace(get_app_dir=lambda _job: str(app))
    return SimpleNamespace(
        get_job_id=lambda: "job",
        get_engine=lambda: SimpleNamespace(get_workspace=lambda: workspace),
        get_prop=lambda key: "train" if key == FLContextKey.TASK_NAME else None,
    )


def _result(spec: RunSpec, **changes: Any) -> Shareable:
    tensors = {name: np.zeros(tensor.shape, np.float32) for name, tensor in spec.shared().items()}
    sums = {arm: dict.fromkeys(SUM_NAMES["train"], 1.0) for arm in spec.arms()}
    metrics = {"sums": sums, "initial_sha256": "0" * 64, "site": None} | changes.pop("metrics", {})
    contribution = Contribution(
        tensors | changes.pop("tensors", {}), {"samples": 9.0, "one": 1.0} | changes.pop("lanes", {}), metrics
    )
    shareable = wire.contribution_to_shareable(contribution, TaskOrder("train", 1), spec.digest())
    text = json.loads(shareable[wire.TEXT_KEY]) | changes
    shareable[wire.TEXT_KEY] = json.dumps(text)
    return shareable


def _first(spec: RunSpec) -> tuple[str, tuple[int, ...]]:
    name, tensor = next(iter(sorted(spec.shared().items())))
    return name, tensor.shape


def _rows(chance: np.random.Generator, *shape: int) -> Any:
    return chance.normal(size=shape or (30, 30)).astype(np.float32)


SMUGGLED: dict[str, Callable[[RunSpec, np.random.Generator], Shareable]] = {
    "extra tensor": lambda s, c: _result(s, tensors={f"personal/rows{c.integers(9)}": _rows(c)}),
    "local-only tensor": lambda s, c: _result(
        s, tensors={"local" + _first(s)[0][6:]: _rows(c, *_first(s)[1])}
    ),
    "wrong shape": lambda s, c: _result(s, tensors={_first(s)[0]: _rows(c, 1 + int(c.integers(99)), 7)}),
    "oversized": lambda s, c: _result(s, tensors={_first(s)[0]: _rows(c, 400, 400)}),
    "transposed": lambda s, c: _result(s, tensors={_first(s)[0]: _rows(c, *_first(s)[1], 1)}),
    "not a number": lambda s, c: _result(
        s, tensors={_first(s)[0]: np.full(_first(s)[1], np.nan, np.float32)}
    ),
    "integers": lambda s, c: _result(s, tensors={_first(s)[0]: c.integers(9, size=_first(s)[1])}),
    "double precision": lambda s, c: _result(s, tensors={_first(s)[0]: np.ones(_first(s)[1])}),
    "integer bits in a sum": lambda s, c: _result(
        s, metrics={"sums": {"global": {"train_loss": int.from_bytes(c.bytes(400), "big") | 2**3000}}}
    ),
    "integer bits in a weight": lambda s, c: _result(
        s, lanes={"samples": int.from_bytes(c.bytes(99), "big")}
    ),
    "integer bits in the round": lambda s, c: _result(s, round=int.from_bytes(c.bytes(99), "big") | 2**700),
    "words in the phase": lambda s, c: _result(s, phase=c.bytes(30).hex()),
    "words in a digest": lambda s, c: _result(s, metrics={"initial_sha256": c.bytes(30).hex()}),
    "a sum nobody declared": lambda s, c: _result(
        s, metrics={"sums": {"global": {f"p{c.integers(99)}": 1.0}}}
    ),
    "a key beside": lambda s, c: _result(s, note=c.bytes(30).hex()),
    "the site's own figures": lambda s, c: _result(
        s, metrics={"site": {"trained": {"rows": c.bytes(9).hex()}}}
    ),
    "another run's digest": lambda s, c: _result(s, run=c.bytes(32).hex()),
}
