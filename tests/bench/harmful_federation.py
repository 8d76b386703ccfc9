"""Does the rule see a federation that harms a site, and does it stay silent where nothing is wrong?

``python -m tests.bench.harmful_federation [--full] [--json]``: power over four kinds of harm at one site,
false alarms on exchangeable sites, and null federations (labels by the toss of a coin) declared helpful.
Small: 68 federations; full: a thousand. The candidate is FedAvg's common model against local-only.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binom, binomtest

from fl_jobs.benefit import judge_federation
from tests.bench.small_federations import KINDS, Harm, SiteOutcome, run_federation

CANDIDATE, MARGIN = "global", 0.02
LARGE = 0.05  # a true loss that the rule must see
Federation = list[SiteOutcome]


@dataclass(frozen=True)
class Size:
    """How many federations are trained."""

    shares: tuple[float, ...]
    repeats: int  # for each kind and share
    exchangeable: int
    null: int


SMALL = Size(shares=(0.1, 0.3, 0.5), repeats=3, exchangeable=12, null=20)
FULL = Size(shares=(0.1, 0.2, 0.3, 0.4, 0.5), repeats=30, exchangeable=200, null=200)


@dataclass(frozen=True)
class Point:
    """One kind and share of harm; rates over its federations. True differences in percentage points."""

    kind: str
    share: float
    federations: int
    true_gain: float
    harms: float
    helps: float
    local_proposed: float
    true_gain_others: float
    harms_others: float


@dataclass(frozen=True)
class Claim:
    claim: str
    figure: str
    bound: str
    passed: bool


def measure(size: Size, note: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Train all federations; points of the power curve and the claims that follow."""
    exchangeable = [run_federation(10_000 + number) for number in range(size.exchangeable)]
    note(f"{size.exchangeable} exchangeable federations")
    null = [run_federation(20_000 + number, null=True) for number in range(size.null)]
    note(f"{size.null} null federations")
    harmed: dict[Harm, list[Federation]] = {}
    for kind in KINDS:
        for share in size.shares:
            harm = Harm(kind, share)
            harmed[harm] = [run_federation(number, harm) for number in range(size.repeats)]
        note(kind)
    points = [_point(harm, federations) for harm, federations in harmed.items()]
    claims = [*_false_alarms(exchangeable, null), *_protection(points, harmed)]
    return {
        "points": [asdict(p) for p in points],
        "claims": [asdict(c) for c in claims],
        "size": asdict(size),
    }


def _point(harm: Harm, federations: list[Federation]) -> Point:
    injected = [federation[0] for federation in federations]
    others = [site for federation in federations for site in federation[1:]]
    return Point(
        kind=harm.kind,
        share=harm.share,
        federations=len(federations),
        true_gain=100 * float(np.mean([site.true_gain[CANDIDATE] for site in injected])),
        harms=_rate(_verdict(site) == "harms" for site in injected),
        helps=_rate(_verdict(site) == "helps" for site in injected),
        local_proposed=_rate(site.proposal == "local" for site in injected),
        true_gain_others=100 * float(np.mean([site.true_gain[CANDIDATE] for site in others])),
        harms_others=_rate(_verdict(site) == "harms" for site in others),
    )


def _false_alarms(exchangeable: list[Federation], null: list[Federation]) -> list[Claim]:
    fine = [s for federation in exchangeable for s in federation if s.true_gain[CANDIDATE] >= 0]
    coins = [site for federation in null for site in federation]
    helpful = sum(_judge(federation).is_helpful for federation in null)
    anywhere = sum(bool(_judge(federation).helped) for federation in null)
    return [
        _at_most(
            "exchangeable sites called harmed that are not", [_verdict(s) == "harms" for s in fine], 0.05
        ),
        _at_most(
            "null sites called harmed or helped", [_verdict(s) in ("harms", "helps") for s in coins], 0.05
        ),
        Claim(
            "null federations declared helpful",
            f"{helpful} of {len(null)} (some site helped after Holm: {anywhere})",
            "0",
            helpful == 0,
        ),
        _at_most(
            "null sites where another arm than local-only is proposed",
            [s.proposal != "local" for s in coins],
            0.05,
        ),
    ]


