# ruff: noqa: F811 - pytest takes fixtures by the name of the argument
"""NVFlare's own files of a site: what they hold, and what the installed NVFlare's classes make of them."""

import json

import pytest
from nvflare.apis.fl_constant import AdminCommandNames
from nvflare.apis.fl_context import FLContext
from nvflare.apis.fl_exception import UnsafeComponentError
from nvflare.apis.workspace import Workspace
from nvflare.app_common.resource_managers.gpu_resource_manager import GPUResourceManager
from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer
from nvflare.fuel.sec.authz import AuthzContext, Person
from nvflare.private.fed.app.fl_conf import create_privacy_manager
from nvflare.security.security import COMMAND_CATEGORIES, FLAuthorizer

from compliance.policy import Output, Policy, parse_policy
from fl_jobs.approval.refusals import read_refusals
from fl_jobs.errors import SharedStateError
from fl_jobs.flare import wire
from fl_jobs.flare.policy_fence import PolicyFence
from site_kits.agent.fencing import Fence
from site_kits.agent.requests import decide
from site_kits.fence import PLACES, FenceError, PermittedRun, fence_files, permits_nothing
from site_kits.provisioning import flare_kit
from site_kits.site_home import SiteHome
from tests.approvals import STANDING, approve, write_policy
from tests.fl_jobs.test_filter_approval import CELLS
from tests.fl_jobs.test_flare_outgoing import SPEC, place, result, site  # noqa: F401 - a fixture

FACTS = flare_kit.FederationFacts("demo", "server", "localhost", 8102)
OPEN, CLOSED = parse_policy(STANDING.encode()), parse_policy(b"[studies]\nallow = []\n")
RUN = PermittedRun("0d9bd0a5-4d4f-4b6a-9d4c-0f5be1f0a0a1", "a" * 64, OPEN)
RIGHTS = {
    *COMMAND_CATEGORIES, "byoc", "server-predeployed-flwr", AdminCommandNames.SUBMIT_JOB,
    AdminCommandNames.CLONE_JOB, AdminCommandNames.REPORT_VERSION, AdminCommandNames.APP_COMMAND,
}  # fmt: skip


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """A site's folder as unpacked, with NVFlare's files of the kit."""
    monkeypatch.setenv("CONSILIUM_SITE_HOME", str(tmp_path))
    (tmp_path / "site.json").write_text("{}")
    flare_kit.write_site_kit_files(tmp_path / "flare", FACTS, "hospital-a", "test", b"root")
    return SiteHome(tmp_path)


def read(home: SiteHome, name: str) -> dict:
    return json.loads((home.flare / "local" / name).read_text())


def listed(home: SiteHome) -> set[str]:
    (scope,) = read(home, "privacy.json")["scopes"]
    return set(scope["task_result_filters"][0]["args"]["runs"])


def permitted(authorizer: FLAuthorizer, name: str, role: str) -> set[str]:
    person = Person(name, "consilium", role)
    asked = {right: AuthzContext(right=right, user=person, submitter=person) for right in RIGHTS}
    return {right for right, context in asked.items() if authorizer.authorize(context)[0]}


def test_nvflare_lets_the_portals_submitter_deploy_a_job_and_nobody_do_anything_else():
    authorizer = FLAuthorizer("test", fence_files(OPEN, [])["authorization.json"])
    assert permitted(authorizer, "runs", "lead") == {"submit_job"}
    for name, role in (("ops", "project_admin"), ("eve", "lead"), ("runs", "member"), ("x", "org_admin")):
        assert permitted(authorizer, name, role) == set()


@pytest.mark.parametrize("policy", [None, CLOSED])
def test_where_no_run_can_be_permitted_nvflare_itself_refuses_every_job(kit, policy):
    files = fence_files(policy, [RUN])
    assert permitted(FLAuthorizer("test", files["authorization.json"]), "runs", "lead") == set()
    assert files["resources.json"]["class_allow_list"] == []
    (scope,) = files["privacy.json"]["scopes"]  # without any scope NVFlare would permit all of them
    assert scope["task_result_filters"][0]["args"] == {"policies": {}, "runs": {}}


def scopes(home: SiteHome, *, names_only: bool):
    return create_privacy_manager(Workspace(str(home.flare), "hospital-a"), names_only=names_only)


