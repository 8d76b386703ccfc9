"""All orders of all messages that a server can send after the uploads of one round, to the real clients.

Four sites, one of them (D) with the server. A state is what the three honest sites have come to (18,376 can
be reached); every message of a finite alphabet is tried on each site in each state: survivor lists,
certificates of all signatures that exist by then, recovery requests, a restart. Nowhere may what came out
open an honest update.
"""

import copy
from itertools import combinations

import pytest

from secure_agg import messages
from secure_agg.client_round import ClientRound
from secure_agg.errors import SecureAggregationError
from tests.secure_agg.cohort import MODEL_HASH, Cohort, name_of
from tests.secure_agg.hostile import Hostile

A, B, C, D = NAMES = tuple(name_of(index) for index in range(4))
HONEST, THRESHOLD = (A, B, C), 3
SETS = [frozenset(chosen) for size in range(1, 5) for chosen in combinations(NAMES, size)]
OPEN, CLOSED = "open", "closed"
START = (OPEN, None, frozenset())  # is the round open there; the list it signed; what it has released


class World:
    """The real clients of honest sites in every state they can come to, each forked from an earlier one."""

    def __init__(self):
        self.cohort = Cohort(4)
        self.hostile = Hostile(self.cohort, colluders=[D])
        self.start = self.hostile.start()
        self.hostile.run_to_upload(self.start)
        self.hashes = {chosen: self.hostile.hash_of(self.list_for(A, chosen)) for chosen in SETS}
        for chosen in SETS:
            self.hostile.collude(self.hashes[chosen])
        self.clients = {(name, START): self.cohort.clients[name] for name in HONEST}
        self._steps = {}

    def list_for(self, name, survivors):
        return self.hostile.freeze(sorted(survivors), name)

    def fork(self, name, state):
        client = copy.copy(self.clients[name, state])
        client._memory = copy.copy(client._memory)
        client._memory._vault = copy.copy(client._memory._vault)
        client._round = copy.copy(client._round)
        return client

    def steps(self, name, state, signers):
        """The states that some message leads to. ``signers``: by list, who has signed it."""
        if (name, state) not in self._steps:
            found = {self._freeze(name, state, chosen) for chosen in SETS}
            found |= {self._recover(name, state, of, silent) for of in SETS[-5:] for silent in SETS}
            found.add(self._restart(name, state))
            self._steps[name, state] = found
        for chosen, who in signers.items():
            if (name, state, chosen, who) not in self._steps:
                self._steps[name, state, chosen, who] = self._certify(name, state, chosen, who)
        known = {self._steps[name, state, chosen, who] for chosen, who in signers.items()}
        return (self._steps[name, state] | known) - {state}

    def _freeze(self, name, state, chosen):
        client = self.fork(name, state)
        try:
            answer = messages.FreezeSig.decode(client.sign_freeze(self.list_for(name, chosen)))
        except SecureAggregationError as error:
            return self._closed(state) if error.code == "E_DROPPED" else state
        assert state[1] is None, "a second signature in one round"
        assert name in chosen
        assert len(chosen) >= THRESHOLD
        self.hostile.signatures[self.hashes[chosen]][name] = answer.sig
        return self._keep(name, (OPEN, chosen, state[2]), client)

    def _certify(self, name, state, chosen, who):
        client = self.fork(name, state)
        certificate = self.hostile.certificate(self.hashes[chosen], only=who)
        try:
            answer = messages.Reveal.decode(client.reveal(certificate))
        except SecureAggregationError:
            return state
        came = {("b", name)} | {("k", frozenset((name, NAMES[peer]))) for peer, _ in answer.seeds}
        return self._keep(name, (OPEN, state[1], state[2] | came), client)

    def _recover(self, name, state, of, silent):
        client = self.fork(name, state)
        request = messages.RecoverReq(self.hashes[of], self.hostile.indices(silent)).encode()
        try:
            answer = messages.Recover.decode(client.recover(request))
        except SecureAggregationError:
            return state
        came = set()
        for site, (_, of_pairs) in answer.shares:
            came.add(("share", name, "b", NAMES[site]))
            came |= {("share", name, "k", NAMES[site], NAMES[peer]) for peer, _ in of_pairs}
        return self._keep(name, (OPEN, state[1], state[2] | came), client)

    def _restart(self, name, state):
        """The round is lost to the site: what is on disk neither opens it again nor lets it begin anew."""
        vault = copy.copy(self.clients[name, state]._memory._vault)
        client = self.cohort.client(name, vault=vault)
        with pytest.raises(SecureAggregationError) as refused:
            client.begin_round(self.start, MODEL_HASH)
        assert refused.value.code == "E_ROUND_REPLAY"
        return self._keep(name, self._closed(state), client)

    def _closed(self, state):
        return (CLOSED, *state[1:])

    def _keep(self, name, state, client):
        self.clients.setdefault((name, state), client)
        return state


def reachable(world):
    """Every state of the three sites together."""
    seen, open_ = {(START,) * 3}, [(START,) * 3]
    while open_:
        states = open_.pop()
        signers = {chosen: {D} for chosen in SETS[-5:]}
        for name, (_, signed, _) in zip(HONEST, states, strict=True):
            if signed is not None:
                signers[signed].add(name)
        fixed = {chosen: frozenset(who) for chosen, who in signers.items()}
        for at, name in enumerate(HONEST):
            for later in world.steps(name, states[at], fixed):
                following = (*states[:at], later, *states[at + 1 :])
                if following not in seen:
                    seen.add(following)
                    open_.append(following)
    return seen


def opened(states):
    """What the server and D know: what was shown, and what enough shares give (D holds one of each)."""
    facts = frozenset().union(*(state[2] for state in states))
    shares = {}
    for fact in facts:
        if fact[0] == "share":
            shares.setdefault(fact[2:], set()).add(fact[1])
    enough = {secret for secret, holders in shares.items() if len(holders) + 1 >= THRESHOLD}
    own = {fact[1] for fact in facts if fact[0] == "b"} | {secret[1] for secret in enough if secret[0] == "b"}
    pairs = {fact[1] for fact in facts if fact[0] == "k"}
    return own, pairs | {frozenset(secret[1:]) for secret in enough if secret[0] == "k"}


def exposed(states):
    """The honest sites whose every mask is known, so that their update can be read."""
    own, pairs = opened(states)
    return [
        name
        for name in HONEST
        if name in own and all(frozenset((name, peer)) in pairs for peer in HONEST if peer != name)
    ]


def test_no_order_of_messages_opens_an_honest_update():
    states = reachable(World())
    assert len(states) > 1000
    certified = 0
    for each in states:
        assert exposed(each) == []
        own, pairs = opened(each)
        certified += bool(own)
        assert not any(pair <= own for pair in pairs), "a pair's seed beside both own seeds"
        facts = frozenset().union(*(state[2] for state in each))
        lists = {state[1] for state in each if ("b", HONEST[each.index(state)]) in state[2]}
        assert len(lists) <= 1, "two lists of survivors were certified in one round"
        shown = {fact[1] for fact in facts if fact[0] == "b"} | {f[3] for f in facts if f[0] == "share"}
        assert all(shown <= chosen for chosen in lists)
    assert certified > 100


def test_the_checker_finds_the_attack_on_a_client_that_needs_no_certificate(monkeypatch):
    monkeypatch.setattr(ClientRound, "check_certificate", lambda self, message: None)
    assert any(exposed(each) for each in reachable(World()))
