"""Sound audit files of many shapes, and what is done to each: an endless, repeatable stream of cases."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from compliance.bundle import ranges_of
from compliance.evidence_file import evidence_of
from compliance.merkle import subtree_of
from compliance.note import Signature, SignedNote
from compliance.tlog_proof import proof_of_entry
from tests.compliance.crafted import NOW, Log, Parts, entry_of, log_of, witness_name
from tests.compliance.two_verifiers import Case
from tests.prove.audit_forging import FORGERIES, one_of
from tests.prove.audit_leaves import SOUND_LEAVES, STRANGE_LEAVES, true_tree_over
from tests.prove.audit_signing import SIGNINGS
from tests.prove.audit_spoiling import SPOILS, spoil_often

SIZES = (*range(1, 41), *range(1, 41), *range(2, 41, 2), 63, 64, 65, 100, 200)
SITES = (0, 1, 2, 3, 4, 5, 8)
REFUSED = frozenset({1, 2, 3, 4, 5})
VERIFIED, MALFORMED = frozenset({0}), frozenset({4})


@dataclass(frozen=True)
class Base:
    """A sound file: a bundle's parts, or the text of another kind of file with its entry."""

    log: Log
    parts: Parts | None
    case: Case


def bases(count: int, rng: np.random.Generator) -> list[Base]:
    """``count`` sound files: seven bundles of ten, the others proofs of one entry and evidence."""
    logs = [log_of(number, size, SITES[number % len(SITES)], rng) for number, size in enumerate(SIZES)]
    made = []
    for number in range(count):
        log = logs[number % len(logs)]
        kind = number % 10
        make = _evidence if kind == 8 else _proof if kind in (3, 6) else _bundle
        made.append(make(log, rng))
    return made


def _bundle(log: Log, rng: np.random.Generator) -> Base:
    size = len(log.entries)
    spans = [(0, size)]
    if rng.integers(3):
        spans = ranges_of(rng.choice(size, size=int(rng.integers(1, size + 1)), replace=False).tolist())
        spans = spans[: int(rng.integers(1, 9))]
    older = sorted(rng.choice(size, size=int(rng.integers(0, min(5, size) + 1)), replace=False).tolist())
    parts = log.parts(spans, older)
    return Base(log, parts, Case("clean bundle", parts.data(), str(log.policy).encode(), VERIFIED))


def _proof(log: Log, rng: np.random.Generator) -> Base:
    index = int(rng.integers(len(log.entries)))
    proof = proof_of_entry(subtree_of(log.leaves), index, log.signed(len(log.entries), log.names()))
    entry, policy = log.entries[index], str(log.policy).encode()
    return Base(log, None, Case("clean proof", str(proof).encode(), policy, VERIFIED, entry))


def _evidence(log: Log, rng: np.random.Generator) -> Base:
    other = Log(log.number, log.sites, [entry_of(900_003, rng), *log.entries[1:]], log.origin)
    size = int(rng.integers(1, len(log.entries) + 1))
    evidence = evidence_of(log.signed(size), other.signed(len(log.entries)), subtree_of(other.leaves))
    return Base(log, None, Case("clean evidence", str(evidence).encode(), str(log.policy).encode(), VERIFIED))


def families() -> list[tuple[str, Callable[[Base, np.random.Generator], Case | None]]]:
    """Every kind of mutation by its name."""
    return [
        *((name, _spoilt(name)) for name in SPOILS),
        *((name, _forged(name)) for name in [*FORGERIES, *SIGNINGS]),
        *(("several at once", _several), ("entry beside a proof", _entry_file)),
        *(
            ("strange leaf", _strange_leaf),
            ("id twice", _id_twice),
            ("policy", _policy),
            ("options", _options),
        ),
    ]


def mutated(pool: list[Base], rng: np.random.Generator) -> Iterator[Case]:
    """One case after the other, the families in turn; no case twice, and none that changed nothing."""
    seen: set[bytes] = set()
    while True:
        for name, change in families():
            base = one_of(pool, rng)
            case = change(base, rng)
            if case is None or case == base.case:
                continue
            digest = hashlib.sha256(repr(replace(case, family="")).encode()).digest()
            if digest not in seen:
                seen.add(digest)
                yield replace(case, family=name)


def _changed(base: Base, data: bytes) -> Case | None:
    """None when ``data`` says what the sound file says: the order and number of cosignatures in a proof.

    Only a proof has an empty line before them; a bundle's lines would all count as such.
    """
    if not base.case.data.startswith(b"c2sp.org/tlog-proof@v1\n"):
        return replace(base.case, data=data, right=REFUSED) if data != base.case.data else None
    head, _, tail = base.case.data.rpartition(b"\n\n")
    other_head, _, other_tail = data.rpartition(b"\n\n")
    lines, others = tail.splitlines(), other_tail.splitlines()
    if (
        head == other_head
        and set(lines) == set(others)
        and others.count(lines[0]) == 1
        and data.endswith(b"\n")
    ):
        return None
    return replace(base.case, data=data, right=REFUSED)


def _spoilt(name: str) -> Callable[[Base, np.random.Generator], Case | None]:
    def change(base: Base, rng: np.random.Generator) -> Case | None:
        return _changed(base, SPOILS[name](base.case.data, rng))

    return change


def _several(base: Base, rng: np.random.Generator) -> Case | None:
    return _changed(base, spoil_often(base.case.data, rng))


