"""Policies and requests as hypothesis makes them, and the laws they keep. Shared by test and proof."""

from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.policy import EFFECTS, Policy, RequestFacts, decide, meet, policy_from

NAMES = ("a", "b", "c")
_names = st.lists(st.sampled_from(NAMES), max_size=3)
_listed = st.fixed_dictionaries({}, optional={"allow": _names, "deny": _names})
_need = st.sampled_from(["optional", "required"])
_budget = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"epsilon": st.floats(0.1, 10), "delta": st.floats(1e-9, 0.5)}),
)
_privacy = st.builds(
    lambda budget, needs: {**budget, **needs},
    _budget,
    st.fixed_dictionaries({}, optional={"secure_aggregation": _need, "differential_privacy": _need}),
)
_ceiling = st.one_of(st.none(), st.integers(0, 4))
policies = st.fixed_dictionaries(
    {},
    optional={
        "cohort": st.fixed_dictionaries({"min_sites": st.integers(1, 4)}),
        "studies": _listed,
        "algorithms": _listed,
        "privacy": _privacy,
        "output": st.fixed_dictionaries(
            {},
            optional={
                "share_site_metrics": st.booleans(),
                "max_answer_bytes": _ceiling,
                "max_rounds": _ceiling,
            },
        ),
        "approval": st.fixed_dictionaries({"mode": st.sampled_from(["standing", "ask"])}),
    },
).map(policy_from)
requests = st.builds(
    RequestFacts,
    study=st.sampled_from(NAMES),
    algorithm=st.sampled_from(NAMES),
    min_sites=st.integers(1, 4),
    rounds=st.integers(1, 4),
    masked=st.booleans(),
    private=st.booleans(),
    answer_bytes=st.integers(0, 4),
)


def strictness(request: RequestFacts, policy: Policy) -> int:
    return EFFECTS.index(decide(request, policy).effect)


def commutative(a, b, c, request):
    assert meet(a, b) == meet(b, a)
    assert meet(a, b).digest() == meet(b, a).digest()


def associative(a, b, c, request):
    assert meet(meet(a, b), c) == meet(a, meet(b, c)) == meet(a, b, c)


def idempotent(a, b, c, request):
    assert meet(a, a) == a == meet(a, Policy())


def monotone(a, b, c, request):
    """Whatever is joined to it, a policy never permits more, and never shows more of the site."""
    tighter = meet(a, b)
    assert strictness(request, tighter) >= strictness(request, a)
    assert tighter.output.share_site_metrics <= a.output.share_site_metrics
    if a.privacy.epsilon is not None:
        assert tighter.privacy.epsilon <= a.privacy.epsilon
        assert tighter.privacy.delta <= a.privacy.delta


def exact(a, b, c, request):
    """The meet is no stricter than the stricter of the two: it permits what both permit."""
    assert strictness(request, meet(a, b)) == max(strictness(request, a), strictness(request, b))


LAWS = {law.__name__: law for law in (commutative, associative, idempotent, monotone, exact)}


def hold(name: str, examples: int) -> None:
    """Raise AssertionError when the law ``name`` fails on any of ``examples`` drawn cases."""
    drawn = given(a=policies, b=policies, c=policies, request=requests)(LAWS[name])
    settings(max_examples=examples, deadline=None, database=None)(drawn)()
