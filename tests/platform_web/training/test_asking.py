"""A site's questions in the portal: who reads them, who answers, what the log holds, when it is too late."""

import uuid

import pytest

from platform_web.accounts.models import Role
from platform_web.audit import bodies, redaction
from platform_web.audit.models import AuditEvent
from platform_web.training import requests, services
from platform_web.training.errors import QuestionError, RunStateError
from platform_web.training.models import RunQuestion
from site_kits.talk import MAX_ANSWER, MAX_QUESTION, MOST_QUESTIONS
from tests.platform_web import world

TEXT = "Does Mr Zhang, room 4, count twice?"


@pytest.fixture
def sites(make_site):
    return [world.bring_online(make_site(name)) for name in ("site-a", "site-b", "site-c")]


@pytest.fixture
def run(portal, dana, sites):
    return world.asked_run(dana, world.open_study(dana), sites)


def ask(run, site, text=TEXT, **changes):
    facts = {"run_id": str(run.pk), "run_digest": run.run_digest, "question_id": uuid.uuid4(), **changes}
    return services.record_question(site=site, text=text, **facts)


def answer(question, actor, text="Once; by patient."):
    return services.record_answer(question_id=str(question.pk), actor=actor, text=text)


def test_question_and_answer_and_the_request_stays_open(run, sites, dana):
    first = ask(run, sites[0])
    assert requests.answered_questions(sites[0]) == []
    answer(first, dana)
    second = ask(run, sites[0], "And at the others?")
    answer(second, dana, "The same.")
    assert requests.answered_questions(sites[0]) == [{"run": str(run.pk), "answered": 2}]
    told = requests.answers_for(sites[0], str(run.pk)).answers
    assert [(one.text, one.answer, one.by) for one in told] == [
        (TEXT, "Once; by patient.", "dana"), ("And at the others?", "The same.", "dana"),
    ]  # fmt: skip
    assert requests.pending_requests(sites[0])[0]["run"] == str(run.pk)
    assert requests.answers_for(sites[1], str(run.pk)).answers == ()
    assert requests.answered_questions(sites[1]) == []


def test_what_was_typed_is_a_body_of_the_log_and_gone_when_that_is_erased(run, sites, ann, dana, person):
    question = answer(ask(run, sites[0]), dana)
    asked = AuditEvent.objects.get(act="question.asked")
    answered = AuditEvent.objects.get(act="question.answered")
    assert (asked.site, asked.actor, asked.job) == ("site-a", "site:site-a", str(run.pk))
    assert (answered.site, answered.actor) == ("site-a", f"user:{dana.pk}")
    for event in (asked, answered):
        assert b"Zhang" not in bytes(event.leaf)
        assert b"patient" not in bytes(event.leaf)
        assert run.run_digest.encode() in bytes(event.leaf)
    assert bodies.body_in(asked.event_id) == {"text": TEXT}
    stored = RunQuestion.objects.filter(pk=question.pk).values().get()
    assert "Zhang" not in str(stored)
    wish = redaction.request_redaction(actor=person("otto", Role.AUDITOR), event=asked, basis="misplaced")
    redaction.confirm_redaction(actor=ann, redaction=wish)
    assert RunQuestion.objects.get().text == ""
    assert ask(run, sites[0], question_id=question.pk).pk == question.pk, "sent again after it was erased"


def test_the_same_question_twice_is_one_and_a_foreign_site_gets_nowhere(run, sites, make_site):
    question = ask(run, sites[0])
    assert ask(run, sites[0], question_id=question.pk).pk == question.pk
    assert AuditEvent.objects.filter(act="question.asked").count() == 1
    for site, changes, kind, words in [
        (sites[0], {"question_id": question.pk, "text": "other"}, QuestionError, "taken"),
        (sites[1], {"question_id": question.pk}, QuestionError, "taken"),
        (sites[0], {"run_digest": "0" * 64}, RunStateError, "another digest"),
        (make_site("stranger"), {}, RunStateError, "was not asked"),
        (sites[0], {"run_id": str(uuid.uuid4())}, RunStateError, "was not asked"),
        (sites[0], {"text": "x" * (MAX_QUESTION + 1)}, QuestionError, "longer than 1000"),
        (sites[0], {"text": " "}, QuestionError, "no text"),
    ]:
        with pytest.raises(kind, match=words):
            ask(run, site, **changes)
    for _ in range(MOST_QUESTIONS - 1):
        ask(run, sites[0], "x")
    with pytest.raises(QuestionError, match="at most 20"):
        ask(run, sites[0], "x")
    assert requests.answers_for(make_site("nobody"), str(run.pk)) is None


def test_an_ended_run_takes_neither(run, sites, dana):
    question = ask(run, sites[0])
    services.stop_run(run_id=str(run.pk), actor=dana)
    with pytest.raises(RunStateError, match="was not taken"):
        ask(run, sites[0])
    with pytest.raises(RunStateError, match="has ended"):
        answer(question, dana)
    assert not AuditEvent.objects.filter(act="question.answered").exists()


def test_an_answer_is_given_once_and_bounded(run, sites, dana):
    question = ask(run, sites[0])
    for text, words in (("", "no text"), ("x" * (MAX_ANSWER + 1), "longer than 2000")):
        with pytest.raises(QuestionError, match=words):
            answer(question, dana, text)
    answer(question, dana)
    with pytest.raises(RunStateError, match="answered already"):
        answer(question, dana, "No, twice.")


def test_who_reads_and_who_answers(client, run, sites, ann, dana, otto, person):
    question = ask(run, sites[0])
    people = {
        "ann": ann, "dana": dana, "otto": otto, "other": person("other", Role.DATA_SCIENTIST),
        "olaf": person("olaf", Role.SITE_OPERATOR, sites[0]),
        "mallory": person("mallory", Role.SITE_OPERATOR, sites[1]),
    }  # fmt: skip
    reads, posts = {}, {}
    for name, somebody in people.items():
        client.force_login(somebody)
        pages = [client.get(f"/runs/{run.pk}/{part}").content.decode() for part in ("", "live/")]
        reads[name] = all("Zhang" in page for page in pages)
        assert all("Zhang" in page for page in pages) == any("Zhang" in page for page in pages), name
        assert ("a site asks" in client.get("/runs/").content.decode()) == reads[name]
        if name != "ann":
            posts[name] = client.post(f"/questions/{question.pk}/answer/", {"text": ""}).status_code
    assert reads == {"ann": True, "dana": True, "otto": False, "other": False, "olaf": True, "mallory": False}
    assert posts == {"dana": 302, "otto": 403, "other": 404, "olaf": 403, "mallory": 403}
    client.force_login(ann)
    client.post(f"/questions/{question.pk}/answer/", {"text": "Once."})
    page = client.get(f"/runs/{run.pk}/").content.decode()
    assert "ann answers" in page
    assert "Hospital site-a asks" in page
    assert RunQuestion.objects.get().answer == "Once."