def test_a_job_must_name_our_scope_and_a_fresh_kit_knows_none(kit):
    manager = scopes(kit, names_only=True)
    assert manager.is_policy_defined()
    assert [manager.get_scope(name) for name in ("consilium", "", None)] == [None] * 3
    write_policy(kit.root)
    Fence(kit).renew()
    manager = scopes(kit, names_only=True)
    assert manager.get_scope("consilium") is not None
    assert [manager.get_scope(name) for name in ("", None, "closed", "other")] == [None] * 4


def test_nvflare_builds_both_filters_in_this_order_for_every_job(kit):
    approve(kit.root, SPEC)
    scope = scopes(kit, names_only=False).get_scope("consilium")
    names = [type(each).__name__ for each in scope.task_result_filters["out"]]
    assert names == ["PolicyFence", "SharedTensorFilter"]


def refused_classes(home: SiteHome) -> list[str]:
    context, gate, found = FLContext(), ComponentPathAuthorizer(), []
    workspace = Workspace(str(home.flare), "hospital-a")
    for path in (
        "fl_jobs.flare.executor.ConsiliumExecutor", "fl_jobs.flare.controller.ConsiliumController",
        "fl_jobs.flare.site_filter.SharedTensorFilter", "os.system",
        "nvflare.app_common.executors.client_api_launcher_executor.ClientAPILauncherExecutor",
    ):  # fmt: skip
        try:
            gate.authorize_component_config({"path": path, "args": {}}, fl_ctx=context, workspace=workspace)
        except UnsafeComponentError:
            found.append(path)
    return found


def test_a_job_may_build_one_class_at_a_site(kit):
    assert len(refused_classes(kit)) == 5
    write_policy(kit.root)
    Fence(kit).renew()
    refused = refused_classes(kit)
    assert len(refused) == 4
    assert not any("executor.ConsiliumExecutor" in path for path in refused)


def test_a_job_that_asks_for_a_gpu_gets_none(kit):
    (manager,) = (
        GPUResourceManager(**each["args"])
        for each in read(kit, "resources.json")["components"]
        if each["id"] == "resource_manager"
    )
    context = FLContext()
    assert manager.check_resources({}, context)[0]
    assert not manager.check_resources({"num_of_gpus": 1, "mem_per_gpu_in_GiB": 1}, context)[0]


def test_every_field_of_a_policy_has_a_place_and_a_new_one_is_an_error():
    class Wider(Output):
        max_metrics: int = 3

    class Longer(Policy):
        output: Wider = Wider()
        purpose: str = "care"

    fence_files(Policy(), [])
    with pytest.raises(FenceError, match=r"output\.max_metrics, purpose"):
        fence_files(Longer(), [])
    assert set(PLACES.values()) == {"listed", "output", "gate"}


@pytest.mark.parametrize(
    "text",
    [
        '[studies]\nallow = ["other"]\n', f'[studies]\ndeny = ["{SPEC.study.slug}"]\n',
        '[algorithms]\nallow = ["fedavg"]\n', f'[algorithms]\ndeny = ["{SPEC.algorithm}"]\n',
        "[cohort]\nmin_sites = 99\n", '[privacy]\nsecure_aggregation = "required"\n',
        '[privacy]\ndifferential_privacy = "required"\n', "[privacy]\nepsilon = 1.0\ndelta = 1e-6\n",
        "[output]\nmax_rounds = 1\n", "[output]\nmax_answer_bytes = 1\n",
    ],
)  # fmt: skip
def test_a_run_that_breaks_any_field_is_not_listed(kit, text):
    run_id = approve(kit.root, SPEC)
    assert listed(kit) == {run_id}
    write_policy(kit.root, STANDING + text)
    Fence(kit).renew()
    assert listed(kit) == set()


def test_the_policies_of_platform_and_study_count_too(kit):
    run_id = approve(kit.root, SPEC, platform_policy=parse_policy(b"[output]\nmax_answer_bytes = 500\n"),
                     study_policy=parse_policy(b"[output]\nshare_site_metrics = false\n"))  # fmt: skip
    arguments = read(kit, "privacy.json")["scopes"][0]["task_result_filters"][0]["args"]
    digest, policy = arguments["runs"][run_id]
    assert digest == SPEC.digest()
    assert arguments["policies"][policy]["output"]["max_answer_bytes"] == 500
    assert arguments["policies"][policy]["output"]["share_site_metrics"] is False


