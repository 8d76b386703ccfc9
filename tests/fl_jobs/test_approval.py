"""The gate: what runs is, byte by byte, what was approved; meter and notes survive what may happen."""

import json
import os

import pytest

from fl_jobs.approval import admit, approved, egress, facts_of, read_request
from fl_jobs.approval.egress import EgressLine, append_line, read_lines
from fl_jobs.approval.refusals import KEPT, note_refusal, read_refusals
from fl_jobs.errors import NotApprovedError, SiteHomeError
from fl_jobs.masking.plans import vector_sizes
from tests.approvals import approve, approved_by_person, deploy, make_request, write_policy
from tests.fl_jobs.mutations import MUTATIONS, copied, mutate
from tests.fl_jobs.test_flare_outgoing import MASKED, SPEC

RUN = "0d9bd0a5-4d4f-4b6a-9d4c-0f5be1f0a0a1"


@pytest.fixture
def home(tmp_path):
    approve(tmp_path, SPEC, RUN)
    return tmp_path


def test_the_approved_job_is_admitted_with_its_signatures(home, tmp_path):
    app = deploy(tmp_path / "app", SPEC, RUN, epoch=7)
    for folder in (app, app / "config"):
        (folder / ".__nvfl_sig.json").write_text("{}")
        (folder / ".__nvfl_submitter.crt").write_text("")
    assert admit(home, app).spec == SPEC


@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_changed_job_is_not_admitted(home, tmp_path, kind):
    app = deploy(tmp_path / "app", SPEC, RUN)
    for seed in range(6):
        with copied(app, tmp_path / "changed") as changed:
            mutate(changed, kind, seed)
            with pytest.raises(NotApprovedError) as caught:
                admit(home, changed)
        assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "change",
    [
        lambda home: (home / "requests" / RUN / "decision.json").unlink(),
        lambda home: (home / "requests" / RUN / "request.json").unlink(),
        lambda home: (home / "requests" / RUN / "decision.json").write_text("{"),
        lambda home: (home / "requests" / RUN / "request.json").write_text("{}"),
        lambda home: write_policy(home, "[cohort]\nmin_sites = 3\n"),
        lambda home: write_policy(home, '[approval]\nmode = "ask"\n'),
        lambda home: write_policy(home, ""),
    ],
    ids=["undecided", "never asked", "damaged decision", "damaged request", "tightened", "asks", "silent"],
)
def test_what_takes_an_approval_away(home, change):
    approved(home, RUN)
    change(home)
    with pytest.raises(NotApprovedError):
        approved(home, RUN)


def test_an_approval_of_another_digest_is_none(home):
    path = home / "requests" / RUN / "decision.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run_digest": "0" * 64}))
    with pytest.raises(NotApprovedError, match="waits for this site's approval"):
        approved(home, RUN)


def test_a_link_in_the_place_of_a_decision_is_none(home, tmp_path):
    path = home / "requests" / RUN / "decision.json"
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(NotApprovedError):
        approved(home, RUN)


def test_a_person_may_approve_what_the_policy_leaves_open_and_not_what_it_refuses(home):
    write_policy(home, '[approval]\nmode = "ask"\n')
    approved_by_person(home, SPEC, RUN)
    approved(home, RUN)
    write_policy(home, "[output]\nmax_rounds = 2\n")
    with pytest.raises(NotApprovedError, match="max_rounds"):
        approved(home, RUN)


def test_a_study_and_the_platform_tighten_and_never_loosen(tmp_path):
    write_policy(tmp_path, '[approval]\nmode = "standing"\n[output]\nshare_site_metrics = false\n')
    platform = {"output": {"share_site_metrics": True, "max_rounds": 9}}
    approve(tmp_path, SPEC, RUN, platform_policy=platform)
    found = approved(tmp_path, RUN).policy.output
    assert (found.share_site_metrics, found.max_rounds) == (False, 9)
    asking = approve(tmp_path, SPEC, study_policy={"approval": {"mode": "ask"}})
    with pytest.raises(NotApprovedError, match="waits"):
        approved(tmp_path, asking)


@pytest.mark.parametrize(("text", "word"), [("[cohort]\nmin_site = 2", "min_site"), ("\x00", "TOML")])
def test_without_a_usable_policy_nothing_is_approved(home, text, word):
    write_policy(home, text)
    with pytest.raises(SiteHomeError, match=word):
        approved(home, RUN)


def test_a_request_that_says_another_digest_than_its_specification_is_none(home):
    lies = make_request(SPEC, RUN).model_dump(mode="json") | {"run_digest": "0" * 64}
    (home / "requests" / RUN / "request.json").write_text(json.dumps(lies))
    with pytest.raises(NotApprovedError, match="damaged"):
        read_request(home, RUN)


def test_the_largest_answer_counts():
    assert facts_of(SPEC).answer_bytes == 24  # of the phase: 16
    masked = facts_of(MASKED)
    assert masked.answer_bytes == max(max(vector_sizes(MASKED, task)) for task in ("train", "finish"))
    local = SPEC.model_copy(update={"algorithm": "local_only", "tensors": ()})
    assert facts_of(local).private


def line(number: int) -> EgressLine:
    return EgressLine(
        at="now", run_id=RUN, job="job", task="train", round=number, tensors=("global/w",), tensor_count=1,
        masked=False, number_bytes=24, message_bytes=0, text_bytes=9,
    )  # fmt: skip


def test_the_meter_survives_a_torn_line_and_rotates(tmp_path, monkeypatch):
    append_line(tmp_path, line(1))
    with (tmp_path / "egress" / "egress.jsonl").open("ab") as file:
        file.write(b'{"at":"now","run')  # a power cut
    append_line(tmp_path, line(2))
    assert [each.round for each in read_lines(tmp_path)] == [1, 2]
    monkeypatch.setattr(egress, "ROTATE_BYTES", 200)
    for number in range(3, 30):
        append_line(tmp_path, line(number))
    kept = [each.round for each in read_lines(tmp_path, RUN)]
    assert kept == sorted(kept)
    assert kept[-1] == 29
    assert len(os.listdir(tmp_path / "egress")) == egress.OLD_FILES + 2
    assert not list(read_lines(tmp_path, "another"))


def test_refusals_are_kept_once_each_and_bounded(tmp_path):
    for number in range(KEPT + 5):
        note_refusal(tmp_path, job_id=str(number), run_id=RUN, sentence="No.")
    note_refusal(tmp_path, job_id="9", run_id=RUN, sentence="No.")
    found = [entry["job"] for entry in read_refusals(tmp_path)]
    assert len(found) == len(set(found)) == KEPT
    assert found[-1] == "9"
    (tmp_path / "state" / "refused_jobs.json").write_text("[")
    assert read_refusals(tmp_path) == []
