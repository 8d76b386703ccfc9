"""What the console says of a run: bytes as they travel, and whether the site's own figures leave."""

import json
import uuid

import pytest

from compliance.policy import Policy
from fl_jobs.approval.egress import EgressLine, append_line
from fl_jobs.approval.records import answer_bytes, now
from site_kits.agent.requests import decide, keep_request
from tests.approvals import make_request, write_policy
from tests.e2e.cytology import run_spec
from tests.site_kits.console_doubles import Operator

ASK, KEEP = '[approval]\nmode = "ask"\n', "[output]\nshare_site_metrics = false\n"
READABLE, KEPT = "Not under masks: this site's own losses", "losses and test figures stay here"
MASKED = run_spec(rounds=3, masked=True)


def asked(home, spec, **more):
    run_id = str(uuid.uuid4())
    keep_request(home, make_request(spec, run_id, **more))
    return run_id


@pytest.fixture
def page(home):
    """``page(run_id)``: the text of the request's page."""
    write_policy(home.root, ASK)
    operator = Operator(home)

    def text(run_id):
        operator.get(f"/runs/{run_id}/")
        return operator.text

    return text


def test_own_figures_are_said_to_leave_readable(home, page):
    said = page(asked(home, MASKED))
    assert READABLE in said
    assert KEPT not in said


@pytest.mark.parametrize("who", ["site", "study", "platform"])
def test_they_stay_when_anybodys_policy_keeps_them(home, page, who):
    quiet = Policy.model_validate({"output": {"share_site_metrics": False}})
    if who == "site":
        write_policy(home.root, ASK + KEEP)
    said = page(asked(home, MASKED, **({} if who == "site" else {f"{who}_policy": quiet})))
    assert KEPT in said
    assert READABLE not in said


def test_a_policy_tightened_after_the_approval_counts(home, page):
    run_id = asked(home, MASKED)
    decide(home, run_id, True, "", "olaf")
    assert READABLE in page(run_id)
    write_policy(home.root, ASK + KEEP)
    assert KEPT in page(run_id)


def test_nothing_is_claimed_while_the_policy_is_unusable(home, page):
    write_policy(home.root, "[output]\nshare = 1\n")
    said = page(asked(home, MASKED))
    assert READABLE not in said
    assert KEPT not in said


def test_the_size_is_that_of_the_masked_vector(home, page):
    plain, masked = page(asked(home, run_spec(rounds=3))), page(asked(home, MASKED))
    per_round = sum(4 * tensor.size for tensor in MASKED.shared().values())
    assert answer_bytes(MASKED, "train") > 2 * per_round
    assert f"{per_round / 1000:.1f} kB in each of 3 rounds" in plain
    assert f"{answer_bytes(MASKED, 'train') / 1000:.1f} kB in each of 3 rounds" in masked
    assert "readable by the server" in plain


def test_the_question_form_goes_with_the_answer(home, page):
    run_id = asked(home, MASKED)
    assert "Ask before you decide" in page(run_id)
    decide(home, run_id, True, "", "olaf")
    assert "Ask before you decide" not in page(run_id)


def test_what_has_left(home):
    write_policy(home.root, ASK)
    run_id = asked(home, MASKED)
    decide(home, run_id, True, "", "olaf")
    about = {"run_id": run_id, "job": "1", "round": 1, "masked": True, "message_bytes": 9, "text_bytes": 9}
    names = tuple(MASKED.shared())
    for task, tensors, size in (("train", names, 800), ("secagg_reveal", (), 0), ("finish", (), 0)):
        line = {"task": task, "tensors": tensors, "tensor_count": len(tensors), "number_bytes": size}
        append_line(home.root, EgressLine(at=now(), **about, **line))
    operator = Operator(home)
    operator.get("/egress/")
    assert "training" in operator.text
    assert "final test" in operator.text
    assert "keys of the masks" in operator.text
    assert "Beside the numbers, readable: this site's own losses" in operator.text
    assert names[0] in operator.text
    assert operator.text.count("sums only") == 1


def test_json_of_the_meter_keeps_the_tasks_name(home, capsys):
    """Programs read it."""
    from site_kits.agent.__main__ import main

    line = {"run_id": "r", "job": "1", "round": 1, "masked": True, "message_bytes": 9, "text_bytes": 9}
    more = {"task": "train", "tensors": ("w",), "tensor_count": 1, "number_bytes": 8}
    append_line(home.root, EgressLine(at=now(), **line, **more))
    assert main(["--home", str(home.root), "egress", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "train"
