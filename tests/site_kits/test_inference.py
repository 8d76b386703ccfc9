"""The inference application: tickets, digests, who may ask from where."""

import asyncio
import json
from datetime import UTC, datetime

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fl_jobs.approval import site_log
from site_kits.site_home import ServeOrder, write_state
from tests.site_kits.inference_doubles import ORIGIN, Served
from tests.site_kits.site_doubles import SITE, sha256


def test_a_ticket_gets_an_answer_that_names_the_version(tabular):
    answer = tabular.ask_rows({"a": 1, "b": 2.5})
    assert answer.status_code == 200
    body = answer.json()
    assert body["predictions"] == [{"label": "benign", "probabilities": {"benign": 0.9, "malignant": 0.1}}]
    assert (body["site"], body["arm"], body["version_label"]) == (SITE, "personal", "cells v1")
    assert body["shared_sha256"] == sha256(b"shared")
    assert body["teaching"] is True
    assert answer.headers["cache-control"] == "no-store"


def test_a_ticket_works_once(tabular):
    ticket = tabular.ticket()
    assert tabular.ask_rows({"a": 1, "b": 2}, ticket=ticket).status_code == 200
    again = tabular.ask_rows({"a": 1, "b": 2}, ticket=ticket)
    assert again.status_code == 401
    assert again.json()["code"] == "ticket_used"


def test_a_spent_ticket_stays_spent_over_a_restart(home, tabular):
    ticket = tabular.ticket()
    tabular.ask_rows({"a": 1, "b": 2}, ticket=ticket)
    assert Served(home, "tabular").ask_rows({"a": 1, "b": 2}, ticket=ticket).status_code == 401


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"site": "hospital-b"}, "another site"),
        ({"now": 1.7e9}, "over"),
        ({"key": Ed25519PrivateKey.generate()}, "not genuine"),
    ],
)
def test_a_bad_ticket_is_refused_with_its_reason(tabular, changes, words):
    answer = tabular.ask_rows({"a": 1, "b": 2}, ticket=tabular.ticket(**changes))
    assert answer.status_code == 401
    assert words in answer.json()["detail"]
    assert tabular.double.asked == []


def test_no_ticket_is_refused(tabular):
    answer = tabular.client.post("/v1/predict", json={"records": [{"a": 1, "b": 2}]})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("changes", [{"promotion": 8}, {"study": "other"}])
def test_a_ticket_for_a_model_that_is_not_served_is_refused(tabular, changes):
    assert tabular.ask_rows({"a": 1, "b": 2}, ticket=tabular.ticket(**changes)).status_code == 404


@pytest.mark.parametrize("part", ["shared", "personal"])
def test_an_altered_model_file_is_refused(tabular, part):
    assert tabular.ask_rows({"a": 1, "b": 2}).status_code == 200
    order = tabular.order
    path = (
        tabular.home.artifact(order.shared_sha256) if part == "shared" else tabular.home.personal_part(order)
    )
    path.write_bytes(b"altered")
    answer = tabular.ask_rows({"a": 1, "b": 2})
    assert answer.status_code == 409
    assert "not the one that was approved" in answer.json()["detail"]
    assert len(tabular.double.asked) == 1


def test_an_altered_run_specification_is_refused(tabular):
    path = tabular.home.run_folder(tabular.order) / "run_spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 2}))
    assert tabular.ask_rows({"a": 1, "b": 2}).status_code == 409


def test_a_shared_part_that_is_on_its_way_is_said(tabular):
    tabular.home.artifact(tabular.order.shared_sha256).unlink()
    answer = tabular.ask_rows({"a": 1, "b": 2})
    assert answer.status_code == 503
    assert "on its way" in answer.json()["detail"]


def test_the_status_names_a_refused_model(tabular):
    tabular.home.personal_part(tabular.order).write_bytes(b"altered")
    said = asyncio.Queue()

    async def watch_once():
        told = asyncio.Queue()
        await told.put({"type": "lifespan.startup"})
        lifespan = asyncio.create_task(tabular.app({"type": "lifespan"}, told.get, said.put))
        await asyncio.sleep(0.3)
        transport = httpx.ASGITransport(tabular.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.get("/v1/status")
        await told.put({"type": "lifespan.shutdown"})
        await lifespan
        return answer.json()["models"]

    models = asyncio.run(watch_once())
    assert models[0]["state"] == "refused"
    assert models[0]["promotion"] == 7
    assert "not the one that was approved" in models[0]["detail"]


def test_a_model_is_loaded_once(tabular):
    for _time in range(3):
        tabular.ask_rows({"a": 1, "b": 2})
    assert tabular.double.loads == 1


def test_the_portal_s_page_may_ask_and_no_other(tabular):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}
    allowed = tabular.client.options("/v1/predict", headers=asked | {"Origin": ORIGIN})
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert allowed.headers["access-control-allow-private-network"] == "true"
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    foreign = tabular.client.options("/v1/predict", headers=asked | {"Origin": "https://elsewhere.example"})
    assert foreign.status_code == 403
    assert "access-control-allow-origin" not in foreign.headers


def test_a_refusal_is_readable_for_the_portal_s_page(tabular):
    answer = tabular.client.post("/v1/predict", headers={"Origin": ORIGIN})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_a_foreign_host_name_is_refused(home):
    served = Served(home, "tabular", hosts=frozenset({"127.0.0.1"}))
    assert served.client.get("/v1/status", headers={"Host": "rebound.example"}).status_code == 404
    assert served.client.get("/v1/status", headers={"Host": "127.0.0.1:4321"}).status_code == 200


def test_a_withdrawn_model_is_no_longer_served(tabular):
    write_state(tabular.home.serving_json, {"orders": [], "web_origin": ORIGIN})
    assert tabular.ask_rows({"a": 1, "b": 2}).status_code == 404


def test_an_order_cannot_point_outside_the_site(home):
    with pytest.raises(ValueError, match="study"):
        ServeOrder(
            promotion=1,
            study="../../etc",
            algorithm="dbe",
            run="a",
            run_digest="a" * 64,
            arm="local",
            round=1,
            personal_sha256="a" * 64,
        )


def test_each_answer_stands_in_the_sites_own_log_without_the_case(home, tabular):
    assert tabular.ask_rows({"a": 1, "b": 2}, {"a": 3, "b": 4}).status_code == 200
    assert tabular.ask_rows({"a": 1, "b": 2}).status_code == 200
    log = site_log.open_log(home.root, datetime.now(UTC).year)
    served = [json.loads(leaf) for leaf in log.leaves(0, log.size()) if b"prediction.served" in leaf]
    subjects = [entry["data"]["subject"] for entry in served]
    assert len(served) == 3
    assert subjects[0] == subjects[2] != subjects[1]
    assert all(entry["data"]["bucket"].endswith("0 %") for entry in served)


def test_an_answer_that_cannot_be_logged_is_not_shown(home, tabular):
    (home.state).mkdir(exist_ok=True)
    (home.root / site_log.FOLDER).write_text("in the way")
    answer = tabular.ask_rows({"a": 1, "b": 2})
    assert (answer.status_code, answer.json()["code"]) == (503, "site_log")
    assert "predictions" not in answer.text
