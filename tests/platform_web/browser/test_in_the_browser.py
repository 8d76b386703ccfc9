"""A person's clicks: no console message, no request to another address, nothing wider than the window."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from platform_web.accounts.models import Role
from platform_web.federation.models import Site
from platform_web.registry.models import Promotion
from tests.platform_web import world
from tests.platform_web.conftest import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


LOUD = {"error", "warning"}


class Inference(ThreadingHTTPServer):
    """What a site's inference answers, as the clinic page sees it."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked, self.answer, self.status, self.origin = [], {}, 200, ""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    def _send(self, status, body=b""):
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", self.server.origin)
        self.send_header("Access-Control-Allow-Headers", "authorization, content-type")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_OPTIONS(self):
        self._send(204)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        self._send(self.server.status, json.dumps(self.server.answer).encode())

    def log_message(self, *_args):
        pass


@pytest.fixture
def place(portal, ann, person, make_site, live_server):
    """Two sites at work, one of them with a clinician and an inference that answers."""
    dana = person("dana", Role.DATA_SCIENTIST)
    person("otto", Role.AUDITOR)
    sites = [make_site("site-a"), make_site("site-b")]
    person("cleo", Role.CLINICIAN, sites[0])
    rows = world.build(ann, dana, sites)
    inference = Inference()
    inference.origin = live_server.url
    Site.objects.filter(name="site-a").update(inference_url=inference.url)
    promotion = Promotion.objects.get(site__name="site-a")
    inference.answer = {
        "study": rows.study.slug,
        "site": "site-a",
        "version_label": "breast-cytology v1",
        "arm": "personal",
        "shared_sha256": None,
        "personal_sha256": promotion.site_model.personal_sha256,
        "teaching": True,
        "predictions": [{"label": "malignant", "probabilities": {"benign": 0.07, "malignant": 0.93}}],
    }
    yield SimpleNamespace(url=live_server.url, rows=rows, inference=inference)
    inference.shutdown()
    inference.server_close()


@pytest.fixture
def open_as(chromium, place):
    """``open_as("ann", path)`` signs in and opens a page; at the end nothing may stand in the console."""
    said, contexts = [], []

    def open_page(name, path, width=1280):
        context = chromium.new_context(viewport={"width": width, "height": 850}, locale="en-US")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type in LOUD and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{place.url}/accounts/login/?next={path}")
        page.fill("#id_username", name)
        page.fill("#id_password", PASSWORD)
        page.click("#sign-in button")
        page.wait_for_url(f"{place.url}{path}")
        page.said = said
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


