"""Our methods on PFLlib's partitions, beside PFLlib itself (``--pfllib DIR``) or its stored results.

``python -m tests.bench.anchors [--json] [--pfllib DIR] [--seeds N] [--jobs N] [--keep FILE] [--small] …``

Accuracy is Σ correct ÷ Σ test cases over all sites, measured after the download and before local training, as
PFLlib does. "last five" is the mean of the last five measurements. Side by side both start from the same
weights and see the cases in the same order (only the short last batch of a pass is dropped there and counted
by its share here), so seeds are pairs; against stored results they are not. Equivalent or better: the
one-sided 95 % lower bound of (ours − PFLlib's) lies above −1 point; equivalent: the 90 % interval lies within
±1 point.
"honest" is our test accuracy at the round with the best accuracy on a fifth of the training cases held out.
Each run is a process of its own with one thread; the two sides take turns. ``--keep FILE`` writes rows down
as they are measured and measures none of them again, unless a source file behind them has changed: a campaign
takes hours. ``--again N`` draws N of the kept rows and measures them anew, in place of what was kept; their
field "again" says by how much the two sides' curves moved (by nothing on the same kind of processor).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scipy import stats

from tests.bench.again import drawn
from tests.bench.anchor_cells import METHODS, network_of
from tests.bench.kept_rows import KeptRows, commit_of, processor

REPOSITORY = Path(__file__).resolve().parents[2]
ROUNDS = {"digits": 50, "mnist": 20}
EVERY = {"digits": 5, "mnist": 1}  # PFLlib's measurements cost as much as its training
BOUNDS = {"cpu": 0.8, "evaluation": 0.3, "rss": 0.8}
MARGIN = 0.01
COLUMNS = ("partition", "algorithm", "seed", "best", "pfllib_best", "cpu_s_per_round",
           "pfllib_cpu_s_per_round", "rss_mb")  # fmt: skip


def data_folder():
    return Path(os.environ.get("CONSILIUM_DATA", REPOSITORY.parent / "shared" / "data")) / "pfllib"


def ours(partition, method, *, rounds, seed, validation=0.0, start="", authors_way=False):
    cell = {
        "partition": str(partition), "algorithm": method.ours, "settings": method.our_settings,
        "rounds": rounds, "seed": seed, "validation": validation, "stacked": "auto", "start": start,
        "authors_way": authors_way,
    }  # fmt: skip
    return run([sys.executable, "-m", "tests.bench.anchor_cells", json.dumps(cell)])


def theirs(checkout, partition, method, *, rounds, seed, start, every=0):
    network = network_of(partition)
    return run([
        sys.executable, str(REPOSITORY / "tests" / "bench" / "pfllib_driver.py"), "--pfllib", str(checkout),
        "--partition", str(partition), "--algorithm", method.theirs, "--network", network,
        "--rounds", str(rounds), "--every", str(every or EVERY[network]), "--seed", str(seed),
        "--settings", json.dumps(method.their_settings), "--start", start,
    ])  # fmt: skip


def run(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} …: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def rows_of(options):
    """Rows of the cells asked for: first those kept, then ``--jobs`` at a time as they are measured."""
    kept = KeptRows(options.keep)
    known = known_rows(kept.rows, options)
    asked = list(cells(options))
    repeated = set(drawn({key: row["processor"] for key, row in known.items()}, options.again))
    for partition, method, seed, _ in asked:
        if (key := (partition.name, method.tag, seed)) in known and key not in repeated:
            yield known[key]
    missing = [
        one for one in asked if (key := (one[0].name, one[1].tag, one[2])) not in known or key in repeated
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in as_completed([pool.submit(cell, *one, options) for one in missing]):
            row = done.result()
            key = (row["partition"], row["algorithm"], row["seed"])
            if key in repeated:
                row["again"] = moved(known[key], row)
            else:
                kept.add(row)
            yield row


def known_rows(rows, options):
    """The kept rows that are asked for and that today's code and peer would measure, by cell."""
    peer = commit_of(options.pfllib) if options.pfllib else ""
    asked = {(partition.name, method.tag, seed): method for partition, method, seed, _ in cells(options)}
    found = {}
    for row in rows:
        key = (row["partition"], row["algorithm"], row["seed"])
        if key in asked and row["rounds"] == rounds_of(key[0], options) and row["peer"] == peer:
            found[key] = row
    codes = {tag: code_of(asked[key]) for tag, key in {key[1]: key for key in found}.items()}
    return {key: row for key, row in found.items() if row["code"] == codes[key[1]]}