def _forged(name: str) -> Callable[[Base, np.random.Generator], Case | None]:
    forge = {**FORGERIES, **SIGNINGS}[name]

    def change(base: Base, rng: np.random.Generator) -> Case | None:
        forged = None if base.parts is None else forge(base.log, base.parts.copy(), rng)
        if forged is None:
            return None
        return _changed(base, forged.data() if isinstance(forged, Parts) else forged)

    return change


def _entry_file(base: Base, rng: np.random.Generator) -> Case | None:
    entry = base.case.entry
    if entry is None:
        return None
    other = one_of((spoil_often(entry, rng), one_of(base.log.entries, rng), b"", entry + b"\n"), rng)
    return replace(base.case, entry=other, right=REFUSED) if other != entry else None


def _strange_leaf(base: Base, rng: np.random.Generator) -> Case:
    name = one_of(list(STRANGE_LEAVES), rng)
    parts = true_tree_over(base.log, STRANGE_LEAVES[name], int(rng.integers(len(base.log.entries))))
    return replace(base.case, data=parts.data(), entry=None, right=MALFORMED)


def _id_twice(base: Base, rng: np.random.Generator) -> Case | None:
    size = len(base.log.entries)
    if size < 2:
        return None
    first, second = rng.choice(size, size=2, replace=False)
    identifier = base.log.entries[first].split(b'"id":"01k')[1][:16]
    again = entry_of(7, rng, id="01k" + identifier.decode())
    parts = true_tree_over(base.log, again, int(second))
    return replace(base.case, data=parts.data(), entry=None, right=MALFORMED)


def _policy(base: Base, rng: np.random.Generator) -> Case | None:
    """Another log's or another witness's key, a quorum that is not met, a text that is no policy."""
    text, other = base.case.policy.decode(), log_of(99, 1, 8, rng)
    changes = [
        str(other.policy),
        text.replace("log ", "log  x", 1),
        text + "quorum none\n",
        text.replace("quorum ", "quorum x"),
    ]
    changes += [
        "\ufeff" + text,
        text.replace("log ", "witness ", 1),
        text.replace("\n", "\n\n", 1).replace("quorum", "Quorum"),
    ]
    if base.log.sites:
        changes += [text.replace("group sites ", "group sites 0"), _raised(base.log, text)]
        changes += [text.replace(f" {witness_name('site-0')}", f" {witness_name('site-9')}")]
        changes += [text.replace("group sites", "group other")]
    changed = one_of(changes, rng)
    if base.case.family == "clean evidence" and changed == _raised(base.log, text):
        return None  # evidence needs no witness
    return replace(base.case, policy=changed.encode(), right=REFUSED)


def _raised(log: Log, text: str) -> str:
    if log.sites == log.quorum:
        return text.replace("log ", "group nobody 1 x\nlog ")
    return text.replace(f"group sites {log.quorum} ", "group sites all ")


def _options(base: Base, rng: np.random.Generator) -> Case | None:
    """All entries asked of a part; an age that the cosignatures exceed."""
    if base.case.family == "clean evidence" or not base.log.sites:
        return None
    if rng.integers(2):
        return replace(base.case, max_age=int(one_of((0, 1, 59), rng)), right=frozenset({5}))
    whole = base.parts is None and len(base.log.entries) == 1
    if whole or (base.parts is not None and len(base.parts.ranges[0].entries) == len(base.log.entries)):
        return None
    return replace(base.case, complete=True, right=frozenset({3}))


def harmless(pool: list[Base], rng: np.random.Generator) -> Iterator[Case]:
    """What the format lets stand: sound files as they are, and changes that say nothing."""
    while True:
        base = one_of(pool, rng)
        yield base.case
        if base.parts is None:
            continue
        parts = base.parts.copy()
        kind = int(rng.integers(6))
        parts.last = _rearranged(base.log, parts.last, kind, rng)
        if kind == 5:
            name = one_of(list(SOUND_LEAVES), rng)
            parts = true_tree_over(base.log, SOUND_LEAVES[name], 0)
        yield replace(base.case, family="harmless change", data=parts.data())


def spoilt_policies(pool: list[Base], rng: np.random.Generator) -> Iterator[Case]:
    """The auditor's own file, spoilt: some changes say nothing, so only the same answer is right."""
    while True:
        base, spoil = one_of(pool, rng), SPOILS[one_of(list(SPOILS), rng)]
        policy = spoil(base.case.policy, rng)
        yield replace(base.case, family="spoilt policy", policy=policy, right=frozenset(range(6)))


def _rearranged(log: Log, note: SignedNote, kind: int, rng: np.random.Generator) -> SignedNote:
    lines = [*note.signatures]
    if kind == 0:
        lines = [lines[place] for place in rng.permutation(len(lines))]
    if kind == 1:
        lines.insert(
            int(rng.integers(len(lines) + 1)),
            Signature(witness_name("stranger"), rng.bytes(4), rng.bytes(72)),
        )
    if kind == 2:
        lines += [log.cosignature(note.text, name) for name in log.names(log.sites)[log.quorum :]]
    if kind == 3:
        lines += lines[1:]
    if kind == 4 and log.sites:
        lines.append(log.cosignature(note.text, "site-0", time=NOW - 1000))
    return SignedNote(note.text, tuple(lines))
