"""The agent's side of approval: fetched over real TLS, decided by policy or person, signed, sent once."""

import json
import threading
import uuid

import pytest

from fl_jobs.approval import admit, read_decision
from fl_jobs.approval.refusals import note_refusal
from fl_jobs.errors import NotApprovedError
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec, TensorSpec
from site_kits.agent.__main__ import main
from site_kits.agent.enrolment import enrol
from site_kits.agent.fencing import Fence
from site_kits.agent.heartbeat import Heartbeat
from site_kits.agent.policy_file import write_missing_policy
from site_kits.agent.portal import PortalDoor
from site_kits.agent.processes import CHILDREN
from site_kits.agent.renewal import Credentials
from site_kits.agent.requests import decide, list_requests, load_request
from site_kits.agent.status import StatusBoard
from site_kits.decisions import verify_decision
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest, PrivacyBudget, SitePolicy
from tests.approvals import STANDING, deploy, make_request, write_policy
from tests.site_kits.site_doubles import PIN, TOKEN

SPEC = RunSpec(
    study=StudySpec(
        slug="cytology",
        purpose="Tell benign from malignant.",
        dataset="cytology",
        task=TaskSpec(kind="tabular", labels=("benign", "malignant"), features=("x",)),
    ),
    algorithm="dbe",
    hyper_parameters={"learning_rate": 0.003},
    model=ModelSpec(name="tabular_mlp"),
    rounds=3,
    seed=1,
    min_sites=3,
    policy=PolicySpec(),
    tensors=(TensorSpec(arm="global", phase="train", name="w", shape=(2, 3)),),
)


class Still:
    state, restarts, detail = "running", 0, ""


@pytest.fixture
def agent(home, portal):
    """An enrolled site's heartbeat, beaten by hand."""
    manifest = KitManifest.read(home.site_json)
    door = PortalDoor(manifest.agents_url, home.root_ca)
    identity = enrol(home, manifest, door, TOKEN, PIN)
    write_missing_policy(home, manifest.policy)
    board, children = StatusBoard(home), {name: Still() for name in CHILDREN}
    credentials = Credentials(home, manifest, identity)
    yield Heartbeat(home, credentials, door, board, children, Fence(home), threading.Event())
    door.close()


def ask(portal, spec=SPEC, **more):
    """The portal waits for this site's decision on a run."""
    run_id = str(uuid.uuid4())
    request = make_request(spec, run_id, **more)
    portal.artifacts[run_id] = request.model_dump_json().encode()
    portal.pending = [*portal.pending, {"run": run_id, "digest": request.run_digest}]
    return run_id


def problems(home):
    return json.loads(home.status_json.read_text())["problems"]


def test_by_default_a_person_decides_and_the_word_is_signed(agent, home, portal, capsys):
    run_id = ask(portal)
    assert agent.beat()
    assert portal.decisions == []
    assert "wait for your approval: 1." in problems(home)["approvals"]
    assert main(["--home", str(home.root), "requests", run_id[:8]]) == 0
    shown = capsys.readouterr().out
    assert "Tell benign from malignant." in shown
    assert "global/w  2×3  24 B" in shown
    assert main(["--home", str(home.root), "approve", run_id[:8]]) == 0
    assert agent.beat()
    assert "approvals" not in problems(home)
    said = verify_decision(portal.certificate, **portal.decisions[-1])
    assert (said.run_id, said.run_digest, said.approve, said.by) == (run_id, SPEC.digest(), True, "person")
    assert admit(home.root, deploy(home.root / "app", SPEC, run_id)).spec == SPEC


def test_a_decision_is_sent_once_and_again_when_the_portal_still_waits(agent, home, portal):
    write_policy(home.root, STANDING)
    run_id = ask(portal)
    agent.beat()
    assert [verify_decision(portal.certificate, **each).by for each in portal.decisions] == ["rule"]
    portal.pending = []
    agent.beat()
    assert len(portal.decisions) == 1
    portal.pending = [{"run": run_id, "digest": SPEC.digest()}]
    agent.beat()
    assert len(portal.decisions) == 2


def test_the_policy_refuses_by_itself_and_says_why(agent, home, portal):
    write_policy(home.root, STANDING + "[output]\nmax_rounds = 2\n")
    ask(portal)
    agent.beat()
    said = verify_decision(portal.certificate, **portal.decisions[-1])
    assert (said.approve, said.rules) == (False, ("output.max_rounds",))
    assert "more rounds" in said.reason
    with pytest.raises(AgentError, match="refuses this run"):
        decide(home, said.run_id, True, "", "olaf")
    write_policy(home.root, '[approval]\nmode = "ask"\n')
    decide(home, said.run_id, True, "", "olaf")
    agent.beat()
    assert verify_decision(portal.certificate, **portal.decisions[-1]).approve


