"""Asking before deciding, at the site: written, sent once, answered, logged; killed in between."""

import json
import logging
import os
import signal
import subprocess
import sys
import uuid

import pytest

from compliance.canonical import parse_canonical
from fl_jobs.approval import site_log
from site_kits.agent.__main__ import main
from site_kits.agent.questions import ask, list_questions
from site_kits.agent.requests import list_requests
from site_kits.errors import AgentError
from site_kits.talk import MAX_QUESTION, MOST_QUESTIONS
from tests.site_kits.console_doubles import Operator
from tests.site_kits.site_doubles import Portal, environment
from tests.site_kits.test_approvals import SPEC, agent, problems  # noqa: F401 — the fixture
from tests.site_kits.test_approvals import ask as ask_the_site

TEXT = "Does Mr Zhang, room 4, count twice?"


@pytest.fixture
def run_id(agent, portal):  # noqa: F811
    asked = ask_the_site(portal)
    assert agent.beat()
    return asked


def answer(portal: Portal, run_id: str, text: str = "Once; by patient.") -> None:
    """The portal's people answer the newest question."""
    body = portal.questions[-1][1]
    portal.answers.setdefault(run_id, []).append(
        {"id": body["id"], "text": body["text"], "asked": "2026-12-01T00:00:00+00:00", "answer": text,
         "answered": "2026-12-01T00:05:00+00:00", "by": "dana"}
    )  # fmt: skip


def entries(home):
    log = site_log.open_log(home.root, site_log.datetime.now(site_log.UTC).year)
    found = [parse_canonical(leaf) for leaf in log.leaves(0, log.size())]
    return [entry for entry in found if entry["act"].startswith("question.")]


def test_the_question_goes_out_once_and_the_answer_stands_beside_it(agent, home, portal, run_id, caplog):  # noqa: F811
    caplog.set_level(logging.DEBUG)
    ask(home, run_id, str(uuid.uuid4()), TEXT, "olaf")
    assert not list_questions(home, run_id)[0].sent
    for _ in range(2):
        assert agent.beat()
    ((named, body),) = portal.questions
    assert (named, body["run_digest"], body["text"]) == (run_id, SPEC.digest(), TEXT)
    assert "olaf" not in json.dumps(body)
    answer(portal, run_id)
    agent.beat()
    ask(home, run_id, str(uuid.uuid4()), "And at the other sites?", "olaf")  # a second round
    agent.beat()
    answer(portal, run_id, "The same.")
    agent.beat()
    assert [one.answer.answer for one in list_questions(home, run_id)] == ["Once; by patient.", "The same."]
    assert list_requests(home)[0].decision is None, "asked is not decided"
    said = entries(home)
    assert [entry["act"] for entry in said] == ["question.asked", "question.answered"] * 2
    assert {entry["obj"] for entry in said} == {SPEC.digest()}
    assert {entry["job"] for entry in said} == {run_id}
    assert "Zhang" not in json.dumps(said)
    assert "Zhang" not in caplog.text
    assert "Once" not in caplog.text


def test_killed_between_writing_and_sending_it_is_sent_by_the_next_start(agent, home, portal, run_id):  # noqa: F811
    program = (
        "import os,signal,sys;from pathlib import Path;from site_kits.site_home import SiteHome;"
        "from site_kits.agent.questions import ask;"
        "ask(SiteHome(Path(sys.argv[1])), sys.argv[2], sys.argv[3], 'Why?', '');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", program, str(home.root), run_id, str(uuid.uuid4())]
    assert subprocess.run(command, env=environment(), check=False).returncode == -signal.SIGKILL
    assert portal.questions == []
    agent.beat()
    assert [body["text"] for _, body in portal.questions] == ["Why?"]


def test_killed_between_sending_and_noting_it_is_sent_again_under_the_same_id(agent, home, portal, run_id):  # noqa: F811
    ask(home, run_id, str(uuid.uuid4()), "Why?", "")
    agent.beat()
    (sent,) = home.root.glob("requests/*/questions/*.sent.json")
    os.unlink(sent)
    agent.beat()
    assert len({body["id"] for _, body in portal.questions}) == 1
    assert len(portal.questions) == 2


