"""An adversary with the log's key plays with one witness, and with many: no two histories are signed."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from compliance.evidence_file import Evidence
from compliance.note import SignedNote, verifier_key, verify
from compliance.witness import BlockedError, ContradictionError, OlderError, UnprovenError, WitnessError
from tests.compliance.logs import ORIGIN, Log, MemoryStore, witness_of
from tests.compliance.quorums import forks_accepted


class ThievesAndOneWitness(RuleBasedStateMachine):
    """Histories grow, fork and are shown in any order, with good, foreign and broken proofs."""

    histories = Bundle("histories")

    def __init__(self) -> None:
        super().__init__()
        self.key = Ed25519PrivateKey.generate()
        self.store = MemoryStore()
        self.witness = witness_of(Log(key=self.key), self.store)
        self.signed: list[list[bytes]] = []  # the leaves behind each signature

    @rule(target=histories, count=st.integers(0, 20))
    def begin(self, count: int) -> Log:
        return Log(key=self.key).grown(count)

    @rule(target=histories, history=histories, share=st.floats(0, 1))
    def fork(self, history: Log, share: float) -> Log:
        return history.fork(int(history.size * share))

    @rule(history=histories, count=st.integers(1, 9))
    def grow(self, history: Log, count: int) -> None:
        history.grown(count)

    @rule(history=histories, back=st.integers(0, 3))
    def show(self, history: Log, back: int) -> None:
        """The whole truth about a history, or about an older state of it: the verdict is known."""
        size, seen = max(0, history.size - back), self.store.read()
        leaves = history.leaves[:size]
        known = self.signed[-1] if self.signed else []
        verdict = self._shown(history.note(size), history.proof(seen.size, size), leaves)
        if seen.evidence:
            assert verdict is BlockedError
        elif size < len(known):
            assert verdict is OlderError
        elif leaves[: len(known)] == known:
            assert verdict is None
        else:
            assert verdict is ContradictionError

    @rule(history=histories, other=histories, data=st.data())
    def deceive(self, history: Log, other: Log, data: st.DataObject) -> None:
        """A proof that belongs to another history, or that was bent."""
        seen = self.store.read()
        proof = other.proof(seen.size)
        bend = data.draw(st.sampled_from(["", "nothing", "zero", "double", "short"]))
        at = data.draw(st.integers(0, max(0, len(proof) - 1)))
        if bend == "short":
            proof = proof[1:]
        elif proof and bend:
            proof[at] = {"zero": bytes(32), "double": proof[0], "nothing": b""}[bend]
        verdict = self._shown(history.note(), proof, history.leaves)
        assert verdict in (None, OlderError, UnprovenError, ContradictionError, BlockedError)

    @invariant()
    def what_blocks_is_proven(self) -> None:
        if evidence := self.store.read().evidence:
            assert Evidence.parse(evidence).is_proven_for(verifier_key(ORIGIN, self.key))

    @invariant()
    def one_history_is_signed(self) -> None:
        for older, newer in zip(self.signed, self.signed[1:], strict=False):
            assert newer[: len(older)] == older

    def _shown(self, note: str, proof: list[bytes], leaves: list[bytes]) -> type[WitnessError] | None:
        try:
            line = self.witness.sign(note, proof)
        except WitnessError as refusal:
            return type(refusal)
        verify(SignedNote.parse(note).text, line, self.witness.verifier_key)
        self.signed.append(list(leaves))
        return None


TestThievesAndOneWitness = ThievesAndOneWitness.TestCase
TestThievesAndOneWitness.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("count", range(3, 10))
def test_two_forks_reach_the_quorum_only_if_many_enough_collude(count: int) -> None:
    """With n witnesses, quorum q and f of them on the platform's side: f ≥ 2q − n, and not before."""
    for quorum in range(1, count + 1):
        for colluding in range(count + 1):
            assert forks_accepted(count, quorum, colluding) == (colluding >= 2 * quorum - count)
