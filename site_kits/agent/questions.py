"""What this site asked about a run before it decides, and what was answered: small files beside the request.

``requests/<run id>/questions/`` holds three files a question: ``<id>.json`` is written by console or command
line, ``<id>.sent.json`` and ``<id>.answer.json`` by the agent. Each is written whole and once, so whoever is
killed between two of them goes on where it stopped. A question decides nothing: the request stays open.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fl_jobs.approval import site_log
from fl_jobs.approval.records import REQUESTS, RUN_ID, Digest, Moment, now, read_plain, run_folder
from fl_jobs.errors import SiteLogError
from fl_jobs.tensor_files import write_bytes
from site_kits.agent.requests import load_request
from site_kits.agent.site_acts import log_act
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome, read_state, write_state
from site_kits.talk import MAX_QUESTION, MOST_QUESTIONS, QUESTION_ID, Answer, Id, plain_text
from site_kits.translation import _

FOLDER: Final = "questions"
_MAX_BYTES: Final = 65_536
_ID: Final = re.compile(QUESTION_ID)


class Question(BaseModel):
    """``<id>.json``. ``person`` stays at the site."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Id
    run_id: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    run_digest: Digest
    text: str = Field(min_length=1, max_length=MAX_QUESTION)
    person: str = Field(default="", max_length=150)
    asked_at: Moment


@dataclass(frozen=True)
class StoredQuestion:
    """A question with what became of it. ``refusal`` is the portal's sentence when it did not take it."""

    id: str
    text: str
    person: str
    asked_at: str
    sent: bool
    refusal: str
    answer: Answer | None


def ask(home: SiteHome, run_id: str, question_id: str, text: str, person: str) -> None:
    """Write a question down; the heartbeat sends it. The same id and text again change nothing.

    Raises AgentError: no such run, no text or too much of it, too many questions, the log takes no entry.
    """
    request = load_request(home, run_id).request
    said = plain_text(text)
    if not said:
        raise AgentError(_("Write your question first; the person who asked for the run reads it."))
    if len(said) > MAX_QUESTION:
        raise AgentError(
            _("The question is longer than {most} characters. Shorten it; nothing was sent.").format(
                most=MAX_QUESTION
            )
        )
    if not _ID.fullmatch(question_id):
        raise AgentError(_("This form is damaged. Open the page again."))
    path = _folder(home, request.run_id) / f"{question_id}.json"
    if (known := _read(path)) is not None:
        if known.text == said:
            return
        raise AgentError(_("This question was written down before. Open the page again to ask another one."))
    if len(_ids(home, request.run_id)) >= MOST_QUESTIONS:
        raise AgentError(
            _("At most {most} questions may be asked about a run. Decide, or call the person.").format(
                most=MOST_QUESTIONS
            )
        )
    question = Question(
        id=question_id, run_id=request.run_id, run_digest=request.run_digest, text=said,
        person=person.strip()[:150], asked_at=now(),
    )  # fmt: skip
    _log(home, "question.asked", request.run_id, request.run_digest, question_id, said)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(path, question.model_dump_json(indent=1).encode(), mode=0o600)


def list_questions(home: SiteHome, run_id: str) -> list[StoredQuestion]:
    """All of a run, the oldest first. Damaged ones are left out."""
    folder, found = _folder(home, run_id), []
    for question_id in _ids(home, run_id):
        asked, answer = _read(folder / f"{question_id}.json"), _read_answer(folder, question_id)
        if asked is None and answer is None:
            continue
        sent = folder / f"{question_id}.sent.json"
        found.append(
            StoredQuestion(
                id=question_id,
                text=asked.text if asked else answer.text if answer else "",
                person=asked.person if asked else "",
                asked_at=asked.asked_at if asked else answer.asked if answer else "",
                sent=answer is not None or sent.exists(),
                refusal=str(read_state(sent).get("answer", "")),
                answer=answer,
            )
        )
    return sorted(found, key=lambda one: one.asked_at)


def talk_state(questions: list[StoredQuestion]) -> str:
    """Of a run's questions: "" (none) · asked (one waits for an answer) · answered."""
    if not questions:
        return ""
    return "asked" if any(one.answer is None and not one.refusal for one in questions) else "answered"


def unsent(home: SiteHome) -> list[Question]:
    """What the portal has not answered for, over all runs; found by names, so that hundreds cost nothing."""
    found = []
    for path in sorted((home.root / REQUESTS).glob(f"*/{FOLDER}/*.json")):
        is_question = _ID.fullmatch(path.stem) and RUN_ID.fullmatch(path.parent.parent.name)
        if not is_question or path.with_suffix(".sent.json").exists():
            continue
        question = _read(path)
        if question is not None and question.run_id == path.parent.parent.name:
            found.append(question)
    return sorted(found, key=lambda one: one.asked_at)


def note_taken(home: SiteHome, question: Question, refusal: str = "") -> None:
    """The portal has this question; ``refusal`` is its sentence when it did not take it."""
    path = _folder(home, question.run_id) / f"{question.id}.sent.json"
    write_state(path, {"answer": refusal})


def answers_here(home: SiteHome, run_id: str) -> int | None:
    """How many answers about a run are on this disk; None for a run that this site does not know."""
    if not (run_folder(home.root, run_id) / "request.json").exists():
        return None
    return len(list(_folder(home, run_id).glob("*.answer.json")))


def keep_answer(home: SiteHome, run_id: str, answer: Answer) -> bool:
    """Put an answer beside its question; False when it is there. Raises AgentError when nothing was kept."""
    path = _folder(home, run_id) / f"{answer.id}.answer.json"
    if path.exists():
        return False
    digest = load_request(home, run_id).request.run_digest
    _log(home, "question.answered", run_id, digest, answer.id, answer.answer)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(path, answer.model_dump_json(indent=1).encode(), mode=0o600)
    return True


def _log(home: SiteHome, act: str, run_id: str, digest: str, question_id: str, text: str) -> None:
    """An entry cannot be erased, so it holds the text's pseudonym: the site can prove it, nobody guess it."""
    try:
        mark = site_log.pseudonym(home.root, text.encode())
    except SiteLogError as error:
        raise AgentError(str(error)) from error
    log_act(home, act, run=run_id, obj=digest, question=question_id, text=mark)


def _folder(home: SiteHome, run_id: str) -> Path:
    return run_folder(home.root, run_id) / FOLDER


def _ids(home: SiteHome, run_id: str) -> list[str]:
    names = {path.name.partition(".")[0] for path in _folder(home, run_id).glob("*.json")}
    return sorted(name for name in names if _ID.fullmatch(name))


def _read(path: Path) -> Question | None:
    try:
        return Question.model_validate_json(read_plain(path, _MAX_BYTES))
    except (OSError, ValidationError):
        return None


def _read_answer(folder: Path, question_id: str) -> Answer | None:
    try:
        return Answer.model_validate_json(read_plain(folder / f"{question_id}.answer.json", _MAX_BYTES))
    except (OSError, ValidationError):
        return None
