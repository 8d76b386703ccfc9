"""Which group goes to training, validation and test: fixed when data is registered, the same everywhere.

The rule. A group (a patient, an image) is never divided. Each group belongs to the stratum of its most
frequent label (the first of the list when two are equally frequent). Within a stratum the groups stand in
the order of SHA-256(seed, group) and are cut 60/20/20 by number:

- three groups or more: validation and test get at least one each; the rest trains;
- two groups: one trains, one tests; one group: it trains.

When that leaves validation or test without any group, all groups are cut as one stratum; with fewer than
three groups in all the data set is refused. A given ``part`` is kept: rows marked "test" (or "validation")
stay there, and the groups without a mark are cut among training and the parts no row was marked for.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from fl_jobs.data.tables import PARTS, Row, Table
from fl_jobs.errors import DataError

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def split_groups(table: Table, labels: Sequence[str], seed: int) -> dict[str, str]:
    """The part of every group. Raises DataError when groups are too few or a given part divides one."""
    given = _given_parts(table)
    free = {row.group for row in table.rows} - given.keys()
    open_parts = tuple(part for part in PARTS if part == "train" or part not in set(given.values()))
    parts = given | _cut_strata(_strata(table.rows, free, labels, seed), open_parts)
    if missing := _missing(parts):
        parts = given | _cut(sorted(free, key=lambda group: _rank(seed, group)), open_parts)
        missing = _missing(parts)
    if missing:
        raise DataError(
            "%(file)s has %(count)s group(s); none is left for %(part)s. Add cases of at least three "
            "patients (or images).",
            file=table.path.name, count=len(parts), part=missing[0],
        )  # fmt: skip
    return parts


def _given_parts(table: Table) -> dict[str, str]:
    given: dict[str, str] = {}
    for row in table.rows:
        if row.part and given.setdefault(row.group, row.part) != row.part:
            raise DataError(
                "group “%(group)s” is in %(one)s and in %(other)s. Put all its rows into one part.",
                where=table.where(row), group=row.group[:40], one=given[row.group], other=row.part,
            )  # fmt: skip
    return given


def _strata(rows: Sequence[Row], free: set[str], labels: Sequence[str], seed: int) -> list[list[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.group in free:
            counts[row.group][row.label] += 1
    strata: dict[str, list[str]] = {label: [] for label in labels}
    for group, found in counts.items():
        strata[max(labels, key=lambda label: found[label])].append(group)
    return [sorted(groups, key=lambda group: _rank(seed, group)) for groups in strata.values()]


def _rank(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{group}".encode()).digest()


def _cut_strata(strata: list[list[str]], open_parts: tuple[str, ...]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for groups in strata:
        parts |= _cut(groups, open_parts)
    return parts


def _cut(groups: list[str], open_parts: tuple[str, ...]) -> dict[str, str]:
    """Cut one stratum among the open parts; the training part is never left empty."""
    total = sum(SHARES[part] for part in open_parts)
    parts: dict[str, str] = {}
    rest = list(groups)
    for part in ("test", "validation"):
        if part not in open_parts or len(rest) < 2:
            continue
        if part == "validation" and len(groups) < 3 and "test" in open_parts:
            continue
        wanted = max(1, round(len(groups) * SHARES[part] / total))
        take, rest = rest[-wanted:], rest[:-wanted]
        parts |= dict.fromkeys(take, part)
    return parts | dict.fromkeys(rest, "train")


def _missing(parts: dict[str, str]) -> list[str]:
    return [part for part in PARTS if part not in set(parts.values())]
