"""The agent as a process of its own: what it starts, what it says, what it leaves behind."""

import contextlib
import json
import signal
import subprocess

import httpx
import psutil
import pytest

from site_kits.agent.__main__ import main
from site_kits.agent.processes import CHILDREN, mark_of, marked_processes
from site_kits.site_home import read_serving, read_state
from tests.site_kits.site_doubles import LINK, PIN, add_cytology, environment, sha256, wait_until


def everything(home):
    return marked_processes([mark_of(home, name) for name in CHILDREN])


@pytest.fixture
def start(home):
    """Start the kit's one command; whatever is still there at the end is killed."""
    running = []

    def run(at=None, *, link=LINK, **more):
        folder = (at or home).root
        with (folder / "screen.txt").open("ab") as screen:
            process = subprocess.Popen(
                ["./start.sh", *([link] if link else [])],
                cwd=folder, env=environment(CONSILIUM_PIN=PIN, **more), stdin=subprocess.DEVNULL,
                stdout=screen, stderr=subprocess.STDOUT,
            )  # fmt: skip
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=5)  # collected, so that no zombie stays
    for process in everything(home):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def screen(home):
    return (home.root / "screen.txt").read_text()


def client_pid(home):
    return read_state(home.state / "children.json").get("client", {}).get("pid")


def test_one_command_enrols_registers_reports_and_leaves_nothing_behind(home, portal, start):
    add_cytology(home)
    assert main(["--home", str(home.root), "register", "cytology"]) == 0  # shares it
    (home.root / "stubborn").touch()
    agent = start()
    beat = wait_until(
        lambda: portal.heartbeats and portal.heartbeats[-1]
    )  # the double verified its signature
    assert portal.refused == []
    assert beat["datasets"][0]["rows"] == 30
    assert beat["client"] == {"state": "running", "restarts": 0}
    assert beat["certificate_days_left"] in (89, 90)
    wait_until(lambda: len(everything(home)) >= 4)  # client, its job process with a sleep, inference

    agent.send_signal(signal.SIGTERM)
    assert agent.wait(timeout=12) == 0
    assert everything(home) == []
    assert "nothing of this site is running" in screen(home)
    assert "Traceback" not in screen(home)


def test_a_killed_client_is_started_again_without_its_old_job_processes(home, portal, start):
    agent = start()
    first = wait_until(lambda: client_pid(home))
    wait_until(
        lambda: (
            len([p for p in everything(home) if p.environ()["CONSILIUM_AGENT_CHILD"].startswith("client:")])
            >= 2
        )
    )
    old = {
        process.pid
        for process in everything(home)
        if process.environ()["CONSILIUM_AGENT_CHILD"].startswith("client:")
    }
    psutil.Process(first).kill()
    wait_until(lambda: client_pid(home) not in (None, first))
    assert old.isdisjoint({process.pid for process in everything(home)})
    wait_until(lambda: portal.heartbeats and portal.heartbeats[-1]["client"]["restarts"] == 1)
    assert agent.poll() is None


def test_a_second_start_in_the_same_folder_says_that_it_runs(home, start):
    agent = start()
    wait_until(lambda: client_pid(home))
    second = subprocess.run(
        ["./start.sh"], cwd=home.root, env=environment(), capture_output=True, text=True, timeout=20
    )
    assert second.returncode == 2
    assert f"already running here (process {agent.pid})" in second.stderr
    assert agent.poll() is None


def test_a_killed_agent_s_children_are_ended_at_the_next_start(home, start):
    agent = start()
    wait_until(lambda: client_pid(home) and len(everything(home)) >= 4)
    agent.kill()
    agent.wait(timeout=5)
    left = {process.pid for process in everything(home)}
    assert left
    start()
    wait_until(lambda: "a former start of this site had left" in screen(home))
    wait_until(lambda: left.isdisjoint({process.pid for process in everything(home)}))


def test_the_inference_port_stays_over_a_restart(home, portal, start):
    ports = []
    for _round in range(2):
        portal.heartbeats.clear()
        agent = start()
        beat = wait_until(lambda: portal.heartbeats and portal.heartbeats[-1])
        ports.append(beat["inference"]["url"])
        agent.send_signal(signal.SIGINT)
        agent.wait(timeout=12)
    assert ports[0] == ports[1]
    assert ports[0].startswith("http://127.0.0.1:")


