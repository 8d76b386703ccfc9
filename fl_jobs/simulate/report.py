"""What a simulation leaves behind: a CSV of all rows, and a plot of the accuracies as SVG."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from html import escape
from pathlib import Path
from statistics import fmean

from rich.table import Table

from fl_jobs.packaging.spec import AnalysisSpec
from fl_jobs.simulate.folds import Choice
from fl_jobs.simulate.simulation import Row

WIDTH, HEIGHT, EDGE = 720, 400, 48
COLOURS = {"local": "#8a8a8a", "global": "#2f6db5", "personal": "#c0392b"}
Curve = dict[int, float]


def choice_table(found: Mapping[str, Choice], analysis: AnalysisSpec) -> Table:
    """Each arm's gain over local-only at each site, in points; the sites pooled; the arm to use."""
    title = f"{analysis.endpoint.replace('_', ' ')}, points over local-only ± standard error"
    names = ("site", "arm", "here", "pooled", "P(gain)", f"P(loss > {100 * analysis.margin:g})", "use")
    table = Table(*names, title=title)
    for site, choice in found.items():
        for arm, gain in choice.gains.items():
            pooled = choice.pooled[arm]
            table.add_row(
                site, arm, f"{100 * gain.value:+.1f} ± {100 * gain.error:.1f}",
                f"{100 * pooled.value:+.1f} ± {100 * pooled.deviation:.1f}",
                f"{pooled.p_gain:.0%}", f"{pooled.p_harm:.0%}", choice.arm if arm == choice.arm else "",
            )  # fmt: skip
        if choice.arm not in choice.gains:
            table.add_row(site, choice.arm, "", "", "", "", choice.arm)
    return table


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line per seed, measured round and arm; an empty cell where a site has no such part."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow([field.name for field in fields(Row)])
        for row in rows:
            writer.writerow(["" if value is None else _short(value) for value in astuple(row)])


def write_plot(path: Path, rows: Sequence[Row], title: str) -> None:
    """Accuracy by round, mean over seeds: test as a line, validation dashed."""
    curves = {(arm, part): _curve(rows, arm, part) for arm in COLOURS for part in ("test", "validation")}
    path.write_text(_svg({key: curve for key, curve in curves.items() if curve}, title), encoding="utf-8")


def _short(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


def _curve(rows: Sequence[Row], arm: str, part: str) -> Curve:
    found: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        value = row.test_accuracy if part == "test" else row.validation_accuracy
        if row.arm == arm and value is not None:
            found[row.round].append(value)
    return {number: fmean(values) for number, values in sorted(found.items())}


def _svg(curves: Mapping[tuple[str, str], Curve], title: str) -> str:
    last = max((max(curve) for curve in curves.values()), default=1) or 1
    right, bottom = WIDTH - EDGE, HEIGHT - EDGE

    def point(number: float, accuracy: float) -> str:
        x = EDGE + (right - EDGE) * number / last
        return f"{x:.1f},{bottom - (bottom - EDGE) * accuracy:.1f}"

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{EDGE}" y="24" font-size="14">{escape(title)}</text>',
        f'<text x="{right}" y="{HEIGHT - 12}" text-anchor="end">round</text>',
    ]
    for tenth in range(0, 11, 2):
        y = bottom - (bottom - EDGE) * tenth / 10
        lines.append(f'<line x1="{EDGE}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{EDGE - 6}" y="{y + 4:.1f}" text-anchor="end">{tenth * 10} %</text>')
    for number in sorted({0, last // 2, last}):
        x = point(number, 0).partition(",")[0]
        lines.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{number}</text>')
    for place, ((arm, part), curve) in enumerate(curves.items()):
        dash = ' stroke-dasharray="5 4"' if part == "validation" else ""
        style = f'fill="none" stroke="{COLOURS[arm]}" stroke-width="2"{dash}'
        points = " ".join(point(number, accuracy) for number, accuracy in curve.items())
        y = bottom - 12 - 16 * place
        lines.append(f'<polyline {style} points="{points}"/>')
        lines.append(f'<line {style} x1="{right - 150}" x2="{right - 120}" y1="{y - 4}" y2="{y - 4}"/>')
        lines.append(f'<text x="{right - 114}" y="{y}">{arm}, {part}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
