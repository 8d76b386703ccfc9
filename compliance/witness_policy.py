"""Whose signatures a checkpoint needs, in the text format of C2SP's tlog-policy: one log, one quorum.

A policy reads::

    log KEY
    witness NAME KEY
    group NAME THRESHOLD MEMBER…        # THRESHOLD: a number, any, all
    quorum NAME                         # a witness, a group, or none

A URL may stand behind a key; ``#`` begins a comment line; words stand apart by spaces or tabs. A name is
declared before it is used and is a member of at most one group, so that nobody is counted twice.
With n witnesses, a quorum of q and f of them on the platform's side, two contradicting checkpoints can both
reach the quorum only if f ≥ 2q − n; n − q may be offline.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from compliance.note import (
    COSIGNATURE_V1,
    ED25519,
    NoteError,
    SignedNote,
    VerifierKey,
    decode_number,
    verify,
)

MAX_POLICY_BYTES = 65_536
MAX_WITNESSES = MAX_GROUPS = 32
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,126}")
Group = tuple[int, tuple[str, ...]]


class PolicyTextError(ValueError):
    """A witness policy is malformed; the sentence names the line."""


@dataclass(frozen=True)
class WitnessPolicy:
    """The log's key, its witnesses' keys, and what must have co-signed."""

    log: VerifierKey
    witnesses: Mapping[str, VerifierKey]
    groups: Mapping[str, Group]
    quorum: str  # name of a witness or group; "none" asks for no witness

    @classmethod
    def parse(cls, text: str) -> "WitnessPolicy":
        """Raises PolicyTextError, which names the line."""
        if len(text.encode(errors="replace")) > MAX_POLICY_BYTES:
            raise PolicyTextError(f"A witness policy has at most {MAX_POLICY_BYTES} bytes.")
        if _CONTROL.search(text):
            raise PolicyTextError("A witness policy holds no control characters; lines end in one line feed.")
        reader = _Reader()
        for number, line in enumerate(text.split("\n"), start=1):
            words = [word for word in re.split("[ \t]", line) if word]
            if words and not words[0].startswith("#"):
                try:
                    reader.take(words)
                except (NoteError, PolicyTextError) as error:
                    raise PolicyTextError(f"Line {number}: {error}") from error
        return reader.finished()

    def signers(self, note: SignedNote) -> dict[str, int]:
        """Witness → second of its cosignature. Raises NoteError when a line of a known witness does not fit.

        Lines of unknown keys are skipped, as signed notes ask; a witness counts once, with its first line.
        """
        found: dict[str, int] = {}
        for name, key in self.witnesses.items():
            for line in note.by(key):
                found.setdefault(name, verify(note.text, line, key))
        return found

    def is_met_by(self, names: set[str]) -> bool:
        """Whether these witnesses are a quorum."""
        return self.quorum == "none" or self._is_met(self.quorum, names)

    def _is_met(self, name: str, names: set[str]) -> bool:
        if name in self.witnesses:
            return name in names
        threshold, members = self.groups[name]
        return sum(self._is_met(member, names) for member in members) >= threshold

    def __str__(self) -> str:
        lines = [f"log {self.log}"]
        lines += [f"witness {name} {key}" for name, key in self.witnesses.items()]
        lines += [f"group {name} {k} {' '.join(members)}" for name, (k, members) in self.groups.items()]
        return "\n".join([*lines, f"quorum {self.quorum}", ""])


def policy_of(log: VerifierKey, witnesses: Mapping[str, VerifierKey]) -> WitnessPolicy:
    """The platform's rule: all but a quarter, at least all but one, must have co-signed; none asks nobody.

    n = 3, 4, 5, 8 gives q = 2, 3, 4, 6: one, one, one, two may be offline.
    """
    count = len(witnesses)
    if not count:
        return WitnessPolicy(log, MappingProxyType({}), MappingProxyType({}), "none")
    quorum = max(1, count - max(1, count // 4)) if count > 1 else 1
    groups = MappingProxyType({"sites": (quorum, tuple(sorted(witnesses)))})
    return WitnessPolicy(log, MappingProxyType(dict(sorted(witnesses.items()))), groups, "sites")


class _Reader:
    """Lines of a policy, in their order: a name is used only after it was declared, so there is no cycle."""

    def __init__(self) -> None:
        self.log: VerifierKey | None = None
        self.witnesses: dict[str, VerifierKey] = {}
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None
        self.free: set[str] = set()  # names that are a member of no group yet

    def take(self, words: list[str]) -> None:
        if words[0] == "log" and len(words) in (2, 3) and self.log is None:
            self.log = _key(words[1], ED25519)
        elif words[0] == "witness" and len(words) in (3, 4) and len(self.witnesses) < MAX_WITNESSES:
            self.witnesses[self._new(words[1])] = _key(words[2], COSIGNATURE_V1)
        elif words[0] == "group" and len(words) >= 4 and len(self.groups) < MAX_GROUPS:
            group = self._group(words[2], words[3:])
            self.groups[self._new(words[1])] = group
        elif words[0] == "quorum" and len(words) == 2 and self.quorum is None:
            if words[1] != "none" and words[1] not in {*self.witnesses, *self.groups}:
                raise PolicyTextError(f"{words[1]} is not declared above.")
            self.quorum = words[1]
        else:
            raise PolicyTextError(
                "expected one of: log KEY, witness NAME KEY, group NAME N MEMBER…, quorum NAME."
            )

    def finished(self) -> WitnessPolicy:
        if self.log is None or self.quorum is None:
            raise PolicyTextError("A witness policy names one log and one quorum.")
        keys = {key.public for key in (self.log, *self.witnesses.values())}
        if len(keys) != len(self.witnesses) + 1:
            raise PolicyTextError("A key stands twice in the witness policy.")
        return WitnessPolicy(
            self.log, MappingProxyType(self.witnesses), MappingProxyType(self.groups), self.quorum
        )

    def _new(self, name: str) -> str:
        if not _WORD.fullmatch(name) or name == "none" or name in {*self.witnesses, *self.groups}:
            raise PolicyTextError(f"{name} is no name, or is declared twice.")
        self.free.add(name)
        return name

    def _group(self, threshold: str, members: list[str]) -> Group:
        words = {"any": 1, "all": len(members)}
        number = words.get(threshold) or decode_number(threshold)
        if not 1 <= number <= len(members):
            raise PolicyTextError("A threshold is any, all, or a number from 1 to the number of members.")
        for member in members:
            if member not in self.free:
                raise PolicyTextError(f"{member} is not declared above, or is a member already.")
            self.free.discard(member)
        return number, tuple(members)


def _key(text: str, kind: int) -> VerifierKey:
    key = VerifierKey.parse(text)
    if key.kind != kind:
        raise PolicyTextError(f"The key of {key.name} is of the wrong kind.")
    return key
