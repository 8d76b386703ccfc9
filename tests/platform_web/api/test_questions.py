"""Questions at the agents' door, driven by the site's own code; and the door's sentences in two languages."""

import json
import uuid
from pathlib import Path

import httpx
import pytest
from django.core.wsgi import get_wsgi_application
from django.test import Client

from platform_web.federation.models import Site
from platform_web.training import services
from platform_web.training.models import RunApproval, RunQuestion
from site_kits.agent.asking import Asking
from site_kits.agent.portal import PortalDoor, Signer
from site_kits.agent.questions import ask, list_questions
from site_kits.agent.requests import keep_request
from site_kits.site_home import SiteHome
from tests.platform_web.api.test_agents import built, csr, door, enrolled, is_problem, key, signed  # noqa: F401
from tests.platform_web.api.test_decisions import run  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def at_portal(portal, tmp_path):
    """The site's own door, whose wire ends in this process's Django."""
    root = tmp_path / "rootCA.pem"
    root.write_text(portal.root_certificate_pem)
    found = PortalDoor("https://localhost", root)
    found._client.close()
    found._client = httpx.Client(transport=httpx.WSGITransport(get_wsgi_application()))
    yield found
    found.close()


class Held:
    """The credentials of an enrolled site."""

    def __init__(self, signer):
        self.current = self
        self._signer = signer

    def signer(self):
        return self._signer


def body(run, **changes):  # noqa: F811
    facts = {"id": str(uuid.uuid4()), "run_digest": run.run_digest, "text": "Why?", **changes}
    return json.dumps(facts).encode()


def test_from_the_sites_disk_to_the_portal_and_back(key, enrolled, run, at_portal, dana, settings, tmp_path):  # noqa: F811
    settings.HEARTBEAT_PROVIDERS = {"answers": "platform_web.training.requests.answered_questions"}
    home, problems = SiteHome(Path(tmp_path / "site")), {}
    signer = Signer(key, "site-a", enrolled.serial)
    keep_request(home, at_portal.fetch_request(signer, str(run.pk)))
    asking = Asking(home, Held(signer), at_portal, problems.__setitem__)
    ask(home, str(run.pk), str(uuid.uuid4()), "Does a patient count twice?", "Olaf")
    asking.take(None)
    assert problems == {"questions": None, "answers": None}
    question = RunQuestion.objects.get()
    assert (question.site.name, question.text) == ("site-a", "Does a patient count twice?")
    services.record_answer(question_id=str(question.pk), actor=dana, text="Once.")
    told = at_portal.heartbeat(signer, {"agent_version": "1"})
    asking.take(told["answers"])
    (stored,) = list_questions(home, str(run.pk))
    assert (stored.answer.answer, stored.answer.by, stored.person) == ("Once.", "dana", "Olaf")
    assert RunApproval.objects.get(run=run, site__name="site-a").state == "WAITING"


def test_a_site_that_is_not_asked_can_neither_ask_nor_read(key, enrolled, run):  # noqa: F811
    RunApproval.objects.filter(site__name="site-a").delete()
    answer, _ = signed(key, enrolled, "POST", f"requests/{run.pk}/questions", body(run))
    assert is_problem(answer, 409, "refused")
    answer, _ = signed(key, enrolled, "GET", f"requests/{run.pk}/answers")
    assert is_problem(answer, 404, "not_found")
    assert not RunQuestion.objects.exists()


def test_what_another_site_asked_is_not_told(key, enrolled, run, dana):  # noqa: F811
    other = Site.objects.get(name="site-b")
    question = services.record_question(
        site=other, run_id=str(run.pk), run_digest=run.run_digest, question_id=uuid.uuid4(), text="Secret?"
    )
    services.record_answer(question_id=str(question.pk), actor=dana, text="Yes.")
    answer, _ = signed(key, enrolled, "GET", f"requests/{run.pk}/answers")
    assert answer.json() == {"answers": []}
    answer, _ = signed(
        key, enrolled, "POST", f"requests/{run.pk}/questions", body(run, id=str(question.pk), text="Secret?")
    )
    assert is_problem(answer, 409, "refused")


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"text": "x" * 1001}, 409), ({"text": "x" * 9000}, 422), ({"text": ""}, 422), ({"id": "x"}, 422),
     ({"run_digest": "0" * 64}, 409), ({"person": "Olaf"}, 422)],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_sentence(key, enrolled, run, changes, status):  # noqa: F811
    answer, _ = signed(key, enrolled, "POST", f"requests/{run.pk}/questions", body(run, **changes))
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert not RunQuestion.objects.exists()


def test_the_door_speaks_the_language_it_is_asked_in_or_that_of_the_site(key, enrolled, run):  # noqa: F811
    Site.objects.filter(name="site-a").update(language="zh-hans")
    path = f"requests/{uuid.uuid4()}"
    silent, _ = signed(key, enrolled, "GET", path)
    assert (
        silent.json() | {"title": "未找到", "detail": "没有就这样的训练任务征求本站点的意见。"}
        == silent.json()
    )
    unsigned = Client().post("/agent/v1/heartbeat", b"{}", content_type="application/json")
    assert unsigned.json()["detail"].startswith("The request is not signed")
    for wish, words in [("zh-CN,zh;q=0.9", "该请求没有签名"), ("en", "The request is not signed")]:
        answer = Client().post(
            "/agent/v1/heartbeat", b"{}", content_type="application/json", headers={"Accept-Language": wish}
        )
        assert answer.json()["detail"].startswith(words)
    nowhere = Client().get("/agent/v1/nowhere", headers={"Accept-Language": "zh"})
    assert nowhere.status_code == 404
    again, _ = signed(key, enrolled, "GET", path)
    assert again.json()["detail"] == silent.json()["detail"]