def code_of(method):
    """The digest of the source files behind a cell of ``method``: one round of it tells which they are."""
    smallest = next(data_folder().glob("digits_*/meta.json")).parent
    with tempfile.TemporaryDirectory() as scratch:
        return ours(smallest, method, rounds=1, seed=0, start=str(Path(scratch) / "start.npz"))["code"]


def moved(before, after):
    """The largest change of a point of our curve and of PFLlib's, and whether the processor is the same."""
    change = {"same_processor": before["processor"] == after["processor"]}
    for name in ("curve", "pfllib_curve"):
        pairs = zip(before[name] or [], after[name] or [], strict=True)
        change[name] = max((abs(one - other) for one, other in pairs), default=0.0)
    return change


def rounds_of(partition_name, options):
    return options.rounds or ROUNDS[network_of(Path(partition_name))]


def cells(options):
    """Partition, method, seed and the stored result, of each cell that is asked for."""
    stored = json.loads((data_folder() / "anchor_results.json").read_text())["pfllib"]
    for partition in sorted(path.parent for path in data_folder().glob("*/meta.json")):
        if options.partitions and partition.name not in options.partitions:
            continue
        known = [one for one in stored if one["dataset"] == partition.name]
        for method in METHODS:
            tagged = {one["seed"]: one for one in known if one["tag"] == method.tag}
            if tagged and (not options.only or method.tag in options.only):
                for seed in range(options.seeds * method.seeds):
                    yield partition, method, seed, tagged.get(seed)


def cell(partition, method, seed, stored, options):
    network, rounds = network_of(partition), rounds_of(partition.name, options)
    with tempfile.TemporaryDirectory() as scratch:
        start = str(Path(scratch) / "start.npz")
        mine = ours(partition, method, rounds=rounds, seed=seed, start=start)
        peer = None
        if options.pfllib:
            peer = theirs(options.pfllib, partition, method, rounds=rounds, seed=seed, start=start)
    honest = None
    if options.honest is None or seed < options.honest:
        honest = ours(partition, method, rounds=rounds, seed=seed, validation=0.2)
    row = {"partition": partition.name, "algorithm": method.tag, "seed": seed, "side_by_side": bool(peer),
           "rounds": rounds, "code": mine["code"], "processor": processor(), "load": os.getloadavg()[0],
           "peer": commit_of(options.pfllib) if options.pfllib else ""}  # fmt: skip
    if peer is None and stored is not None and rounds == ROUNDS[network]:
        peer = {
            "curve": stored["curve"], "cpu_s_per_round": stored.get("cpu_s_per_round_train"),
            "cpu_s_per_evaluation": stored.get("cpu_s_per_round_eval"), "rss_mb": stored["peak_rss_mb"],
        }  # fmt: skip
    return row | _figures(mine, peer, honest, EVERY[network])


