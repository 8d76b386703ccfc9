"""Two verifiers that share no line judge the same mutated audit files: both refuse every one, and alike.

Item 2 of ``make prove TOPIC=audit``; ``python -m tests.prove.audit_mutations [N]`` runs it alone.
"""

import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from tests.compliance.two_verifiers import Case, FileVerifier, PageVerifier, file_verifier
from tests.platform_web.browser.conftest import ARGUMENTS, CHROMIUM
from tests.prove.audit_cases import bases, families, harmless, mutated, spoilt_policies
from tests.prove.proof import Proof, console
from tests.prove.running import FOLDER

CASES = {True: 100_000, False: 2_000}
BATCH, POOL, SEED = 250, 450, 6


@dataclass
class Tally:
    """What both verifiers said; ``kept`` holds the first cases that were judged wrongly or otherwise."""

    count: int = 0
    alike: int = 0
    right: int = 0
    exits: Counter[int] = field(default_factory=Counter)
    families: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    kept: list[tuple[Case, tuple[int, str], tuple[int, str]]] = field(default_factory=list)

    def judge(self, cases: Iterable[Case], file: FileVerifier, page: PageVerifier) -> None:
        batch = list(cases)
        began = time.monotonic()
        theirs = page.exits(batch)
        between = time.monotonic()
        ours = [file.exit(case) for case in batch]
        self.seconds += Counter({"page": between - began, "file": time.monotonic() - between})
        for case, one, other in zip(batch, ours, theirs, strict=True):
            self.count += 1
            self.families[case.family] += 1
            self.exits[one[0]] += 1
            self.alike += one[0] == other[0]
            self.right += one[0] in case.right and other[0] in case.right
            if one[0] != other[0] or one[0] not in case.right:
                self.wrong[case.family] += 1
                self.kept += [(case, one, other)] if len(self.kept) < 500 else []

    def keep(self, folder: Path) -> None:
        """The files of what went wrong, to be looked at."""
        for number, (case, one, other) in enumerate(self.kept):
            place = folder / f"{number:03d}-{case.family.replace(' ', '-')}"
            place.mkdir(parents=True, exist_ok=True)
            (place / "source").write_bytes(case.data)
            (place / "policy").write_bytes(case.policy)
            (place / "entry").write_bytes(case.entry or b"")
            asked = {"complete": case.complete, "max_age": case.max_age, "right": sorted(case.right)}
            said = {"verify.py": one, "verifier.html": other, **asked}
            (place / "said.json").write_text(json.dumps(said, indent=1), encoding="utf-8")


def campaign(proof: Proof, *, count: int, seed: int = SEED) -> None:
    """``count`` mutated files and a tenth as many sound ones."""
    if not CHROMIUM.exists():
        proof.check("2", "Chromium for the second verifier", "not installed", "installed", passed=False)
        return
    rng = np.random.default_rng(seed)
    pool = bases(POOL, rng)
    spoilt, sound, policies = Tally(), Tally(), Tally()
    with sync_playwright() as playwright, file_verifier() as file:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = PageVerifier(browser.new_page())
        for batch in _batches(harmless(pool, rng), max(count // 10, len(pool))):
            sound.judge(batch, file, page)
        for batch in _batches(spoilt_policies(pool, rng), count // 20):
            policies.judge(batch, file, page)
        for batch in _batches(mutated(pool, rng), count):
            spoilt.judge(batch, file, page)
            if spoilt.count % 10_000 == 0:
                console.print(
                    f"[dim]      2    {spoilt.count:,} judged, {spoilt.count - spoilt.alike} otherwise[/]"
                )
        browser.close()
    for tally, name in ((spoilt, "mutated"), (sound, "sound"), (policies, "policies")):
        tally.keep(FOLDER / "audit-mutations" / name)
    report(proof, spoilt, sound, policies)


def report(proof: Proof, spoilt: Tally, sound: Tally, policies: Tally) -> None:
    tallies = {"mutated": spoilt, "sound": sound, "policies": policies}
    figure = f"{spoilt.right:,} of {spoilt.count:,} in {len(spoilt.families)} families"
    claim = "mutated files, no two alike, refused by both verifiers"
    proof.check("2", claim, figure, "all", spoilt.right == spoilt.count)
    declared = {name for name, _change in families()}
    idle = sorted(declared - spoilt.families.keys())
    figure = f"{len(declared) - len(idle)} of {len(declared)} {', '.join(idle)}".strip()
    proof.check("2", "declared families with a case", figure, "all", not idle)
    figure = f"{sound.right:,} of {sound.count:,}"
    proof.check("2", "sound files verified by both", figure, "all", sound.right == sound.count)
    alike, count = (sum(getattr(one, name) for one in tallies.values()) for name in ("alike", "count"))
    claim = f"same exit code from both, {policies.count:,} spoilt policies included"
    proof.check("2", claim, f"{alike:,} of {count:,}", "all", alike == count)
    codes = ", ".join(f"exit {code}: {number:,}" for code, number in sorted(spoilt.exits.items()))
    proof.note("2", f"mutated: {codes}; fewest cases in a family: {min(spoilt.families.values()):,}")
    for name, tally in tallies.items():
        times = ", ".join(f"{one} {spent:.0f} s" for one, spent in tally.seconds.items())
        proof.note("2", f"{name}: {times}" + (f"; wrong: {dict(tally.wrong)}" if tally.wrong else ""))


def _batches(cases: Iterator[Case], count: int) -> Iterator[list[Case]]:
    for start in range(0, count, BATCH):
        yield list(itertools.islice(cases, min(BATCH, count - start)))


if __name__ == "__main__":
    alone = Proof("audit-mutations")
    campaign(alone, count=int(sys.argv[1]) if len(sys.argv) > 1 else CASES[False])
    sys.exit(alone.close(FOLDER))
