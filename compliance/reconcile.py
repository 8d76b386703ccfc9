"""Two logs that speak of the same rounds: what a site says it sent, what the portal says it received.

Neither can add or drop a contribution alone: the site's log is anchored in the portal's, and the portal's is
co-signed by the sites.
"""

import binascii
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

TRAINING = "train"
Round = tuple[str, int]


@dataclass(frozen=True)
class Reconciled:
    """(run, round) by what the two sides say.

    ``same_bytes``: agreed, and the SHA-256 of what came is one of what left; ``altered``: it is none of them.
    ``repeated``: sent again, as after a stop; no fault.
    """

    agreed: frozenset[Round]
    same_bytes: frozenset[Round]
    altered: frozenset[Round]
    not_received: frozenset[Round]
    not_sent: frozenset[Round]
    repeated: frozenset[Round]

    @property
    def is_good(self) -> bool:
        return not (self.not_received or self.not_sent or self.altered)


def reconcile(site: str, own: Iterable[bytes], portal: Iterable[bytes]) -> Reconciled:
    """``own``: entries of the site's log; ``portal``: entries of the portal's, verified before.

    A round that the portal did not commit, or not yet, says nothing: only committed rounds are compared.
    """
    sent: dict[Round, set[str]] = {}
    for entry in _entries(own, "update.sent"):
        if entry["data"].get("task") == TRAINING:
            sent.setdefault((entry["job"], entry["rnd"]), set()).add(str(entry["data"].get("sha256")))
    committed = {(entry["job"], entry["rnd"]): entry["data"] for entry in _entries(portal, "round.committed")}
    received = {key for key, data in committed.items() if site in data.get("contributors", [])}
    missing = {key for key in sent if key in committed and key not in received}
    came = {key: digest for key in received & sent.keys() if (digest := _received_of(site, committed[key]))}
    altered = {key for key, digest in came.items() if digest not in sent[key]}
    return Reconciled(
        agreed=frozenset((received & sent.keys()) - altered),
        same_bytes=frozenset(came.keys() - altered),
        altered=frozenset(altered),
        not_received=frozenset(missing),
        not_sent=frozenset(received - sent.keys()),
        repeated=frozenset(key for key, digests in sent.items() if len(digests) > 1),
    )


def _received_of(site: str, data: dict[str, Any]) -> str:
    """SHA-256 of what the portal received of ``site``; empty where the entry does not say."""
    digests = dict(zip(data["contributors"], data.get("received_sha256", []), strict=False))
    return str(digests.get(site, ""))


def entries_of_bundle(text: str) -> Iterator[bytes]:
    """The entries of a bundle that a verifier has accepted. Raises ValueError for another text."""
    lines = iter(text.split("\n"))
    if next(lines) != "consilium-audit-bundle/v1":
        raise ValueError("This is no bundle.")
    for _ in range(int(next(lines).split(" ")[1])):
        _word, start, end, hashes = next(lines).split(" ")
        for _ in range(int(hashes)):
            next(lines)
        for _ in range(int(end) - int(start)):
            yield binascii.a2b_base64(next(lines))


def _entries(leaves: Iterable[bytes], act: str) -> Iterator[dict[str, Any]]:
    for leaf in leaves:
        entry = json.loads(leaf)
        if entry.get("act") == act:
            yield entry
