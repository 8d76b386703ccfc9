"""A server that plays at random with all it has: rounds, lists, certificates, requests, replays, restarts.

Whatever it does, the oracle must find one list of survivors per round that explains everything that came out.
"""

import os
from dataclasses import replace

import numpy as np
import pytest

from secure_agg import messages
from secure_agg.errors import CODES, SecureAggregationError
from secure_agg.keys import digest
from secure_agg.plan import Purpose
from secure_agg.thresholds import colluding_default
from tests.secure_agg.cohort import Cohort, plan_of
from tests.secure_agg.hostile import Hostile

GAMES = min(max(4, int(os.environ.get("CONSILIUM_SECAGG_N", "2000")) // 100), 200)
MOVES = 120
MODELS = [digest("model", bytes([number])) for number in range(3)]


class Game:
    """``count`` sites; a server with as many of them on its side as the plan allows for."""

    def __init__(self, watch, count, seed):
        self.random = np.random.default_rng(seed)
        self.cohort = Cohort(count, seed=seed)
        self.names = self.cohort.names
        colluding = colluding_default(count)
        self.colluders = self.names[:colluding] if seed % 2 else self.names[-colluding:]
        self.oracle = watch(self.names, colluders=self.colluders)
        self.honest = [name for name in self.names if name not in self.colluders]
        self.rounds, self.now, self.codes = [], None, set()
        self.hashes = {}

    def pick(self, options):
        return options[self.random.integers(len(options))]

    def some(self, names, least=0):
        size = self.random.integers(least, len(names) + 1)
        return tuple(sorted(self.random.permutation(names)[:size].tolist()))

    def play(self):
        moves = (
            [self.list_survivors] * 4 + [self.certify] * 6 + [self.recover] * 3 + [self.replay, self.restart]
        )
        self.new_round()
        for _ in range(MOVES):
            move = self.new_round if self.random.random() < 0.05 else self.pick(moves)
            try:
                move()
            except SecureAggregationError as error:
                self.codes.add(error.code)
            self.oracle.assert_hidden()

    def new_round(self):
        """To everybody the same, or to one site something else; some uploads get lost."""
        number = len(self.rounds) + 1
        plan = plan_of(
            len(self.names), purpose=self.pick(list(Purpose)), freeze_s=int(self.random.integers(1, 9))
        )
        world = Hostile(self.cohort, colluders=self.colluders)
        start = world.start(number, plan=plan, model=self.pick(MODELS))
        odd = replace(messages.RoundStart.decode(start), model_hash=self.pick(MODELS)).encode()
        self.rounds.append(world)
        for name in self.names:
            try:
                world.run_to_upload(odd if self.random.random() < 0.05 else start, names=[name])
            except SecureAggregationError as error:
                self.codes.add(error.code)
        self.now = world

    def any_world(self):
        return self.now if self.random.random() < 0.9 else self.pick(self.rounds)

    def list_survivors(self):
        world = self.any_world()
        survivors = self.some(list(world.uploads), 1) or self.names[:1]
        if self.random.random() < 0.5:
            survivors = tuple(world.uploads)
        headers = {}
        for name in set(survivors) & set(self.colluders) & set(world.uploads):
            if self.random.random() < 0.2:
                headers[name] = world.forge(name, com_b=digest("com", self.random.bytes(4))).encode()
        for to in self.some(self.honest, 1):
            if to in world.uploads:
                self._send_list(world, survivors, to, headers)

    def _send_list(self, world, survivors, to, headers):
        freeze = world.freeze(survivors, to, headers=headers)
        self.hashes[world.hash_of(freeze)] = survivors
        world.collude(world.hash_of(freeze))
        try:
            world.sign(to, freeze)
        except SecureAggregationError as error:
            self.codes.add(error.code)

    def certify(self):
        world = self.any_world()
        hashes = list(world.signatures)
        if hashes:
            order = self.random.permutation(len(hashes))
            chosen = [hashes[at] for at in order[: self.random.integers(1, 3)]]
            world.reveal(self.pick(self.honest), *chosen)

    def recover(self):
        world = self.any_world()
        if world.signatures:
            hash_ = self.pick(list(world.signatures))
            silent = self.some(list(self.hashes.get(hash_, self.names)))
            if self.random.random() < 0.3:
                silent = self.some(self.names)
            world.recover(self.pick(self.honest), hash_, silent)

    def replay(self):
        """Something a site was sent before, in whatever state it is now."""
        world, name = self.pick(self.rounds), self.pick(self.honest)
        client = self.cohort.clients[name]
        call = self.pick([client.sign_freeze, client.reveal, client.recover, client.accept_roster])
        call(self.pick([world.start(), messages.Cert(()).encode(), self.cohort.roster_message]))

    def restart(self):
        name = self.pick(self.honest)
        self.cohort.clients[name] = self.cohort.client(name)


@pytest.mark.parametrize("count", [4, 5, 7])
def test_whatever_the_server_plays_one_list_explains_what_came_out(watch, count):
    opened, codes = 0, set()
    for seed in range(GAMES):
        game = Game(watch, count, seed)
        game.play()
        opened += any(kind == "b" for kind, *_ in game.oracle.released())
        codes |= game.codes
    assert codes <= CODES.keys()
    assert opened > GAMES // 4  # the games reach what they are about
    assert {"E_NO_QUORUM", "E_NOT_FROZEN"} <= codes
    if GAMES >= 20:
        assert {"E_EQUIVOCATION", "E_RECOVER_SCOPE", "E_COHORT_TOO_SMALL", "E_MODEL_REPLAY"} <= codes