PAGES = [
    "/",
    "/sites/",
    "/sites/site-a/",
    "/sites/add/",
    "/studies/",
    "/runs/",
    "/models/",
    "/people/",
    "/people/add/",
    "/account/password/",
    "/audit/",
]


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_window_or_asks_elsewhere(open_as, place, width):
    page = open_as("ann", "/", width)
    elsewhere = []
    ours = (place.url, "data:")
    page.on("request", lambda request: request.url.startswith(ours) or elsewhere.append(request.url))
    for path in [*PAGES, f"/runs/{place.rows.done.pk}/"]:
        page.goto(place.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert elsewhere == []


def test_curves_are_drawn_for_all_sites_and_for_one(open_as, place):
    page = open_as("dana", f"/runs/{place.rows.running.pk}/")
    page.wait_for_selector("#chart-loss canvas")
    page.wait_for_selector("#chart-accuracy canvas")
    page.click("#curve-of button:has-text('site-b')")
    assert page.get_attribute("#curve-of button:has-text('site-b')", "aria-pressed") == "true"
    assert page.is_visible("#chart-loss canvas")
    assert page.is_visible("#server-sees")


def test_new_rounds_appear_without_a_reload(open_as, place):
    page = open_as("dana", f"/runs/{place.rows.running.pk}/")
    page.wait_for_selector("text=5 of 10 rounds committed")
    world.feed(place.rows.running, [world.round_line(6, ["site-a", "site-b"])])
    page.wait_for_selector("text=6 of 10 rounds committed", timeout=5000)


def test_a_clinician_asks_and_the_case_goes_straight_to_the_site(open_as, place):
    page = open_as("cleo", "/clinic/")
    assert page.is_visible("#teaching")
    page.click("summary")
    header = ",".join(world.FEATURES)
    values = ",".join(str(number + 0.5) for number in range(len(world.FEATURES)))
    page.fill("#csv-text", f"{header}\n{values}")
    page.click("#ask-button")
    page.wait_for_selector("#answer:not([hidden])")
    assert page.inner_text(".answer-label") == "malignant"
    assert "93.0 %" in page.inner_text("#result")
    assert "personalised" in page.inner_text("#result-arm")
    path, ticket, body = place.inference.asked[0]
    assert path == "/v1/predict"
    assert ticket.startswith("Ticket ")
    assert json.loads(body)["records"][0]["mean_radius"] == 0.5


def test_an_answer_of_another_model_is_not_shown(open_as, place):
    place.inference.answer["personal_sha256"] = world.sha("another")
    page = open_as("cleo", "/clinic/")
    for number, _feature in enumerate(world.FEATURES, start=1):
        page.fill(f"#feature-{number}", "1.5")
    page.click("#ask-button")
    page.wait_for_selector("#problem.bad")
    assert "another model than the one promoted" in page.inner_text("#problem")
    assert page.is_hidden("#answer")


def test_every_failure_is_a_sentence(open_as, place):
    page = open_as("cleo", "/clinic/")
    page.click("#ask-button")
    page.wait_for_selector("#problem.bad")
    assert "Fill in the case first" in page.inner_text("#problem")
    for number, _feature in enumerate(world.FEATURES, start=1):
        page.fill(f"#feature-{number}", "1.5")
    place.inference.status, place.inference.answer = 401, {"title": "No", "detail": "The ticket is over."}
    page.click("#ask-button")
    page.wait_for_selector("text=did not accept the ticket")
    place.inference.status, place.inference.answer = 409, {"detail": "Its file was altered on the disk."}
    page.click("#ask-button")
    page.wait_for_selector("text=Its file was altered on the disk.")
    assert "try again" not in page.inner_text("#problem")  # waiting would not help
    place.inference.shutdown()
    place.inference.server_close()
    page.click("#ask-button")
    page.wait_for_selector("text=cannot be reached from this computer")
    # the browser itself writes these into its console; the page cannot keep it from doing so
    page.said[:] = [text for text in page.said if "Failed to load resource" not in text]


def test_an_auditor_verifies_the_log_in_the_page(open_as, place):
    page = open_as("otto", "/audit/")
    page.click("#verify-button")
    page.wait_for_selector("#verified .note.good")
    assert "entries verify" in page.inner_text("#verified")


def test_an_administrator_adds_a_site_and_copies_its_link(open_as, place):
    page = open_as("ann", "/sites/add/", 390)
    for name, value in {
        "name": "valley",
        "title": "Valley Hospital",
        "organisation": "Valley",
        "contact": "it@valley.example",
    }.items():
        page.fill(f"#id_{name}", value)
    page.click("#site-form button")
    page.wait_for_selector("#kit-link")
    assert "/kits/" in page.input_value("#kit-link")
    assert len(page.input_value("#kit-pin")) == 9
    page.click("[data-copy=mail-text]")
    # not wait_for_function: it evaluates a string, which the page's own policy forbids
    page.wait_for_selector("[data-copy=mail-text]:not(:text-is('Copy the mail'))")


def test_the_admin_works_in_the_browser(open_as, place):
    page = open_as("ann", "/admin/federation/site/")
    assert page.is_visible("text=Hospital site-a")


def test_the_menu_opens_on_a_small_screen_and_the_theme_stays(open_as, place):
    page = open_as("dana", "/", 390)
    assert page.is_hidden("#side")
    page.click("[data-nav]")
    page.click("[data-theme-switch]")
    theme = page.get_attribute("html", "data-theme")
    page.goto(f"{place.url}/runs/")
    assert page.get_attribute("html", "data-theme") == theme == "dark"