def _figures(mine, peer, honest, every):
    curve = mine["curve"][::every]
    if peer is not None:  # the same rounds on both sides
        curve = mine["curve"][:: max(1, (len(mine["curve"]) - 1) // (len(peer["curve"]) - 1))]
    row = {"best": max(curve), "last_five": statistics.fmean(curve[-5:]), "stacked": mine["stacked"]}
    for name in ("cpu_s_per_round", "cpu_s_per_evaluation", "rss_mb"):
        row[name] = mine[name]
        row[f"pfllib_{name}"] = peer and peer[name]
    row["curve"], row["pfllib_curve"] = curve, peer and peer["curve"]
    row["pfllib_best"] = peer and max(peer["curve"])
    row["pfllib_last_five"] = peer and statistics.fmean(peer["curve"][-5:])
    if honest is not None:
        chosen = max(range(len(honest["curve"])), key=lambda place: honest["validation_curve"][place])
        row["honest"], row["honest_round"] = honest["curve"][chosen], chosen
    return row


def verdicts(rows):
    """One line per partition and method: difference of the last five, its interval, what is shown."""
    lines = []
    for key in dict.fromkeys((row["partition"], row["algorithm"]) for row in rows):
        chosen = [row for row in rows if (row["partition"], row["algorithm"]) == key]
        pairs = [(r["last_five"], r["pfllib_last_five"]) for r in chosen if r["pfllib_last_five"] is not None]
        line = {"partition": key[0], "algorithm": key[1], "seeds": len(pairs), "shown": "not tested"}
        if pairs:
            line["difference"] = statistics.fmean(one - other for one, other in pairs)
            best = [(row["best"], row["pfllib_best"]) for row in chosen if row["pfllib_best"] is not None]
            line["best_difference"] = statistics.fmean(one - other for one, other in best)
        if len(pairs) >= 2:
            paired = all(row["side_by_side"] for row in chosen)
            line["low"], line["high"] = _interval(pairs, paired=paired)
            line["shown"] = shown(line["low"], line["high"])
        lines.append(line)
    return lines


def shown(low, high):
    """What a 90 % interval of (ours − PFLlib's) shows by two one-sided tests at 5 %."""
    if low > -MARGIN:
        return "equivalent" if high < MARGIN else "equivalent or better"
    return "worse" if high < -MARGIN else "not shown"


def _interval(pairs, *, paired):
    """The 90 % interval of the mean difference: Student's over pairs, else Welch's."""
    one, other = ([pair[side] for pair in pairs] for side in (0, 1))
    if paired:
        differences = [a - b for a, b in pairs]
        spread = statistics.stdev(differences) / len(pairs) ** 0.5
        middle = statistics.fmean(differences)
        if spread == 0:
            return middle, middle
        return tuple(map(float, stats.t.interval(0.9, len(pairs) - 1, middle, spread)))
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.9)
    return float(interval.low), float(interval.high)


def ratios(rows):
    """Medians over cells of ours ÷ PFLlib's, where both ran side by side."""
    both = [row for row in rows if row["side_by_side"]]
    names = {"cpu": "cpu_s_per_round", "evaluation": "cpu_s_per_evaluation", "rss": "rss_mb"}
    found = {key: [row[name] / row[f"pfllib_{name}"] for row in both] for key, name in names.items()}
    return {key: {"median": statistics.median(v), "worst": max(v)} for key, v in found.items() if v}


def show(rows, console):
    table = Table(
        "partition", "method", "seeds", "last five", "PFLlib", "difference", "90 % interval", "shown",
        "best − best", "honest", "CPU ratio", "evaluation", "RSS",
    )  # fmt: skip
    for line in verdicts(rows):
        chosen = [
            r for r in rows if (r["partition"], r["algorithm"]) == (line["partition"], line["algorithm"])
        ]
        share = ratios(chosen)
        interval = f"{line['low']:+.2%} … {line['high']:+.2%}" if "low" in line else "–"
        table.add_row(
            line["partition"], line["algorithm"], str(len(chosen)), mean(chosen, "last_five"),
            mean(chosen, "pfllib_last_five"), points(line.get("difference")), interval, line["shown"],
            points(line.get("best_difference")), mean(chosen, "honest"),
            *(f"{share[key]['median']:.2f}" if key in share else "–" for key in BOUNDS),
        )  # fmt: skip
    console.print(table)
    for key, value in ratios(rows).items():
        verdict = "PASS" if value["median"] <= BOUNDS[key] else "FAIL"
        console.print(f"{verdict}  {key}: median {value['median']:.2f}, worst cell {value['worst']:.2f} "
                      f"(bound: {BOUNDS[key]})")  # fmt: skip


def mean(rows, name):
    values = [row[name] for row in rows if row.get(name) is not None]
    return f"{statistics.fmean(values):.2%}" if values else "–"


def points(value):
    return "–" if value is None else f"{value:+.2%}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one row per line, nothing else")
    parser.add_argument("--pfllib", type=Path, help="a checkout of PFLlib, outside the tree")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time; a cell uses one core")
    parser.add_argument("--keep", type=Path, help="a file; rows in it are not measured again")
    parser.add_argument(
        "--again", type=int, default=0, help="so many kept rows are measured again all the same"
    )
    parser.add_argument("--rounds", type=int, default=0, help="default: digits 50, mnist3k 20")
    parser.add_argument("--only", nargs="*", default=[], help="tags, as in anchor_results.json")
    parser.add_argument("--partitions", nargs="*", default=[])
    parser.add_argument("--honest", type=int, help="seeds with the second, honest protocol; default: all")
    parser.add_argument("--small", action="store_true", help="two methods, one partition, one seed, 6 rounds")
    options = parser.parse_args(arguments)
    if options.small:
        options.seeds, options.rounds = 1, 6
        options.only, options.partitions = ["FedAvg", "FedPer"], ["digits_a01_c10"]
    if not (data_folder() / "anchor_results.json").exists():
        print(f"{data_folder()} has no anchor_results.json. Set CONSILIUM_DATA.", file=sys.stderr)
        return 2
    rows = []
    for row in rows_of(options):
        rows.append(row)
        if options.json:
            print(json.dumps({name: row.get(name) for name in (*COLUMNS, *row)}), flush=True)
    if not options.json:
        show(rows, Console(width=170))
    return 0


if __name__ == "__main__":
    sys.exit(main())
