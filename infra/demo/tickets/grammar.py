"""Makes the requests of one province from the words in ``topics.toml`` and ``provinces.toml``.

What makes the provinces differ: the mix of departments, the wording, the place names, and for the topics
marked ambiguous where a request goes. What keeps the task from being trivial: a second matter in the same
request, requests that hardly say what they are about, typing errors, and a share that was filed wrongly.
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SHORTEST, LONGEST = 15, 150  # characters of a request
REQUESTS_PER_CALLER = ((1, 2, 3, 4, 5), (0.5, 0.25, 0.13, 0.08, 0.04))
SAME_MATTER = 0.4  # a caller's next request is about the matter of the one before
SECOND_MATTER = 0.18
CURT = 0.12  # no greeting, no time, no place
EFFECTS = ((0, 1, 2, 4), (0.35, 0.40, 0.15, 0.10))  # sentences about what it does to people
SHORT_OF_WORDS = 0.10  # says the complaint without the thing, or nothing but the wish
FILED_WRONGLY = 0.05  # the label is not what the province's convention says
TYPING_ERRORS = 0.35  # of the callers
MANNERS = (("polite", "plain", "angry"), (0.35, 0.45, 0.20))
MISTYPED = {
    "的": "得", "在": "再", "已": "以", "他": "她", "做": "作", "账": "帐", "坐": "座", "那": "哪",
    "到": "倒", "有": "友", "收": "受", "费": "废", "路": "陆", "修": "休", "是": "事", "停": "听",
}  # fmt: skip


@dataclass(frozen=True)
class Ticket:
    """One request as a hotline keeps it: what was said, who filed it where, and whose it is."""

    text: str
    department: str
    caller: str
    topic: str


@cache
def _topics() -> dict[str, dict[str, Any]]:
    return {topic["name"]: topic for topic in _read("topics.toml")["topic"]}


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))


DEPARTMENTS: tuple[str, ...] = tuple(dict.fromkeys(topic["department"] for topic in _topics().values()))
PROVINCES: dict[str, str] = {
    name: entry["title"] for name, entry in _read("provinces.toml")["province"].items()
}


def routing(province: str) -> dict[str, str]:
    """Where the province sends each topic."""
    own = _read("provinces.toml")["province"][province]["routing"]
    return {name: own.get(name, topic["department"]) for name, topic in _topics().items()}


def write_tickets(province: str, count: int, *, seed: int) -> list[Ticket]:
    """``count`` requests of a province, the same for the same seed; a caller's requests stand together."""
    words = list(PROVINCES).index(province)
    return list(_Province(province, np.random.default_rng([seed, words])).tickets(count))


class _Province:
    """The callers of one province."""

    def __init__(self, name: str, generator: np.random.Generator) -> None:
        self.name, self.generator = name, generator
        self.common = _read("provinces.toml")["common"]
        self.own = _read("provinces.toml")["province"][name]
        self.routing = routing(name)
        weights = np.array([self.own["mix"].get(self.routing[topic], 1.0) for topic in _topics()])
        self.shares = weights / weights.sum()

    def tickets(self, count: int) -> Iterator[Ticket]:
        made, caller = 0, 0
        while made < count:
            caller += 1
            for ticket in self._caller(f"{self.name}-{caller:05d}")[: count - made]:
                made += 1
                yield ticket

    def _caller(self, caller: str) -> list[Ticket]:
        numbers, shares = REQUESTS_PER_CALLER
        manner = str(self.generator.choice(MANNERS[0], p=MANNERS[1]))
        road, corner = map(str, self.generator.permutation(self.own["roads"])[:2])
        home = {"road": road, "corner": corner, "district": self._one(self.own["districts"])}
        home["community"] = self._one(self.own["communities"])
        errors = self._happens(TYPING_ERRORS)
        topic, made = "", []
        for _ in range(int(self.generator.choice(numbers, p=shares))):
            if not topic or not self._happens(SAME_MATTER):
                topic = str(self.generator.choice(list(_topics()), p=self.shares))
            text = self._request(topic, manner, home)
            made.append(Ticket(self._mistype(text) if errors else text, self._file(topic), caller, topic))
        return made

    def _file(self, topic: str) -> str:
        if self._happens(FILED_WRONGLY):
            return self._one([name for name in DEPARTMENTS if name != self.routing[topic]])
        return self.routing[topic]

    def _request(self, name: str, manner: str, home: dict[str, str]) -> str:
        """Parts are left out from the end until the request is short enough, or said again if too short."""
        slots = home | self._numbers()
        topic = _topics()[name]
        openers = [*self.common[f"openers_{manner}"], *self.own["openers"]]
        closers = [*self.common[f"closers_{manner}"], *self.own["closers"]]
        short = self._happens(CURT)
        start = (
            ""
            if short
            else self._one(openers) + self._one(self.common["times"]) + self._one(self.common["places"])
        )
        count = int(self.generator.choice(EFFECTS[0], p=EFFECTS[1]))
        effects = self.generator.permutation(self.common["effects"])[: 0 if short else count]
        parts = [start + self._complaint(topic), *map(str, effects)]
        if self._happens(SECOND_MATTER):
            other = _topics()[str(self.generator.choice(list(_topics())))]
            parts.append(
                self._one(self.common["links"]) + self._one(other["things"]) + self._one(other["troubles"])
            )
        parts.append(self._one(self.common["asks"]).replace("{wish}", self._one(topic["wishes"])))
        closer = "" if short else self._one(closers)
        while True:
            text = (
                self._in_own_words("，".join(part for part in parts if part).format(**slots)) + "。" + closer
            )
            if len(text) <= LONGEST:
                break
            parts.pop(1)
        return text if len(text) >= SHORTEST else f"{text}{self._one(self.common['vague'])}。"

    def _complaint(self, topic: dict[str, Any]) -> str:
        if not self._happens(SHORT_OF_WORDS):
            return self._one(topic["things"]) + self._one(topic["troubles"])
        return self._one(self.common["vague"] if self._happens(0.4) else topic["troubles"])

    def _in_own_words(self, text: str) -> str:
        """Most callers, not all, use their province's word for a thing."""
        for word, own in self.own["words"].items():
            if word in text and self._happens(0.7):
                text = text.replace(word, own)
        return text

    def _mistype(self, text: str) -> str:
        """One or two errors: a like-sounding character, one too many, one too few, two turned round."""
        for _ in range(int(self.generator.integers(1, 3))):
            at = int(self.generator.integers(1, len(text) - 1))
            kind = int(self.generator.integers(4))
            sounding = [place for place, character in enumerate(text) if character in MISTYPED]
            if kind == 0 and sounding:
                at = sounding[int(self.generator.integers(len(sounding)))]
                text = text[:at] + MISTYPED[text[at]] + text[at + 1 :]
            elif kind == 1 and len(text) < LONGEST:
                text = text[:at] + text[at] + text[at:]
            elif kind == 2 and len(text) > SHORTEST:
                text = text[:at] + text[at + 1 :]
            else:
                text = text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
        return text

    def _numbers(self) -> dict[str, int]:
        ranges = {
            "line": (1, 99), "minutes": (15, 70), "money": (50, 9000), "days": (2, 30), "months": (2, 18),
            "number": (2, 20), "hour": (1, 12), "price": (5, 60),
        }  # fmt: skip
        return {name: int(self.generator.integers(*ends)) for name, ends in ranges.items()}

    def _happens(self, share: float) -> bool:
        return bool(self.generator.random() < share)

    def _one(self, choices: Sequence[str]) -> str:
        return choices[int(self.generator.integers(len(choices)))]
