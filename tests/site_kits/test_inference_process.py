"""The inference process as the agent starts it: granian, the real predictor, a model from a real run."""

import io
import json
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from fl_jobs.catalog import validate_hyper_parameters
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec
from fl_jobs.simulate import run_in_process
from site_kits.agent.datasets import register_folder
from site_kits.site_home import ServeOrder, write_state
from site_kits.tickets import issue_ticket, new_claims
from tests.site_kits.site_doubles import SITE, TICKET_KEY, Portal, add_cytology, unpack_kit, wait_until

ORIGIN = "http://127.0.0.1:8080"
LIMIT_AFTER_200_MB = 80 * 2**20


@pytest.fixture(scope="module")
def trained(authority, tmp_path_factory):
    """Two sites after a run of one round; the homes and, per site and arm, the orders to serve."""
    folder = tmp_path_factory.mktemp("trained")
    portal = Portal(*authority)
    homes = {name: unpack_kit(folder / name, portal, site=name) for name in (SITE, "hospital-b")}
    for home in homes.values():
        add_cytology(home)
        register_folder(home, "cytology")
    task = TaskSpec(kind="tabular", labels=("benign", "malignant"), features=("a", "b"))
    spec = RunSpec(
        study=StudySpec(slug="cytology", purpose="test", dataset="cytology", task=task, teaching=True),
        algorithm="dbe",
        hyper_parameters=validate_hyper_parameters("dbe", {}),
        model=ModelSpec(name="tabular_mlp"),
        rounds=1,
        seed=1,
        min_sites=2,
        policy=PolicySpec(secure_aggregation=False),
    )
    journal = run_in_process(spec, {name: home.root for name, home in homes.items()})
    finish = journal[-1]["sites"][SITE]
    finish = finish.get("finish", finish)
    run_spec = next(homes[SITE].root.glob("personal/*/*/*/run_spec.json"))
    digest = RunSpec.model_validate_json(run_spec.read_bytes()).digest()
    orders = [
        ServeOrder(
            promotion=number,
            study="cytology",
            algorithm="dbe",
            run="simulated",
            run_digest=digest,
            arm=arm,
            round=file["round"],
            shared_sha256=finish["shared_sha256"].get(arm),
            personal_sha256=file["personal_sha256"],
            version_label=f"cytology {arm}",
        )
        for number, (arm, file) in enumerate(sorted(finish["files"].items()), 1)
    ]
    return homes[SITE], orders


@pytest.fixture(scope="module")
def address(trained):
    """The running inference process."""
    home, orders = trained
    state = {"orders": [order.model_dump(mode="json") for order in orders], "web_origin": ORIGIN}
    write_state(home.serving_json, state)
    port = free_port()
    home.logs.mkdir(exist_ok=True)
    with (home.logs / "inference.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "site_kits.inference",
                "--home",
                str(home.root),
                "--port",
                str(port),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    base = f"http://127.0.0.1:{port}"
    wait_until(lambda: reachable(base))
    yield base, process
    process.terminate()
    assert process.wait(timeout=8) == 0
    assert "Traceback" not in (home.logs / "inference.log").read_text()


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def reachable(base):
    try:
        return httpx.get(f"{base}/v1/status", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def states(base):
    models = httpx.get(f"{base}/v1/status", trust_env=False).json()["models"]
    return {model["arm"]: model["state"] for model in models}


def ask(base, promotion, content, **more):
    claims = new_claims(site=SITE, study="cytology", promotion=promotion, subject="p", now=time.time())
    ticket = {"Authorization": f"Ticket {issue_ticket(TICKET_KEY, 'k1', claims)}"}
    headers = ticket | {"Content-Type": "application/json"}
    return httpx.post(
        f"{base}/v1/predict", content=content, headers=headers, timeout=60, trust_env=False, **more
    )


ROWS = json.dumps({"records": [{"a": 3.0, "b": 2.0}, {"a": 4.0, "b": 2.0}]}).encode()


def test_every_arm_of_a_real_run_is_served(trained, address):
    _home, orders = trained
    base, _process = address
    wait_until(lambda: set(states(base).values()) == {"ready"}, timeout_s=60)
    assert {order.arm for order in orders} == {"local", "global", "tuned", "personal"}
    for order in orders:
        answer = ask(base, order.promotion, ROWS)
        assert answer.status_code == 200, answer.text
        for one in answer.json()["predictions"]:
            assert sum(one["probabilities"].values()) == pytest.approx(1)


def test_a_warm_answer_is_quick(trained, address):
    base, _process = address
    wait_until(lambda: set(states(base).values()) == {"ready"}, timeout_s=60)
    begin = time.monotonic()
    assert ask(base, 1, ROWS).status_code == 200
    assert time.monotonic() - begin < 1


def test_an_upload_of_200_mb_is_refused_in_a_sentence_and_not_kept(address):
    base, process = address
    before = psutil.Process(process.pid).memory_info().rss
    content = io.BytesIO(b"x" * 200 * 10**6)
    answer = ask(base, 1, content)
    assert answer.status_code == 413
    assert "10 MiB" in answer.json()["detail"]
    assert psutil.Process(process.pid).memory_info().rss - before < LIMIT_AFTER_200_MB


def test_a_200_mb_upload_without_a_ticket_is_refused_as_readably(address):
    base, _process = address
    content = io.BytesIO(b"x" * 200 * 10**6)
    answer = httpx.post(f"{base}/v1/predict", content=content, timeout=60, trust_env=False)
    assert answer.status_code == 401


def test_an_altered_file_is_noticed_without_a_question(trained, address):
    home, orders = trained
    base, _process = address
    wait_until(lambda: set(states(base).values()) == {"ready"}, timeout_s=60)
    local = next(order for order in orders if order.arm == "local")
    path = home.personal_part(local)
    original = path.read_bytes()
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    wait_until(lambda: states(base)["local"] == "refused")
    assert ask(base, local.promotion, ROWS).status_code == 409
    path.write_bytes(original)
    wait_until(lambda: states(base)["local"] == "ready")


def test_a_taken_port_is_a_sentence(trained, address):
    home, _orders = trained
    port = address[0].rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "site_kits.inference", "--home", str(home.root), "--port", port],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"Port {port} is taken" in done.stderr


def test_the_operators_page_is_not_here(address):
    assert httpx.get(address[0], trust_env=False).status_code == 404
