"""Opening the secrets of survivors that fell silent, when some of the shares may be wrong.

The commitments say when a secret is right, so the holders need not be believed: those whose share does not
lie on the right polynomial are found and named.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, islice
from typing import Final

from secure_agg.errors import SecureAggregationError
from secure_agg.keys import commit, pair_tag
from secure_agg.messages import Header, Recover
from secure_agg.shamir import reconstruct

_TRIES_MAX: Final = 1000  # of all subsets there may be too many; a hostile holder must not buy time with them


class Recovery:
    """The shares that arrive for one request; ``asked`` stays as it was sent, whoever answers late."""

    def __init__(self, asked: Sequence[int], dropped: Sequence[int], threshold: int) -> None:
        self.asked, self._dropped, self._threshold = tuple(asked), tuple(dropped), threshold
        self._shares: dict[int, dict[int, tuple[bytes, dict[int, bytes]]]] = {}  # silent -> holder -> shares
        self.liars: set[int] = set()

    def add(self, holder: int, message: Recover) -> None:
        """Raises E_DECODE when the shares are not those that were asked for."""
        for silent, (_, of_pairs) in message.shares:
            if silent not in self.asked or [peer for peer, _ in of_pairs] != list(self._dropped):
                raise SecureAggregationError("E_DECODE", field="silent sites")
        for silent, (own, of_pairs) in message.shares:
            self._shares.setdefault(silent, {})[holder] = (own, dict(of_pairs))

    def open(self, silent: int, header: Header, site: str) -> tuple[bytes, dict[int, bytes]]:
        """What ``silent`` would have revealed. Raises as ``reconstruct_checked``."""
        held, tags = self._shares.get(silent, {}), dict(header.tags)
        own = self._open({h: shares[0] for h, shares in held.items()}, commit, header.com_b, site)
        return own, {
            peer: self._open({h: shares[1][peer] for h, shares in held.items()}, pair_tag, tags[peer], site)
            for peer in self._dropped
        }

    def _open(
        self, shares: Mapping[int, bytes], commitment: Callable[[bytes], bytes], committed: bytes, site: str
    ) -> bytes:
        secret, liars = reconstruct_checked(
            shares, self._threshold, lambda found: commitment(found) == committed, site=site
        )
        self.liars |= liars
        return secret


def reconstruct_checked(
    shares: Mapping[int, bytes], threshold: int, fits: Callable[[bytes], bool], *, site: str
) -> tuple[bytes, set[int]]:
    """The secret of ``site`` out of shares by holder index (x is the index + 1), and whose share is wrong.

    Raises E_RECOVERY_FAILED with too few shares, E_BAD_SHARE when none of the subsets tried gives a secret
    that ``fits``: then it was ``site`` that shared something else than it committed to.
    """
    if len(shares) < threshold:
        raise SecureAggregationError("E_RECOVERY_FAILED", site=site, have=len(shares), need=threshold)
    for holders in islice(_subsets(sorted(shares), threshold), _TRIES_MAX):
        secret = _try(shares, holders)
        if secret is not None and fits(secret):
            others = set(shares) - set(holders)
            return secret, {other for other in others if _try(shares, (*holders[1:], other)) != secret}
    raise SecureAggregationError("E_BAD_SHARE", site=site)


def _subsets(holders: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Subsets of ``size``, the fewest suspects first: nobody left out, then each one, then each two ..."""
    for suspects in range(len(holders) - size + 1):
        for left_out in combinations(holders, suspects):
            yield tuple(holder for holder in holders if holder not in left_out)[:size]


def _try(shares: Mapping[int, bytes], holders: Sequence[int]) -> bytes | None:
    try:
        return reconstruct({holder + 1: shares[holder] for holder in holders})
    except SecureAggregationError:
        return None  # a share that no honest site could have made
