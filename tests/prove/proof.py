"""One line per claim: what, figure, bound, PASS or FAIL."""

import json
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

console = Console(highlight=False, width=150)


@dataclass(frozen=True)
class Line:
    item: str
    claim: str
    figure: str
    bound: str
    passed: bool


@dataclass
class Proof:
    """Collects the lines of a topic; a check that raises is a FAIL with its sentence."""

    topic: str
    lines: list[Line] = field(default_factory=list)

    def check(self, item: str, claim: str, figure: object, bound: str, passed: bool) -> None:
        line = Line(item, claim, str(figure), bound, passed)
        self.lines.append(line)
        verdict = "[bold green]PASS[/]" if passed else "[bold red]FAIL[/]"
        console.print(f"{verdict}  {item:<4} {claim}: {figure}  (bound: {bound})")

    def note(self, item: str, text: str) -> None:
        """A figure without a bound, or what was not measured: it neither passes nor fails."""
        console.print(f"      {item:<4} {text}")

    def run(self, steps: Mapping[str, Callable[[], None]], only: Iterable[str], folder: Path) -> int:
        """Each step that is asked for (all, if none is); the exit status."""
        wanted = set(only) or set(steps)
        for item, step in steps.items():
            if item in wanted:
                self.section(item, step)
        return self.close(folder)

    def section(self, item: str, step: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a broken check is a failed claim, the others go on
            console.print(traceback.format_exc(), style="dim")
            self.check(
                item,
                "the check itself",
                figure=f"{type(error).__name__}: {error}",
                bound="runs",
                passed=False,
            )
        console.print(f"[dim]      {item} took {time.monotonic() - began:.0f} s[/]")

    def close(self, folder: Path) -> int:
        failed = [line for line in self.lines if not line.passed]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.topic}.json").write_text(
            json.dumps([asdict(line) for line in self.lines], indent=1, ensure_ascii=False), encoding="utf-8"
        )
        console.print(f"{len(self.lines) - len(failed)} passed, {len(failed)} failed")
        return 1 if failed or not self.lines else 0
