import pytest

from compliance.note import NoteError
from compliance.witness_policy import PolicyTextError, WitnessPolicy, policy_of
from tests.compliance import small_log as log


@pytest.mark.parametrize(("count", "quorum"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 3), (5, 4)])
def test_the_platform_asks_for_all_but_a_quarter(count, quorum):
    names = log.SITES[:count]
    policy = policy_of(log.LOG, {name: log.WITNESSES[name] for name in names})
    for signed in range(count + 1):
        assert policy.is_met_by(set(names[:signed])) is (signed >= quorum)
    assert WitnessPolicy.parse(str(policy)) == policy


def test_a_policy_that_is_too_long_is_not_read():
    with pytest.raises(PolicyTextError, match="at most"):
        WitnessPolicy.parse("#" * 65_537)


def test_the_sentence_names_the_line():
    with pytest.raises(PolicyTextError, match="Line 2: expected"):
        WitnessPolicy.parse(f"log {log.LOG}\nnonsense\n")


def test_a_known_witness_that_does_not_fit_is_not_skipped():
    note = log.cosigned(log.checkpoint(5), at=2**53)
    with pytest.raises(NoteError, match="no possible time"):
        log.POLICY.signers(note)
