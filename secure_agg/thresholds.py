"""How many sites must agree: enough that no two survivor lists of one round can both get signed."""

from secure_agg.errors import SecureAggregationError

SMALLEST_COHORT = 3  # of two, each subtracts its own input and reads the other's
MOST_SITES = 1000
HONEST_INPUTS = 2  # a sum that the colluders cannot undo holds at least two others


def colluding_default(count: int) -> int:
    """The sites assumed to work with the server: just under a third of the roster."""
    return max(-(-count // 3) - 1, 0)


def apart_min(colluding: int, cohort_min: int) -> int:
    """By how many sites two cohorts of one question must differ, each way: a difference of sums is a sum.

    More than the specification asks for: of ``cohort_min`` sites all but one could be colluders.
    """
    return max(cohort_min, colluding + HONEST_INPUTS)


def threshold(count: int, colluding: int, cohort_min: int) -> int:
    """Signatures, shares and survivors needed among ``count`` sites of a round.

    Two certificates need 2t - n common signers; with t above (n + c) / 2 those are more than the colluders,
    so an honest site would have to sign twice, which it never does.
    """
    if not SMALLEST_COHORT <= cohort_min <= MOST_SITES or not 0 <= colluding <= MOST_SITES:
        reason = f"a smallest cohort of {cohort_min} with {colluding} colluding sites is outside the limits"
        raise SecureAggregationError("E_PLAN", reason=reason)
    needed = max((count + colluding) // 2 + 1, cohort_min)
    if needed > count:
        raise SecureAggregationError("E_COHORT_TOO_SMALL", have=count, need=needed)
    if needed - colluding < HONEST_INPUTS:
        reason = f"with {colluding} colluding sites a sum of {needed} hides too few honest inputs"
        raise SecureAggregationError("E_PLAN", reason=reason)
    return needed