def test_an_approval_can_be_taken_back_with_a_reason(agent, home, portal):
    write_policy(home.root, STANDING)
    run_id = ask(portal)
    agent.beat()
    with pytest.raises(AgentError, match="Say why"):
        decide(home, run_id, False, " ", "olaf")
    assert main(["--home", str(home.root), "refuse", run_id[:8], "--reason", "The board objects."]) == 0
    with pytest.raises(NotApprovedError, match="has refused"):
        admit(home.root, deploy(home.root / "app", SPEC, run_id))
    portal.pending = []
    agent.beat()
    said = verify_decision(portal.certificate, **portal.decisions[-1])
    assert (said.approve, said.reason) == (False, "The board objects.")


def test_with_a_typo_nothing_is_decided_and_one_sentence_says_it(agent, home, portal):
    write_policy(home.root, "[output]\nmax_round = 2\n")
    run_id = ask(portal)
    assert agent.beat()
    assert "output.max_round is no setting" in problems(home)["policy"]
    assert load_request(home, run_id).verdict is None
    with pytest.raises(AgentError, match="max_round"):
        decide(home, run_id, True, "", "olaf")
    write_policy(home.root, STANDING)
    agent.beat()
    assert "policy" not in problems(home)
    assert read_decision(home.root, run_id).approve


def test_another_digest_than_the_one_asked_about_is_not_taken(agent, home, portal):
    run_id = ask(portal)
    portal.pending = [{"run": run_id, "digest": "0" * 64}]
    agent.beat()
    assert "another digest" in problems(home)["requests"]
    assert list_requests(home) == []
    portal.artifacts[run_id] = b"{}"
    agent.beat()
    assert "not of this version" in problems(home)["requests"]
    portal.pending = [{"run": "../../etc", "digest": ""}, 7]
    assert agent.beat()


def test_a_portal_that_does_not_take_a_decision_is_heard_and_not_asked_for_ever(agent, home, portal):
    write_policy(home.root, STANDING)
    portal.decision_answer = (409, {"detail": "The run has ended.", "code": "refused"})
    run_id = ask(portal)
    agent.beat()
    portal.pending = []
    agent.beat()
    assert len(portal.decisions) == 1
    assert load_request(home, run_id).answer_from_portal == "The run has ended."
    portal.decision_answer = (503, {"detail": "Busy."})
    decide(home, run_id, False, "No.", "olaf")
    for _ in range(2):
        agent.beat()
    assert len(portal.decisions) == 3
    assert not load_request(home, run_id).sent


def test_what_changed_since_the_last_approved_run_of_the_study(agent, home, portal):
    write_policy(home.root, STANDING)
    first = ask(portal, asked_at="2026-12-01T00:00:00+00:00")
    more = TensorSpec(arm="global", phase="train", name="head.weight", shape=(4,))
    changed = SPEC.model_copy(update={"rounds": 5, "tensors": (*SPEC.tensors, more)})
    second = ask(portal, changed, asked_at="2026-12-02T00:00:00+00:00")
    agent.beat()
    stored = load_request(home, second)
    assert stored.compared_with == first
    places = {change.place: (change.before, change.after) for change in stored.changes}
    assert places.pop("rounds") == ("3", "5")
    assert places
    assert all(place.startswith("tensors.global/head.weight") for place in places)
    assert load_request(home, first).changes == ()


def test_a_job_that_was_stopped_is_said_at_both_ends(agent, home, portal):
    note_refusal(home.root, job_id="j", run_id="r", sentence="The job holds 'custom'.")
    agent.beat()
    assert problems(home)["refused job"] == "The job holds 'custom'."
    agent.beat()
    assert portal.heartbeats[-1]["refusals"][0]["sentence"] == "The job holds 'custom'."


def test_a_new_kit_leaves_the_policy_and_an_old_ones_settings_are_carried_over(home):
    told = SitePolicy(share_site_metrics=False, privacy_budget=PrivacyBudget(epsilon=8.0, delta=1e-6))
    assert write_missing_policy(home, told)
    text = (home.root / "policy.toml").read_text()
    from fl_jobs.approval import site_policy

    policy = site_policy(home.root)
    assert (policy.approval.mode, policy.output.share_site_metrics) == ("ask", False)
    assert (policy.privacy.epsilon, policy.privacy.delta) == (8.0, 1e-6)
    assert not write_missing_policy(home, SitePolicy())
    assert (home.root / "policy.toml").read_text() == text
