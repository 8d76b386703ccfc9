"""A platform that shows one fork to some sites and another to the rest, with every witness at work."""

from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.note import SignedNote, cosign, verifier_key
from compliance.witness import WitnessError
from compliance.witness_policy import WitnessPolicy
from tests.compliance.logs import ORIGIN, Log, MemoryStore, witness_of


def forks_accepted(count: int, quorum: int, colluding: int) -> bool:
    """Whether some split of the honest sites lets both forks reach ``quorum`` of ``count`` witnesses.

    ``colluding`` witnesses sign whatever they are shown. Each honest one is shown one fork, then the other.
    """
    log = Log().grown(4)
    return any(
        all(_is_accepted(note, quorum, count) for note in notes) for notes in _splits(log, count, colluding)
    )


def _splits(log: Log, count: int, colluding: int) -> Iterator[list[tuple[Log, SignedNote, dict[str, str]]]]:
    honest = count - colluding
    for first in range(honest + 1):
        forks = [log.fork(2), log.fork(2)]
        shown = [SignedNote.parse(fork.note()) for fork in forks]
        keys: dict[str, str] = {}
        for number in range(count):
            site, key = f"site-{number}", Ed25519PrivateKey.generate()
            witness = witness_of(log, MemoryStore(), key, site)
            keys[witness.verifier_key.name] = str(witness.verifier_key)
            order = (0, 1) if number < first else (1, 0)
            for which in order:
                try:
                    line = witness.sign(str(shown[which]), [])
                except WitnessError:
                    if number < honest:
                        continue
                    line = cosign(shown[which].text, witness.verifier_key.name, key, 1)
                shown[which] = shown[which].with_signatures([line])
        yield [(log, note, keys) for note in shown]


def _is_accepted(fork: tuple[Log, SignedNote, dict[str, str]], quorum: int, count: int) -> bool:
    log, note, keys = fork
    lines = [f"log {_log_key(log)}"]
    lines += [f"witness w{at} {key}" for at, key in enumerate(keys.values())]
    lines += [f"group sites {quorum} {' '.join(f'w{at}' for at in range(count))}", "quorum sites"]
    policy = WitnessPolicy.parse("\n".join(lines))
    return policy.is_met_by(set(policy.signers(note)))


def _log_key(log: Log) -> str:
    return str(verifier_key(ORIGIN, log.key))
