"""What a site keeps: sealed, strict, and never behind what it has done."""

from dataclasses import replace

import pytest

from secure_agg.errors import SecureAggregationError
from secure_agg.keys import ratchet
from secure_agg.ledger import Ledger, seal_ledger
from secure_agg.memory import Memory
from secure_agg.state import (
    ROUND_GAP_MAX,
    SIGNED_KEPT,
    ClientState,
    MemoryVault,
    open_state,
    seal,
    seal_state,
    unseal,
)
from tests.secure_agg.cohort import Stream

KEY = b"k" * 32
STATE = ClientState(
    job_id="job",
    epoch=2,
    name="site-00",
    pinned=True,
    roster=b"roster",
    job_ctx=b"c" * 32,
    ed25519_secret=b"e" * 32,
    chain_keys={1: b"1" * 32, 3: b"3" * 32},
    next_round=5,
    signed={2: b"h" * 32, 4: b"i" * 32},
    spent=(b"m" * 32, b"a" * 32),
)


def code_of(call, *arguments):
    with pytest.raises(SecureAggregationError) as refused:
        call(*arguments)
    return refused.value.code


def test_a_state_is_what_was_sealed():
    for state in (STATE, replace(STATE, pinned=False, signed={}, spent=(), chain_keys={})):
        assert ClientState.decode(state.encode()) == state
        assert open_state(KEY, seal_state(KEY, state)) == state


def test_seals_differ_and_hide_every_secret():
    sealed = seal_state(KEY, STATE)
    assert sealed != seal_state(KEY, STATE)
    assert b"e" * 32 not in sealed
    assert b"1" * 32 not in sealed


@pytest.mark.parametrize("cut", [0, 5, 12, 27])
def test_a_cut_file_does_not_open(cut):
    assert code_of(open_state, KEY, seal_state(KEY, STATE)[:cut]) == "E_STATE_ROLLBACK"


def test_another_key_an_altered_byte_or_the_other_file_does_not_open():
    sealed = seal_state(KEY, STATE)
    assert code_of(open_state, b"x" * 32, sealed) == "E_STATE_ROLLBACK"
    assert code_of(open_state, KEY, sealed[:-1] + bytes([sealed[-1] ^ 1])) == "E_STATE_ROLLBACK"
    assert code_of(unseal, KEY, "ledger", sealed) == "E_STATE_ROLLBACK"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"x" + data[1:],
        lambda data: data + b"\0",
        lambda data: data[:-1],
        lambda data: (
            data[: -4 - 64] + (65).to_bytes(4, "little") + bytes(65)
        ),  # spent models: no whole hashes
    ],
)
def test_a_state_is_decoded_strictly(damage):
    assert code_of(ClientState.decode, damage(STATE.encode())) == "E_DECODE"


def test_a_state_that_signed_a_round_it_has_not_begun_is_not_this_sites_latest():
    older = replace(STATE, next_round=4)
    assert code_of(ClientState.decode, older.encode()) == "E_STATE_ROLLBACK"


def test_secrets_do_not_stand_in_the_repr():
    assert "eeee" not in repr(STATE)
    assert "1111" not in repr(STATE)


def test_using_a_round_takes_the_keys_with_it():
    keys, later = STATE.use_round(7)
    assert keys == {peer: ratchet(ratchet(key, 6), 7) for peer, key in STATE.chain_keys.items()}
    assert later.next_round == 8
    assert later.chain_keys == {peer: ratchet(key, 8) for peer, key in keys.items()}
    for used in (5, 6, 7):
        assert code_of(later.use_round, used) == "E_ROUND_REPLAY"


@pytest.mark.parametrize(("number", "fine"), [(4, False), (5, True), (5 + ROUND_GAP_MAX, True)])
def test_rounds_lie_ahead_but_not_too_far(number, fine):
    if fine:
        STATE.check_round(number)
        number = 6 + ROUND_GAP_MAX
    assert code_of(STATE.check_round, number) == "E_ROUND_REPLAY"


def test_one_freeze_hash_is_signed_per_round():
    signed = STATE.with_signed(5, b"5" * 32)
    assert signed.with_signed(5, b"5" * 32) == signed
    assert code_of(signed.with_signed, 5, b"6" * 32) == "E_EQUIVOCATION"


def test_the_oldest_signatures_are_forgotten_and_their_rounds_stay_closed():
    state = replace(STATE, signed={})
    for number in range(1, SIGNED_KEPT + 3):
        state = state.with_signed(number, bytes(32))
    assert sorted(state.signed) == list(range(3, SIGNED_KEPT + 3))


def test_a_model_is_spent_once():
    assert STATE.with_spent(b"m" * 32) is STATE
    assert STATE.with_spent(b"n" * 32).spent[-1] == b"n" * 32


def memory(vault, **about):
    settings = {"name": "site-00", "job_id": "job", "epoch": 2} | about
    return Memory(vault, settings["name"], settings["job_id"], settings["epoch"], Stream("memory"))


@pytest.fixture
def vault():
    kept = MemoryVault(KEY)
    kept.write_state(seal_state(KEY, STATE))
    return kept


def test_a_vault_makes_its_own_key():
    assert len({MemoryVault().key for _ in range(3)}) == 3


def test_memory_reads_the_state_once(vault):
    kept = memory(vault)
    assert kept.load() == STATE
    vault.write_state(b"garbage")
    assert kept.load() == STATE


@pytest.mark.parametrize("about", [{"job_id": "other"}, {"epoch": 3}])
def test_the_state_of_a_job_that_is_over_is_no_state(vault, about):
    assert memory(vault, **about).load() is None


@pytest.mark.parametrize("about", [{"name": "site-01"}, {"epoch": 1}])
def test_the_state_of_another_site_or_a_later_epoch_is_refused(vault, about):
    assert code_of(memory(vault, **about).load) == "E_STATE_ROLLBACK"


def test_a_state_brought_back_without_its_ledger_is_refused(vault):
    ledger = Ledger()
    ledger.mark(STATE.job_ctx, 5)
    vault.ledger = seal_ledger(KEY, ledger)
    assert memory(vault).load() == STATE
    ledger.mark(STATE.job_ctx, 6)
    vault.ledger = seal_ledger(KEY, ledger)
    assert code_of(memory(vault).load) == "E_STATE_ROLLBACK"


def test_a_ledger_that_does_not_open_is_never_an_empty_one(vault):
    vault.ledger = seal(KEY, "state", b"")
    assert code_of(memory(vault).load) == "E_STATE_ROLLBACK"


def test_a_failed_write_binds_the_process_all_the_same(vault):
    kept = memory(vault)
    kept.load()

    def fail(data):
        raise OSError("disk full")

    vault.write_state = fail
    with pytest.raises(OSError, match="disk full"):
        kept.write(replace(STATE, next_round=9))
    assert kept.load().next_round == 9
