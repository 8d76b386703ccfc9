"""The inference application asked without a socket, with a double in place of the model."""

import asyncio
import time
from dataclasses import dataclass

import httpx

from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec
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

    def load(self, _spec, _arm, _shared, _personal, _weights):
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
            policy=PolicySpec(secure_aggregation=False),
        )
        self.order = ServeOrder(
            promotion=7,
            study="cells",
            algorithm="dbe",
            run="0e92ffb3-4721-4287-8db0-f3a8ff197439",
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
