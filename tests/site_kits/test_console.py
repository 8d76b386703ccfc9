"""Who gets in to the console, what it asks of a browser, and the one switch of a data set."""

import json

import pytest
from starlette.routing import Route

from site_kits.agent.datasets import registered_cards
from site_kits.agent.passphrase import check_passphrase, new_passphrase
from site_kits.console.reading import run
from site_kits.console.sessions import IDLE_S, LONGEST_WAIT_S, Attempts, Sessions
from tests.site_kits.console_doubles import ADDRESS, Operator
from tests.site_kits.site_doubles import add_cytology, add_images

PUBLIC = {"/login", "/console.css", "/favicon.ico"}


@pytest.fixture
def operator(home):
    return Operator(home)


def test_every_address_is_closed_to_who_did_not_sign_in(home):
    stranger = Operator(home, signed_in=False)
    routes = [route for route in stranger.app._app.routes if isinstance(route, Route)]
    assert len(routes) > 15
    for route in routes:
        path = route.path.replace("{folder}", "cells").replace("{run}", "x")
        for method in route.methods - {"HEAD"}:
            answer = stranger.raw(method, path)
            if route.path in PUBLIC and method == "GET":
                assert answer.status_code in (200, 204), path
            elif method == "GET":
                assert (answer.status_code, answer.headers["location"]) == (303, "/login"), path
            else:
                assert answer.status_code in (401, 403), path


def test_a_form_without_the_page_s_token_or_of_another_port_does_nothing(home, operator):
    add_cytology(home)
    operator.get("/data/")
    good = operator.token
    for token, origin in (
        ("", ADDRESS),
        ("0" * 64, ADDRESS),
        (good, "http://127.0.0.1:9999"),
        (good, "null"),
    ):
        headers = {"Origin": origin}
        answer = operator.raw("POST", "/data/cytology/check", data={"token": token}, headers=headers)
        assert answer.status_code == 403
    assert not home.checked.exists()
    fine = operator.raw("POST", "/data/cytology/check", data={"token": good}, headers={"Origin": ADDRESS})
    assert fine.status_code == 303


def test_cookie_and_headers(home):
    operator = Operator(home, signed_in=False)
    operator.get("/login")
    answer = operator.post("/login", passphrase=operator.passphrase.replace("-", " ").upper())
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    page = operator.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert "<script" not in page.text
    assert "style=" not in page.text
    assert "http" not in page.text.replace("http-equiv", "").replace("http://127.0.0.1", "")


def test_a_foreign_host_name_is_refused(operator):
    assert operator.get("/", headers={"Host": "rebound.example"}).status_code == 404
    assert operator.get("/", headers={"Host": "localhost:8765"}).status_code == 200


def test_a_new_passphrase_signs_everybody_out(home, operator):
    assert operator.get("/").status_code == 200
    new_passphrase(home)
    assert operator.get("/").headers["location"] == "/login"


def test_signing_out_ends_the_session_on_this_side(operator):
    before = operator.cookies
    operator.get("/")
    operator.post("/logout")
    operator.cookies = before
    assert operator.get("/").status_code == 303


def test_a_page_that_reloads_itself_does_not_keep_a_session_open(home):
    now = [0.0]
    new_passphrase(home)
    sessions = Sessions(home, clock=lambda: now[0])
    secret = sessions.open()
    for _step in range(3):
        now[0] += IDLE_S / 2
        found = sessions.find(secret, is_used=False)
    assert found is None


def test_wrong_passphrases_cost_time_also_over_a_restart(home):
    now = [1000.0]
    passphrase = new_passphrase(home)
    attempts = Attempts(home, clock=lambda: now[0])
    for _time in range(5):
        assert attempts.wait_s() == 0
        assert not attempts.check("wrong")
    assert Attempts(home, clock=lambda: now[0]).wait_s() == 2
    assert not attempts.check(passphrase)  # not even the right one, while the pause lasts
    for _time in range(12):
        now[0] += attempts.wait_s()
        attempts.check("wrong")
    assert attempts.wait_s() == LONGEST_WAIT_S
    now[0] += LONGEST_WAIT_S
    assert attempts.check(passphrase)
    assert attempts.wait_s() == 0


def test_the_passphrase_is_kept_as_a_hash_only_its_owner_reads(home):
    passphrase = new_passphrase(home)
    assert home.console_passphrase.stat().st_mode & 0o777 == 0o600
    assert passphrase.replace("-", "") not in home.console_passphrase.read_text()
    assert check_passphrase(home, passphrase)
    assert not check_passphrase(home, passphrase[:-1])


