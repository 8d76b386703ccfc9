"""Whose signatures a checkpoint needs, in the text format of C2SP's tlog-policy: one log, one quorum.

A policy reads::

    log KEY [URL]
    witness NAME KEY [URL]
    group NAME THRESHOLD MEMBER…        # THRESHOLD: a number, any, all
    quorum NAME                         # a witness, a group, or none

``#`` begins a comment line. Words are parted by spaces and tabs; what is not ASCII stands in comments and
addresses only. Nobody counts twice: a name is member of one group at most, and no key stands twice, because
an Ed25519 cosignature does not say whose it is.

With n witnesses, a quorum of q and f of them on the platform's side, two contradicting checkpoints can both
reach the quorum only if f ≥ 2q − n; n − q may be offline.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from compliance.note import COSIGNATURE_V1, ED25519, NoteError, SignedNote, VerifierKey, decode_number, verify

MAX_POLICY_BYTES = 65_536
MAX_WITNESSES = MAX_GROUPS = 32
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
        reader = _Reader()
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                if words := _words(line):
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

    def take(self, words: list[str]) -> None:
        if words[0] == "log" and len(words) in (2, 3) and self.log is None:
            self.log = _key(words[1], ED25519)
        elif words[0] == "witness" and len(words) in (3, 4) and len(self.witnesses) < MAX_WITNESSES:
            self.witnesses[self._new(words[1])] = _key(words[2], COSIGNATURE_V1)
        elif words[0] == "group" and len(words) >= 4 and len(self.groups) < MAX_GROUPS:
            name = self._new(words[1])
            self.groups[name] = self._group(words[2], words[3:])
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
        keys = [self.log.public, *(key.public for key in self.witnesses.values())]
        if len(set(keys)) != len(keys):
            raise PolicyTextError("Two signers have the same key.")
        return WitnessPolicy(
            self.log, MappingProxyType(self.witnesses), MappingProxyType(self.groups), self.quorum
        )

    def _new(self, name: str) -> str:
        if not _WORD.fullmatch(name) or name == "none" or name in {*self.witnesses, *self.groups}:
            raise PolicyTextError(f"{name} is no name, or is declared twice.")
        return name

    def _group(self, threshold: str, members: list[str]) -> Group:
        taken = {name for _, others in self.groups.values() for name in others}
        unknown = [one for one in members if one not in {*self.witnesses, *self.groups} - taken]
        if unknown or len(set(members)) != len(members):
            raise PolicyTextError(
                f"{' '.join(unknown) or 'A member'} is not declared above, or stands twice."
            )
        words = {"any": 1, "all": len(members)}
        number = words.get(threshold) or decode_number(threshold)
        if not 1 <= number <= len(members):
            raise PolicyTextError("A threshold is any, all, or a number from 1 to the number of members.")
        return number, tuple(members)


def _key(text: str, kind: int) -> VerifierKey:
    key = VerifierKey.parse(text)
    if key.kind != kind:
        raise PolicyTextError(f"The key of {key.name} is of the wrong kind.")
    return key


def _words(line: str) -> list[str]:
    """None in a comment."""
    if re.search("[\x00-\x08\x0a-\x1f\x7f]", line):
        raise PolicyTextError("control characters are not allowed.")
    words = [word for word in re.split("[ \t]", line) if word]
    return [] if words and words[0].startswith("#") else words