def _protection(points: list[Point], harmed: dict[Harm, list[Federation]]) -> list[Claim]:
    injected = [federation[0] for federations in harmed.values() for federation in federations]
    everyone = [s for federations in harmed.values() for federation in federations for s in federation]
    large = [site for site in injected if site.true_gain[CANDIDATE] <= -LARGE]
    losing = [site for site in injected if site.true_gain[CANDIDATE] <= 0]
    seen = _rate(_verdict(site) == "harms" for site in large)
    unsafe = [site.proposal != "local" and site.true_gain[site.proposal] < -MARGIN for site in everyone]
    falling = [kind for kind in ("own convention", "feature shift") if not _grows(points, kind)]
    return [
        Claim(
            f"sites that truly lose {100 * LARGE:g} points or more: harm flagged",
            f"{seen:.0%} of {len(large)}",
            "≥ 80 %",
            bool(large) and seen >= 0.8,
        ),
        _at_most("sites with a true loss told that it helps", [_verdict(s) == "helps" for s in losing], 0.05),
        _at_most(f"proposed arms that truly lose more than {100 * MARGIN:g} points", unsafe, 0.05),
        Claim(
            "flags of harm from the smallest to the largest share (own convention, feature shift)",
            "falls in " + ", ".join(falling) if falling else "grows",
            "grows",
            not falling,
        ),
    ]


def _grows(points: list[Point], kind: str) -> bool:
    """From one share to the next the rate of flags may fall by chance only; over all of them it grows."""
    rates = [(point.harms, point.federations) for point in points if point.kind == kind]
    steps = pairwise(rates)
    by_chance = all(after * n >= binom.ppf(0.01, n, before) for (before, _), (after, n) in steps)
    return by_chance and rates[-1][0] > rates[0][0]


def _at_most(claim: str, found: list[bool], bound: float) -> Claim:
    """The rate itself must keep the bound; what it could be (95 %, exact) stands beside it."""
    if not found:
        return Claim(claim, "no such site", f"≤ {bound:.0%}", passed=False)
    upper = binomtest(sum(found), len(found), alternative="less").proportion_ci(0.95).high
    figure = f"{sum(found)} of {len(found)} ({_rate(found):.1%}; below {upper:.1%} with 95 %)"
    return Claim(claim, figure, f"≤ {bound:.0%}", _rate(found) <= bound)


def _judge(federation: Federation) -> Any:
    return judge_federation({str(n): site.differences[CANDIDATE] for n, site in enumerate(federation)})


def _verdict(site: SiteOutcome) -> str:
    return site.differences[CANDIDATE].verdict


def _rate(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / len(values) if values else 0.0


def _show(console: Console, figures: dict[str, Any], seconds: float) -> None:
    table = Table(title="Harm at one of four sites; FedAvg against local-only, points of balanced accuracy")
    for name in (
        "harm",
        "share",
        "true gain",
        "flagged harm",
        "said to help",
        "local proposed",
        "others: true",
        "flagged",
    ):
        table.add_column(name, justify="left" if name == "harm" else "right")
    for p in figures["points"]:
        rates = (f"{p[name]:.0%}" for name in ("harms", "helps", "local_proposed"))
        table.add_row(
            p["kind"], f"{p['share']:.0%}", f"{p['true_gain']:+.1f}", *rates,
            f"{p['true_gain_others']:+.1f}", f"{p['harms_others']:.0%}",
        )  # fmt: skip
    console.print(table)
    for claim in figures["claims"]:
        word = "[bold green]PASS[/]" if claim["passed"] else "[bold red]FAIL[/]"
        console.print(f"{word}  {claim['claim']}: {claim['figure']}  (bound: {claim['bound']})")
    console.print(f"{seconds:.0f} s")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.harmful_federation", description=__doc__)
    parser.add_argument("--full", action="store_true", help="five shares, 30 repeats, 200 + 200 federations")
    parser.add_argument("--json", action="store_true", help="figures for a program, on standard output")
    options = parser.parse_args(arguments)
    progress, began = Console(stderr=True, highlight=False), time.monotonic()

    def note(text: str) -> None:
        progress.print(f"[dim]{time.monotonic() - began:5.0f} s  {text}[/]")

    figures = measure(FULL if options.full else SMALL, note)
    if options.json:
        sys.stdout.write(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    else:
        _show(Console(highlight=False, width=150), figures, time.monotonic() - began)
    return 0 if all(claim["passed"] for claim in figures["claims"]) else 1


if __name__ == "__main__":
    sys.exit(main())