def test_nothing_leaves_before_the_switch_and_nothing_after_it_is_switched_back(home, operator):
    add_cytology(home)
    (home.data / "cytology" / "manifest.json").unlink()
    page = operator.describe("cytology", "cases.csv", "feature", "feature", "label")
    assert "30 rows without an error" in operator.text
    assert registered_cards(home) == []
    digest = page.text.split('name="digest" value="')[1][:64]
    operator.post("/data/cytology/share", digest="0" * 64)
    assert registered_cards(home) == []  # not what the page showed
    operator.get("/data/cytology/")
    operator.post("/data/cytology/share", digest=digest)
    card = registered_cards(home)[0]
    assert (card["name"], card["rows"]) == ("cytology", 30)
    assert json.dumps(card["digest"]) in operator.get("/data/cytology/").text.replace("&#34;", '"')
    operator.post("/data/cytology/withdraw")
    assert registered_cards(home) == []


def test_data_that_changed_are_not_shared_unseen(home, operator):
    add_cytology(home)
    operator.get("/data/cytology/")
    operator.post("/data/cytology/check")
    page = operator.get("/data/cytology/")
    digest = page.text.split('name="digest" value="')[1][:64]
    table = home.data / "cytology" / "cases.csv"
    table.write_text(table.read_text() + "99,1,benign\n")
    operator.post("/data/cytology/share", digest=digest)
    operator.get("/data/cytology/")
    assert "changed since it was checked" in operator.text
    assert registered_cards(home) == []


def test_small_counts_stay_here_and_cannot_be_computed(home, operator):
    folder = home.data / "rare"
    folder.mkdir()
    rows = [f"{n},{'rare' if n < 6 else 'usual' if n < 20 else 'common'}" for n in range(90)]
    (folder / "cases.csv").write_text("\n".join(["size,label", *rows]) + "\n")
    page = operator.describe("rare", "cases.csv", "feature", "label")
    operator.post("/data/rare/share", digest=page.text.split('name="digest" value="')[1][:64])
    card = registered_cards(home)[0]
    assert card["rows"] == 90
    assert card["label_counts"] == {"common": 70, "rare": None, "usual": None}


def test_the_console_is_chinese_for_a_chinese_browser(home, operator):
    add_cytology(home)
    operator.get("/data/cytology/")  # looks into the folder
    page = operator.get("/data/cytology/", headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert '<html lang="zh"' in page.text
    assert "各列的含义" in page.text
    (home.data / "cytology" / "cases.csv").write_text("a,b,diagnosis\n1,x,benign\n2,3,malignant\n")
    operator.post("/data/cytology/check")
    operator.get("/data/cytology/?lang=zh")
    assert "“x” 不是数字" in operator.text


def test_images_in_one_folder_per_label_become_a_data_set(home):
    add_images(home, 24, name="skin")
    for path in (home.data / "skin").glob("*.png"):
        number = int(path.stem)
        label = home.data / "skin" / ("naevus" if number % 2 else "melanoma")
        label.mkdir(exist_ok=True)
        path.rename(label / f"p{number // 2}_{number}.png")
    (home.data / "skin" / "labels.csv").unlink()
    (home.data / "skin" / "manifest.json").unlink()
    assert run(home, "look", "skin", {})["images"] == {"melanoma": 12, "naevus": 12}
    assert run(home, "list_images", "skin", {"patient": "_"})["labels"] == ["melanoma", "naevus"]
    found = run(home, "check", "skin", {})
    assert (found["error"], found["count"], found["card"]["rows"]) == (None, 0, 24)
    assert sum(found["statistics"]["patients"]) == 12  # both images of a patient on one side


def test_a_table_in_data_itself_gets_a_folder_of_its_own(home, operator):
    (home.data / "Tickets 2026.csv").write_text("text,label\na,x\nb,y\n")
    operator.get("/data/")
    assert "Tickets 2026.csv" in operator.text
    assert (
        operator.post("/data/take", file="../Tickets 2026.csv").headers["location"] == "/data/tickets-2026/"
    )
    assert (home.data / "tickets-2026" / "Tickets 2026.csv").is_file()
    operator.get("/data/")
    operator.post("/data/take", file="../../rootCA.pem")
    assert home.root_ca.exists()
