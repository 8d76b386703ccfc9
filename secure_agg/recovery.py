"""Opening a shared secret when some of the shares may be wrong: the commitment says when it is right."""

from collections.abc import Callable, Mapping
from itertools import combinations, islice
from typing import Final

from secure_agg.errors import SecureAggregationError
from secure_agg.shamir import reconstruct

_TRIES_MAX: Final = 200  # of all subsets there may be too many; a hostile holder must not buy time with them


def reconstruct_checked(
    shares: Mapping[int, bytes], threshold: int, fits: Callable[[bytes], bool], *, site: str
) -> bytes:
    """The secret of ``site`` out of shares by holder index (x is the index + 1).

    Raises E_RECOVERY_FAILED with too few shares, E_BAD_SHARE when none of the subsets tried gives a secret
    that ``fits``.
    """
    if len(shares) < threshold:
        raise SecureAggregationError("E_RECOVERY_FAILED", site=site, have=len(shares), need=threshold)
    for holders in islice(combinations(sorted(shares), threshold), _TRIES_MAX):
        try:
            secret = reconstruct({holder + 1: shares[holder] for holder in holders})
        except SecureAggregationError:
            continue  # this subset holds a share that no honest site could have made
        if fits(secret):
            return secret
    raise SecureAggregationError("E_BAD_SHARE", site=site)
