"""The witness signs a log that only grew, and nothing else."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.evidence_file import Evidence
from compliance.merkle import EMPTY_ROOT, leaf_hash
from compliance.note import Checkpoint, SignedNote, cosign, sign, verifier_key, verify
from compliance.witness import (
    BlockedError,
    ContradictionError,
    ForeignError,
    ForgottenError,
    MovedError,
    OlderError,
    UnprovenError,
    WitnessState,
)
from compliance.witness_store import FileWitnessStore, StateDamagedError
from tests.compliance.logs import ORIGIN, Log, MemoryStore, witness_of


@pytest.fixture
def log() -> Log:
    return Log().grown(7)


def test_a_log_that_grows_is_signed_step_by_step(log: Log) -> None:
    store = MemoryStore()
    witness = witness_of(log, store)
    for count in (0, 1, 0, 5, 30):
        log.grown(count)
        text = log.note()
        line = witness.sign(text, log.proof(store.read().size))
        assert verify(SignedNote.parse(text).text, line, witness.verifier_key) == 1000
        assert store.read().size == log.size


def test_an_empty_log_is_signed(log: Log) -> None:
    store, empty = MemoryStore(), Log()
    witness_of(empty, store).sign(empty.note(), [])
    assert store.read().root == EMPTY_ROOT
    false = str(sign(str(Checkpoint(ORIGIN, 0, bytes(32))), ORIGIN, empty.key))
    with pytest.raises(ForeignError, match="no entries"):
        witness_of(empty, store).sign(false, [])


def test_what_the_log_did_not_sign_changes_nothing(log: Log) -> None:
    store = MemoryStore()
    other = Ed25519PrivateKey.generate()
    for text in (log.note(key=other), log.note()[:-3], "", log.note().replace(ORIGIN, "else/audit/2026")):
        with pytest.raises(ForeignError):
            witness_of(log, store).sign(text, [])
    assert store.read() == WitnessState(ORIGIN)


def test_a_smaller_checkpoint_is_refused_and_a_later_one_signed(log: Log) -> None:
    store = MemoryStore()
    witness, older = witness_of(log, store), log.note()
    log.grown(1)
    witness.sign(log.note(), [])
    with pytest.raises(OlderError, match="size 7 was shown, after one of 8"):
        witness.sign(older, [])
    log.grown(1)
    witness.sign(log.note(), log.proof(8))


def test_two_roots_of_one_size_block_the_witness_for_good(log: Log) -> None:
    store = MemoryStore()
    witness, fork = witness_of(log, store), log.fork(3)
    witness.sign(log.note(), [])
    with pytest.raises(ContradictionError) as found:
        witness.sign(fork.note(), [])
    assert found.value.evidence == store.read().evidence
    assert Evidence.parse(found.value.evidence).proof is None
    assert Evidence.parse(found.value.evidence).is_proven_for(verifier_key(ORIGIN, log.key))
    log.grown(1)
    for text in (log.note(), fork.note()):
        with pytest.raises(BlockedError):
            witness.sign(text, log.proof(7))


@pytest.mark.parametrize("old", [1, 4, 7, 8])
def test_a_rewritten_past_is_proven(old: int) -> None:
    log, store = Log().grown(old), MemoryStore()
    witness, fork = witness_of(log, store), log.fork(old // 2).grown(5)
    witness.sign(log.note(), [])
    with pytest.raises(ContradictionError) as found:
        witness.sign(fork.note(), fork.proof(old))
    assert Evidence.parse(found.value.evidence).is_proven_for(verifier_key(ORIGIN, log.key))
    assert store.read().evidence == found.value.evidence


def test_a_proof_that_leads_nowhere_is_refused_and_blocks_nothing(log: Log) -> None:
    store = MemoryStore()
    witness = witness_of(log, store)
    witness.sign(log.note(), [])
    log.grown(4)
    good = log.proof(7)
    for bad in ([], good[:-1], [*good, good[0]], [bytes(32), *good[1:]], [good[0][:31], *good[1:]]):
        with pytest.raises(UnprovenError):
            witness.sign(log.note(), bad)
    assert store.read().size == 7
    witness.sign(log.note(), good)


def test_a_witness_that_forgot_is_told_by_its_own_signature(log: Log) -> None:
    store, key = MemoryStore(), Ed25519PrivateKey.generate()
    line = witness_of(log, store, key).sign(log.note(), [])
    signed = str(SignedNote.parse(log.note()).with_signatures([line]))
    witness_of(log, store, key).sign(signed, [])  # one that remembers
    with pytest.raises(ForgottenError):
        witness_of(log, MemoryStore(), key).sign(signed, [])
    false = cosign("else", line.name, key, 1)
    with pytest.raises(ForeignError):
        witness_of(log, store, key).sign(str(SignedNote.parse(log.note()).with_signatures([false])), [])


def test_a_state_moved_by_another_process_gives_no_signature(log: Log) -> None:
    class Moving(MemoryStore):
        def replace(self, old: WitnessState, new: WitnessState) -> bool:
            return False

    with pytest.raises(MovedError):
        witness_of(log, Moving()).sign(log.note(), [])


def test_nothing_is_signed_that_is_not_on_disk(log: Log) -> None:
    class Full(MemoryStore):
        def replace(self, old: WitnessState, new: WitnessState) -> bool:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        witness_of(log, Full()).sign(log.note(), [])


def test_the_state_keeps_the_logs_signature_alone(log: Log) -> None:
    store, key = MemoryStore(), Ed25519PrivateKey.generate()
    other = cosign(SignedNote.parse(log.note()).text, "fed/site-b/witness", key, 5)
    witness_of(log, store).sign(str(SignedNote.parse(log.note()).with_signatures([other])), [])
    assert store.read().note == log.note()


def test_the_file_is_replaced_only_when_it_is_as_it_was(tmp_path: Path) -> None:
    store = FileWitnessStore(tmp_path / "state" / "witness.json", ORIGIN)
    first = store.read()
    assert first == WitnessState(ORIGIN)
    second = WitnessState(ORIGIN, 3, leaf_hash(b"x"), "note\n", "")
    assert store.replace(first, second)
    assert not store.replace(first, WitnessState(ORIGIN, 9, leaf_hash(b"y"), "else\n"))
    assert FileWitnessStore(tmp_path / "state" / "witness.json", ORIGIN).read() == second
    assert [path.name for path in tmp_path.glob("state/*new")] == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b'{"origin":1,"size":0,"root":"","note":"","evidence":""}', b" " * 300_000],
)
def test_a_damaged_file_is_no_empty_memory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.json").write_bytes(content)
    store = FileWitnessStore(tmp_path / "w.json", ORIGIN)
    with pytest.raises(StateDamagedError):
        store.read()
    with pytest.raises(StateDamagedError):
        store.replace(WitnessState(ORIGIN), WitnessState(ORIGIN, 1))


def test_the_file_of_another_log_is_no_memory(tmp_path: Path) -> None:
    FileWitnessStore(tmp_path / "w.json", ORIGIN).replace(WitnessState(ORIGIN), WitnessState(ORIGIN, 0))
    with pytest.raises(StateDamagedError):
        FileWitnessStore(tmp_path / "w.json", "fed/audit/2027").read()


def test_the_name_of_a_key_is_the_witness(log: Log) -> None:
    key = Ed25519PrivateKey.generate()
    witness = witness_of(log, MemoryStore(), key)
    assert str(witness.verifier_key) == str(verifier_key("fed/site-a/witness", key, kind=4))