def test_a_withdrawn_approval_and_an_unusable_policy_leave_the_files(kit):
    run_id = approve(kit.root, SPEC)
    fence = Fence(kit)
    fence.renew()
    assert (fence.is_open, listed(kit)) == (True, {run_id})
    write_policy(kit.root, STANDING + "[output]\nmax_round = 3\n")
    fence.renew()
    assert (fence.is_open, listed(kit)) == (False, set())
    write_policy(kit.root)
    fence.renew()
    assert (fence.is_open, listed(kit)) == (True, {run_id})
    decide(kit, run_id, False, "The board objects.", "olaf")
    fence.renew()
    assert (fence.is_open, listed(kit)) == (True, set())


def test_files_are_written_only_when_something_changed(kit):
    approve(kit.root, SPEC)
    fence, path = Fence(kit), kit.flare / "local" / "privacy.json"
    fence.renew()
    before = path.stat().st_ino
    fence.renew()
    assert path.stat().st_ino == before
    path.write_text("{}")  # a kit unpacked over it, or somebody's own idea
    fence.renew()
    assert listed(kit)
    before = path.stat().st_ino
    approve(kit.root, SPEC)
    fence.renew()
    assert path.stat().st_ino != before


def test_a_policy_that_permits_nothing():
    for text in ("[studies]\nallow = []\n", "[output]\nmax_rounds = 0\n",
                 '[algorithms]\nallow = ["dbe"]\ndeny = ["dbe"]\n'):  # fmt: skip
        assert permits_nothing(parse_policy(text.encode()))
    assert not permits_nothing(Policy())
    assert not permits_nothing(parse_policy(b'[algorithms]\ndeny = ["dbe"]\n'))


def fence_of(run_id: str, policy: Policy) -> PolicyFence:
    (scope,) = fence_files(policy, [PermittedRun(run_id, SPEC.digest(), policy)])["privacy.json"]["scopes"]
    return PolicyFence(**json.loads(json.dumps(scope["task_result_filters"][0]["args"])))


def test_the_file_holds_although_the_policy_was_loosened_meanwhile(site):
    """``policy.toml`` permits everything; what the job process read at its start does not."""
    write_policy(site.home)
    run_id = place(site.home, SPEC)
    assert fence_of(run_id, OPEN).process(given := result(CELLS), site.context) is given
    keeps = parse_policy(b"[output]\nshare_site_metrics = false\n")
    with pytest.raises(SharedStateError, match="policy keeps"):
        fence_of(run_id, keeps).process(result(CELLS), site.context)
    with pytest.raises(SharedStateError, match="more bytes"):
        fence_of(run_id, parse_policy(b"[output]\nmax_answer_bytes = 8\n")).process(result(), site.context)


def test_of_a_run_that_is_not_listed_nothing_leaves(site):
    place(site.home, SPEC)
    fence = fence_of("0d9bd0a5-4d4f-4b6a-9d4c-0f5be1f0a0a1", OPEN)
    reply = fence.process(result(), site.context)
    assert wire.TENSORS_KEY not in reply
    assert "did not list run" in reply[wire.ERROR_KEY]
    assert read_refusals(site.home)[-1]["sentence"] == reply[wire.ERROR_KEY]


def test_a_listed_run_whose_specification_was_changed_is_stopped(site):
    run_id = place(site.home, SPEC)
    config = site.home / "app" / "config"
    (config / "run_spec.json").write_bytes(SPEC.model_copy(update={"rounds": 9}).canonical())
    reply = fence_of(run_id, OPEN).process(result(), site.context)
    assert "not the one that was approved" in reply[wire.ERROR_KEY]


def test_a_file_with_a_field_this_version_does_not_know_stops_the_job_process():
    (scope,) = fence_files(OPEN, [RUN])["privacy.json"]["scopes"]
    arguments = json.loads(json.dumps(scope["task_result_filters"][0]["args"]))
    (policy,) = arguments["policies"].values()
    policy["purpose"] = "care"
    with pytest.raises(ValueError, match="purpose is no setting"):
        PolicyFence(**arguments)
    del policy["purpose"]
    policy["output"]["max_rounds"] = 7
    with pytest.raises(ValueError, match="another digest"):
        PolicyFence(**arguments)