def test_a_portal_that_is_away_gets_it_later_and_one_that_says_no_is_not_asked_for_ever(
    agent,  # noqa: F811
    home,
    portal,
    run_id,
):
    portal.question_answer = (503, {"detail": "Busy."})
    ask(home, run_id, str(uuid.uuid4()), "Why?", "")
    agent.beat()
    assert problems(home)["questions"] == "Busy."
    portal.question_answer = (409, {"detail": "The run has ended.", "code": "refused"})
    for _ in range(3):
        agent.beat()
    assert len(portal.questions) == 2
    assert list_questions(home, run_id)[0].refusal == "The run has ended."
    assert "questions" not in problems(home)


def test_answers_that_are_rubbish_or_of_no_request_here_change_nothing(agent, home, portal, run_id):  # noqa: F811
    portal.answers = {run_id: [{"id": "../../x", "answer": "x"}], str(uuid.uuid4()): [1]}
    agent.beat()
    assert "not of this version" in problems(home)["answers"]
    assert list_questions(home, run_id) == []


def test_limits(home, run_id):
    same = str(uuid.uuid4())
    ask(home, run_id, same, " x\r\ny\x00\x07 ", "")
    ask(home, run_id, same, "x\ny", "")
    assert [one.text for one in list_questions(home, run_id)] == ["x\ny"]
    assert len(entries(home)) == 1
    for question_id, text, words in [
        (same, "other", "written down before"),
        (str(uuid.uuid4()), "x" * (MAX_QUESTION + 1), "longer than 1000"),
        (str(uuid.uuid4()), " \n ", "Write your question"),
        ("../../etc", "x", "damaged"),
    ]:
        with pytest.raises(AgentError, match=words):
            ask(home, run_id, question_id, text, "")
    for _ in range(MOST_QUESTIONS - 1):
        ask(home, run_id, str(uuid.uuid4()), "x", "")
    with pytest.raises(AgentError, match="At most 20"):
        ask(home, run_id, str(uuid.uuid4()), "x", "")


def test_on_the_page_a_double_click_asks_once_and_markup_stays_text(agent, home, portal, run_id):  # noqa: F811
    operator = Operator(home)
    operator.get(f"/runs/{run_id}/")
    form = {"digest": SPEC.digest(), "question": str(uuid.uuid4()), "text": "<b>Why?</b>", "person": "Olaf"}
    for _ in range(2):
        assert operator.post(f"/runs/{run_id}/ask", **form).headers["location"].endswith("#questions")
    page = operator.get(f"/runs/{run_id}/").text
    assert "&lt;b&gt;Why?" in page
    assert "The request stays open" in page
    assert "asked, no answer yet" in operator.get("/runs/").text
    agent.beat()
    assert len(portal.questions) == 1
    answer(portal, run_id, "<i>Because.</i>")
    agent.beat()
    page = operator.get(f"/runs/{run_id}/").text
    assert "dana answered" in page
    assert "&lt;i&gt;Because." in page
    assert "answered: read it" in operator.get("/runs/").text
    operator.post(f"/runs/{run_id}/ask", **form | {"digest": "0" * 64, "question": str(uuid.uuid4())})
    assert "changed meanwhile" in operator.get(f"/runs/{run_id}/").text
    assert len(list_questions(home, run_id)) == 1


def test_from_the_command_line(agent, home, portal, run_id, capsys):  # noqa: F811
    call = ["--home", str(home.root)]
    assert main([*call, "ask", run_id[:8], "--question", "Why?"]) == 0
    agent.beat()
    answer(portal, run_id, "Because.")
    agent.beat()
    assert main([*call, "requests", run_id[:8]]) == 0
    assert "Because. (dana)" in capsys.readouterr().out


@pytest.mark.parametrize(("wish", "sent"), [("zh_CN.UTF-8", "zh"), ("en_GB", "en"), ("C.UTF-8", None)])
def test_the_agent_names_its_language_where_it_has_one(home, portal, monkeypatch, wish, sent):
    from site_kits.agent.portal import PortalDoor

    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", wish)
    door = PortalDoor(portal.url, home.root_ca)
    door.probe()
    door.close()
    assert portal.languages[-1] == sent