def test_a_taken_port_is_a_sentence_and_the_client_still_runs(home, portal, start):
    taken = portal.url.rsplit(":", 1)[1]
    start(CONSILIUM_INFERENCE_PORT=taken)
    wait_until(lambda: f"Port {taken} is taken by another program" in screen(home))
    wait_until(lambda: portal.heartbeats and portal.heartbeats[-1]["client"]["state"] == "running")


def test_a_missing_shared_part_is_pulled_and_a_foreign_one_is_thrown_away(home, portal, start):
    good, forged = b"shared part", b"something else"
    digests = [sha256(good), sha256(b"what was ordered")]
    portal.artifacts = {digests[0]: good, digests[1]: forged}
    portal.orders = [
        {
            "promotion": number,
            "study": "cytology",
            "algorithm": "dbe",
            "run": "0e92ffb3-4721-4287-8db0-f3a8ff197439",
            "run_digest": "ab" * 32,
            "arm": "personal",
            "round": 2,
            "shared_sha256": digest,
            "personal_sha256": "cd" * 32,
            "version_label": "v1",
        }
        for number, digest in enumerate(digests)
    ]
    start()
    wait_until(lambda: home.artifact(digests[0]).exists())
    assert home.artifact(digests[0]).read_bytes() == good
    problems = wait_until(lambda: read_state(home.status_json).get("problems", {}).get("artifacts"))
    assert "not the one that was ordered" in problems
    assert [path.name for path in home.artifact(digests[0]).parent.iterdir()] == [digests[0]]
    assert len(read_serving(home).orders) == 2
    # torch takes a while; the models' own process then says why it does not serve them
    url = read_state(home.status_json)["inference_url"]
    wait_until(lambda: "did not take part" in ask(url), timeout_s=40)


def ask(url):
    try:
        return httpx.get(f"{url}/v1/status", trust_env=False).text
    except httpx.HTTPError:
        return ""


def test_a_clock_that_differs_is_said(home, portal, start):
    portal.clock_offset_s = 90
    start()
    wait_until(lambda: "clock is 90 s behind" in screen(home))


def test_a_broken_data_folder_is_said_and_the_site_comes_up(home, portal, start):
    add_cytology(home)
    (home.data / "cytology" / "manifest.json").write_text("{")
    start()
    wait_until(lambda: portal.heartbeats)
    assert "data/cytology cannot be used" in screen(home)
    assert portal.heartbeats[-1]["datasets"] == []


def test_the_client_sees_nothing_of_the_operator_s_environment(home, start):
    start(SECRET_OF_THE_OPERATOR="x", LD_LIBRARY_PATH="/nowhere", CONSILIUM_DEVICE="cpu")
    pid = wait_until(lambda: client_pid(home))
    seen = psutil.Process(pid).environ()
    assert "SECRET_OF_THE_OPERATOR" not in seen
    assert "LD_LIBRARY_PATH" not in seen
    assert seen["CONSILIUM_DEVICE"] == "cpu"  # of the machine, so it is the operator's to say
    assert seen["HOME"] == seen["CONSILIUM_SITE_HOME"] == str(home.root)


def test_a_start_without_link_says_what_is_missing(home, start):
    assert start(link=None).wait(timeout=20) == 2
    assert "no certificate yet. Start it with the link of your invitation" in screen(home)


def test_the_second_of_two_agents_stops_and_says_why(home, portal, start):
    portal.twin = True
    assert start().wait(timeout=30) == 2
    assert "Another agent with this site's key and certificate was at work before" in screen(home)
    assert everything(home) == []
    assert "Traceback" not in screen(home)


def test_a_portal_that_is_too_busy_to_enrol_is_asked_again(home, portal, start):
    portal.busy = 2
    start()
    wait_until(lambda: portal.heartbeats)
    assert "cannot write its audit log now. Next attempt in 4 s." in screen(home)


def test_a_site_that_waits_for_the_portal_stops_at_once_and_goes_on_with_the_same_key(home, portal, start):
    facts = json.loads(home.site_json.read_text()) | {"agents_url": "https://localhost:9"}
    home.site_json.write_text(json.dumps(facts))
    agent = start()
    wait_until(lambda: "Next attempt in" in screen(home))
    agent.send_signal(signal.SIGINT)
    assert agent.wait(timeout=5) == 0
    assert everything(home) == []
    key = home.key.read_bytes()
    home.site_json.write_text(json.dumps(facts | {"agents_url": portal.url}))
    start()
    wait_until(lambda: portal.heartbeats)
    assert home.key.read_bytes() == key
