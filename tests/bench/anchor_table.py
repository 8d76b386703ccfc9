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


if __name__ == "__main__":
    kept = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    print(as_markdown([json.loads(line) for line in kept]))
