import pytest

from compliance import events
from compliance.canonical import CanonicalError


def test_an_undeclared_act_is_refused():
    with pytest.raises(CanonicalError, match="not declared"):
        events.check_event("site.painted", {})


def test_a_key_that_is_not_declared_is_refused():
    with pytest.raises(CanonicalError, match="patient"):
        events.check_event("site.invited", {"patient": "x"})


def test_two_meanings_of_one_act_are_refused():
    with pytest.raises(ValueError, match="twice"):
        events.register("site.invited", frozenset({"other"}))


def test_a_malformed_name_is_refused():
    with pytest.raises(ValueError, match=r"kit\.issued"):
        events.register("Site Invited")
