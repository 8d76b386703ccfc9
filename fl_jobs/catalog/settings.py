"""One typed setting of an algorithm or a model: what a form asks, what a specification holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fl_jobs.errors import SpecError

Value = bool | int | float | str
Checked = int | float | str
_DIGEST = re.compile(r"([0-9A-Fa-f]{64})(?:\s+\*?(\S[^\x00-\x1f]{0,79}))?")


@dataclass(frozen=True)
class HyperParameter:
    """A number. ``per_kind`` holds the defaults that were tuned for a kind of task."""

    name: str
    title: str
    type: type[int] | type[float]
    default: int | float
    minimum: int | float
    maximum: int | float
    help: str
    per_kind: Mapping[str, int | float] = field(default_factory=dict)

    def default_for(self, kind: str | None) -> int | float:
        return self.per_kind.get(kind or "", self.default)

    def check(self, value: Value, owner: str) -> int | float:
        """Return ``value`` as this setting's type. Raises SpecError with the allowed range."""
        wanted = "a whole number" if self.type is int else "a number"
        fits = isinstance(value, int) if self.type is int else isinstance(value, int | float)
        if isinstance(value, bool) or not fits:
            raise SpecError(f"{owner}: “{self.name}” must be {wanted}, not {value!r}. Correct it.")
        if not self.minimum <= float(value) <= self.maximum:  # NaN fails too
            raise SpecError(
                f"{owner}: “{self.name}” is {value}; choose a value from {self.minimum} to {self.maximum}."
            )
        return self.type(value)


@dataclass(frozen=True)
class Choice:
    """One of a few words. ``options``: the word that stands in a specification, and how it is called."""

    name: str
    title: str
    options: Mapping[str, str]
    default: str
    help: str
    per_kind: Mapping[str, str] = field(default_factory=dict)

    def default_for(self, kind: str | None) -> str:
        return self.per_kind.get(kind or "", self.default)

    def check(self, value: Value, owner: str) -> str:
        """Return ``value`` if it is an option. Raises SpecError with the options."""
        if not isinstance(value, str) or value not in self.options:
            raise SpecError(f"{owner}: “{self.name}” is {value!r}; choose one of: {', '.join(self.options)}.")
        return value


@dataclass(frozen=True)
class Digest:
    """A file that sites keep themselves, named by its SHA-256; a name for people may follow.

    What ``sha256sum`` prints can be pasted. Empty: no file.
    """

    name: str
    title: str
    help: str
    default: str = ""

    def default_for(self, kind: str | None) -> str:
        del kind
        return self.default

    def check(self, value: Value, owner: str) -> str:
        """Return the digest in small letters, a space and the name. Raises SpecError."""
        if value == "":
            return ""
        match = _DIGEST.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise SpecError(
                "%(owner)s: “%(name)s” must be the SHA-256 of a file, 64 digits of 0–9 and a–f, and may go "
                "on with its name. Paste what sha256sum prints, or leave it empty.",
                owner=owner,
                name=self.title,
            )
        return f"{match[1].lower()} {(match[2] or '').strip()}".strip()


Setting = HyperParameter | Choice | Digest


def fill(
    owner: str, known: tuple[Setting, ...], values: Mapping[str, Value], kind: str | None
) -> dict[str, Checked]:
    """All settings of ``known``, defaults filled in. Raises SpecError for an unknown name or a bad value."""
    names = {setting.name for setting in known}
    for name in values:
        if name not in names:
            raise SpecError(f"{owner} has no setting “{name}”. Remove it; known: {', '.join(sorted(names))}.")
    return {
        setting.name: setting.check(values.get(setting.name, setting.default_for(kind)), owner)
        for setting in known
    }
