"""What a site may ask about a run before it decides, and what comes back: limits and forms on the wire.

Texts are typed by people and may name people: they go to the page that shows them and to erasable bodies of
the audit log, never into a process's log.
"""

import unicodedata
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_QUESTION: Final = 1000  # characters
MAX_ANSWER: Final = 2000
MOST_QUESTIONS: Final = 20  # of one site about one run
MAX_TALK_BYTES: Final = 2**20
QUESTION_ID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_ROOM: Final = 4 * MAX_ANSWER  # so that the sentence about a text that is too long can be said
Id = Annotated[str, StringConstraints(pattern=QUESTION_ID)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class QuestionBody(_Frozen):
    """The body of ``POST /agent/v1/requests/<run>/questions``. Who asked stays at the site."""

    id: Id
    run_digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    text: Annotated[str, StringConstraints(min_length=1, max_length=_ROOM)]


class Answer(_Frozen):
    """A question of this site that was answered. Empty texts: erased at the portal since."""

    id: Id
    text: str = Field(max_length=MAX_QUESTION)
    asked: str = Field(max_length=40)  # UTC, ISO 8601, by the portal's clock
    answer: str = Field(max_length=MAX_ANSWER)
    answered: str = Field(max_length=40)
    by: str = Field(max_length=150)


class Answers(_Frozen):
    """The answer to ``GET /agent/v1/requests/<run>/answers``."""

    answers: Annotated[tuple[Answer, ...], Field(max_length=MOST_QUESTIONS)]


def plain_text(text: str) -> str:
    """``text`` in Unicode form C without control characters, ends of lines as ``\\n``, trimmed."""
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    kept = (sign for sign in lines if sign in "\n\t" or unicodedata.category(sign) not in {"Cc", "Cs"})
    return "".join(kept).strip()
