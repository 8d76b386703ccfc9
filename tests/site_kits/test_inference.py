"""The inference application with a double in place of the model: tickets, limits, digests, CORS."""

import asyncio
import io
import json
import struct
import time
import zlib
from dataclasses import dataclass

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from fl_jobs.packaging.spec import ModelSpec, RunSpec, StudySpec, TaskSpec
from site_kits.agent import preflight
from site_kits.inference.app import create_app
from site_kits.site_home import ServeOrder, write_state
from site_kits.tickets import issue_ticket, new_claims
from tests.site_kits.site_doubles import SITE, TICKET_KEY, sha256

ORIGIN = "http://127.0.0.1:8080"
TASKS = {
    "tabular": TaskSpec(kind="tabular", labels=("benign", "malignant"), features=("a", "b")),
    "image": TaskSpec(kind="image", labels=("benign", "malignant")),
    "text": TaskSpec(kind="text", labels=("benign", "malignant"), max_characters=20),
}


class Browser:
    """Asks the application directly, without a socket."""

    def __init__(self, app):
        self.app = app

    def request(self, method, path, **more):
        async def go():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, **more)

        return asyncio.run(go())

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, **more):
        return self.request("POST", path, **more)

    def options(self, path, **more):
        return self.request("OPTIONS", path, **more)


async def pieces(data):
    for start in range(0, len(data), 2**20):
        yield data[start : start + 2**20]


@dataclass
class Answer:
    label: str
    probabilities: dict


class Double:
    """A model that remembers what it was asked."""

    def __init__(self):
        self.loads, self.asked = 0, []

    def load(self, _spec, _arm, _shared, _personal):
        self.loads += 1
        return self

    def predict(self, records):
        self.asked.append(records)
        return [Answer("benign", {"benign": 0.9, "malignant": 0.1}) for _record in records]


class Served:
    """One site that serves one model of the wished kind."""

    def __init__(self, home, kind, hosts=None):
        self.home, self.double = home, Double()
        study = StudySpec(slug="cells", purpose="test", dataset="cells", task=TASKS[kind], teaching=True)
        spec = RunSpec(
            study=study,
            algorithm="dbe",
            hyper_parameters={},
            model=ModelSpec(name="m"),
            rounds=2,
            seed=1,
            min_sites=2,
        )
        self.order = ServeOrder(
            promotion=7,
            study="cells",
            algorithm="dbe",
            run_digest=spec.digest(),
            arm="personal",
            round=2,
            shared_sha256=sha256(b"shared"),
            personal_sha256=sha256(b"personal"),
            version_label="cells v1",
        )
        self.write(home.artifact(self.order.shared_sha256), b"shared")
        self.write(home.personal_part(self.order), b"personal")
        self.write(home.run_folder(self.order) / "run_spec.json", spec.canonical())
        write_state(home.serving_json, {"orders": [self.order.model_dump(mode="json")], "web_origin": ORIGIN})
        manifest = preflight.load_manifest(home)
        self.app = create_app(home, manifest, loader=self.double.load, hosts=hosts)
        self.client = Browser(self.app)

    @staticmethod
    def write(path, data):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def ticket(self, *, site=SITE, study="cells", promotion=7, now=None, key=TICKET_KEY):
        claims = new_claims(site=site, study=study, promotion=promotion, subject="p", now=now or time.time())
        return {"Authorization": f"Ticket {issue_ticket(key, 'k1', claims)}"}

    def ask(self, *, ticket=None, headers=None, **body):
        return self.client.post("/v1/predict", headers=(ticket or self.ticket()) | (headers or {}), **body)

    def ask_rows(self, *records, **more):
        return self.ask(json={"records": list(records)}, **more)


@pytest.fixture
def tabular(home):
    return Served(home, "tabular")


@pytest.fixture
def image(home):
    return Served(home, "image")


@pytest.fixture
def text(home):
    return Served(home, "text")


def png(width=8, height=8):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def png_header(width, height):
    """A PNG that claims a size without holding the pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


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


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"a": 1}, "lacks b"),
        ({"a": 1, "b": None}, "lacks b"),
        ({"a": 1, "b": 2, "c": 3}, "does not know: c"),
        ({"a": 1, "b": "high"}, "b must be a number"),
        ({"a": 1, "b": True}, "b must be a number"),
        ([1, 2], "not an object"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(tabular, record, words):
    answer = tabular.ask_rows(record)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_nan_and_infinity_are_refused_by_name(tabular):
    for value in ("NaN", "Infinity", "1e300"):
        raw = f'{{"records": [{{"a": 1, "b": {value}}}]}}'
        answer = tabular.ask(content=raw, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert "b must be a number" in answer.json()["detail"]


def test_a_csv_file_is_answered_row_by_row(tabular):
    answer = tabular.ask(files={"file": ("cases.csv", b"\xef\xbb\xbfa,b\n1,2\n3,4\n")})
    assert len(answer.json()["predictions"]) == 2
    assert tabular.double.asked == [[{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,\n", "Record 1 lacks b"),
        (b"a,b\n1,nan\n", "b must be a number"),
        (b"a,b\n1,2,3\n", "more cells"),
        (b"a,b\n", "no rows"),
        (b"\xff\xfe\x00", "not CSV in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_named(tabular, content, words):
    answer = tabular.ask(files={"file": ("cases.csv", content)})
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_an_image_is_answered(image):
    assert image.ask(files={"file": ("cell.png", png())}).status_code == 200
    assert image.double.asked[0][0].size == (8, 8)


def test_a_huge_image_is_refused_by_its_header_at_once(image):
    begin = time.monotonic()
    answer = image.ask(files={"file": ("huge.png", png_header(50_000, 50_000))})
    assert answer.status_code == 422
    assert "40 million pixels" in answer.json()["detail"]
    assert time.monotonic() - begin < 1


def test_images_over_the_limit_together_are_refused(image):
    several = [("file", (f"{n}.png", png_header(5000, 3000))) for n in range(3)]
    assert "together" in image.ask(files=several).json()["detail"]


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(20), b"not an image", png()[:50]])
def test_a_file_that_is_no_image_is_refused(image, content):
    answer = image.ask(files={"file": ("x.png", content)})
    assert answer.status_code == 422


def test_a_text_is_answered_and_a_long_one_is_refused(text):
    assert text.ask_rows("热线咨询").status_code == 200
    answer = text.ask_rows("x" * 21)
    assert answer.status_code == 422
    assert "at most 20" in answer.json()["detail"]


@pytest.mark.parametrize("length", [None, "stated"])
def test_a_body_over_ten_mebibytes_is_refused(tabular, length):
    data = b"x" * (11 * 2**20)
    content = data if length else pieces(data)
    answer = tabular.ask(content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "10 MiB" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "application/json", 422),
        (b"x", "application/x-pickle", 415),
        (b"x", "multipart/form-data", 400),
        (b"--b\r\n\r\n", "multipart/form-data; boundary=b", 400),
    ],
)
def test_a_malformed_body_is_refused(tabular, content, kind, status):
    assert tabular.ask(content=content, headers={"Content-Type": kind}).status_code == status


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


def test_the_console_page_asks_nothing_of_other_servers(tabular):
    page = tabular.client.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text.replace("http://127.0.0.1", "")
    assert "https://" not in page.text
    assert "<script" not in page.text


def test_an_order_cannot_point_outside_the_site(home):
    with pytest.raises(ValueError, match="study"):
        ServeOrder(
            promotion=1,
            study="../../etc",
            algorithm="dbe",
            run_digest="a" * 64,
            arm="local",
            round=1,
            personal_sha256="a" * 64,
        )
