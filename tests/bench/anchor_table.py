"""``python -m tests.bench.anchor_table ROWS``: kept rows of ``tests.bench.anchors`` as a Markdown table."""

import json
import sys
from pathlib import Path

from tests.bench.anchors import BOUNDS, mean, points, ratios, verdicts

HEAD = (
    "| partition | method | seeds | last five, ours / PFLlib | difference (90 % interval) | shown "
    "| best − best | honest | CPU | evaluation | memory |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def as_markdown(rows):
    lines = [HEAD]
    for line in verdicts(rows):
        mine = [r for r in rows if (r["partition"], r["algorithm"]) == (line["partition"], line["algorithm"])]
        share = ratios(mine)
        interval = f" ({line['low']:+.2%} … {line['high']:+.2%})" if "low" in line else ""
        cells = (
            line["partition"], line["algorithm"], str(len(mine)),
            f"{mean(mine, 'last_five')} / {mean(mine, 'pfllib_last_five')}",
            f"{points(line.get('difference'))}{interval}", line["shown"],
            points(line.get("best_difference")), mean(mine, "honest"),
            *(f"{share[key]['median']:.2f}×" if key in share else "–" for key in BOUNDS),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for key, value in ratios(rows).items():
        lines.append(f"{key}: median {value['median']:.2f}, worst row {value['worst']:.2f} (≤ {BOUNDS[key]})")
    return "\n".join(lines)


def main(arguments):
    if len(arguments) != 1:
        return refuse("Use: python -m tests.bench.anchor_table ROWS, a file of tests.bench.anchors --keep")
    path = Path(arguments[0])
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        table = as_markdown([json.loads(line) for line in lines])
    except OSError as error:
        return refuse(f"{path} cannot be read ({error.strerror}). Name the file that --keep wrote.")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return refuse(f"{path} holds a line that is no row ({error!r}). Remove it, or measure again.")
    if not lines:
        return refuse(f"{path} has no row. Measure with tests.bench.anchors --keep.")
    print(table)
    return 0


def refuse(sentence):
    print(sentence, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
