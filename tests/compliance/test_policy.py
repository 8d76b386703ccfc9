"""Policies: the laws of their meet, what each field decides, and sentences for files that are no policy."""

import pytest

from compliance.policy import (
    MAX_POLICY_BYTES,
    RULES,
    Policy,
    PolicyError,
    RequestFacts,
    decide,
    meet,
    parse_policy,
)
from tests.compliance.policies import LAWS, hold

REQUEST = RequestFacts(
    study="heart", algorithm="dbe", min_sites=3, rounds=10, masked=True, private=False, answer_bytes=1000
)
REFUSALS = {
    "[cohort]\nmin_sites = 4": "cohort.min_sites",
    '[studies]\nallow = ["cytology"]': "studies",
    '[algorithms]\ndeny = ["dbe"]': "algorithms",
    "[algorithms]\nallow = []": "algorithms",
    '[privacy]\ndifferential_privacy = "required"': "privacy.differential_privacy",
    "[privacy]\nepsilon = 8\ndelta = 1e-6": "privacy.differential_privacy",
    "[output]\nmax_answer_bytes = 999": "output.max_answer_bytes",
    "[output]\nmax_rounds = 9": "output.max_rounds",
}


@pytest.mark.parametrize("law", LAWS)
def test_law(law):
    hold(law, 300)


@pytest.mark.parametrize(("text", "rule"), REFUSALS.items())
def test_each_rule_refuses_by_its_name(text, rule):
    policy = parse_policy(text.encode())
    assert decide(REQUEST, policy).effect == "refuse"
    assert decide(REQUEST, policy).rules == (rule,)
    assert decide(REQUEST, policy).policy_digest == policy.digest()


def test_no_rule_is_without_a_case():
    plain = RequestFacts(**{**vars(REQUEST), "masked": False})
    required = parse_policy(b'[privacy]\nsecure_aggregation = "required"')
    assert decide(REQUEST, required).effect == "allow"
    assert {*REFUSALS.values(), *decide(plain, required).rules} == set(RULES)


def test_asking_is_between_allowing_and_refusing():
    ask = parse_policy(b'[approval]\nmode = "ask"')
    assert decide(REQUEST, Policy()).effect == "allow"
    assert decide(REQUEST, ask).effect == "ask"
    assert decide(REQUEST, meet(ask, parse_policy(b"[output]\nmax_rounds = 1"))).effect == "refuse"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"[cohort]\nmin_site = 2", "cohort.min_site"),
        (b"[approvals]", "approvals"),
        (b'[approval]\nmode = "asks"', "approval.mode"),
        (b"[output]\nshare_site_metrics = 1", "output.share_site_metrics"),
        (b"[privacy]\nepsilon = 8", "privacy"),
        (b"[privacy]\nepsilon = nan\ndelta = 0.1", "value"),
        (b"version = 2", "version"),
        (b"until = 2027-01-01", "value"),
        (b"[cohort", "TOML"),
        (b"\xff", "TOML"),
        (b"a = " + b"[" * 5000, "TOML"),
        (b"#" * (MAX_POLICY_BYTES + 1), "64 KiB"),
    ],
)
def test_a_typo_is_one_sentence_with_its_place(text, place):
    with pytest.raises(PolicyError, match=place) as caught:
        parse_policy(text)
    assert "\n" not in str(caught.value)
