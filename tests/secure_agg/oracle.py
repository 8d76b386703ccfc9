"""What honest sites have released, found by its bytes in anything they sent: not by what a message claims.

Every secret of a round is written down when it is made. A secret counts as released when its bytes stand in
a message of an honest site, or when enough of its shares do (those that colluders hold count with them).
"""

from itertools import combinations

from secure_agg import client_round
from secure_agg.client import Client
from secure_agg.shamir import SHARE_BYTES

REAL_SPLIT = client_round.split
STEPS = ("advert", "accept_roster", "upload", "sign_freeze", "reveal", "recover")
REAL_STEPS = {step: getattr(Client, step) for step in STEPS}  # a later oracle replaces an earlier one


def windows(data, size):
    """Every run of ``size`` bytes."""
    return {data[at : at + size] for at in range(len(data) - size + 1)}


class Oracle:
    """Watches the clients of a cohort. ``colluders`` work with the server: what they know, it knows."""

    def __init__(self, monkeypatch, names, *, colluders=()):
        self._names, self._colluders = list(names), set(colluders)
        self._secrets = {}  # bytes -> label
        self._shares = {}  # bytes -> (label, owner, x)
        self._threshold = 0
        self._direct, self._held = set(), {}
        self._open = {}  # owner of the round that is being encoded -> its labels
        self.sent, self._explained = [], []
        monkeypatch.setattr(client_round, "split", self._split)
        for step, real in REAL_STEPS.items():
            monkeypatch.setattr(Client, step, self._watched(real, step))

    def _split(self, secret, threshold, count, random_bytes):
        shares = REAL_SPLIT(secret, threshold, count, random_bytes)
        self._threshold = threshold
        for x, share in enumerate(shares, start=1):
            self._shares[share] = (secret, self._current, x)
        return shares

    def _watched(self, real, step):
        def call(client, *arguments):
            self._current = client.name
            answer = real(client, *arguments)
            if step == "upload":
                self._write_down(client)
            if client.name not in self._colluders:
                self._see(client.name, answer[0] if step == "upload" else answer)
                if step == "upload":
                    self._see(client.name, answer[1].tobytes())
            return answer

        return call

    def _write_down(self, client):
        round_ = client._round
        context, own = round_.terms.round_ctx, client.name
        self._secrets[round_._b] = ("b", context, own)
        for peer, seed in round_._seeds.items():
            self._secrets[seed] = ("k", context, frozenset((own, self._names[peer])))
        state = client._memory.load()
        self._secrets[state.ed25519_secret] = ("never", context, own)
        for key in state.chain_keys.values():
            self._secrets[key] = ("never", context, own)

    def _see(self, sender, data):
        self.sent.append((sender, data))
        for found in windows(data, 32) & self._secrets.keys():
            self._direct.add(self._secrets[found])
        for found in windows(data, SHARE_BYTES) & self._shares.keys():
            secret, owner, x = self._shares[found]
            self._held.setdefault((secret, owner), set()).add(x)

    def released(self):
        """Labels of the secrets of honest sites that server and colluders know because of honest messages."""
        known = set(self._direct)
        colluding_x = {self._names.index(name) + 1 for name in self._colluders}
        for (secret, _owner), xs in self._held.items():
            if len(xs | colluding_x) >= self._threshold:
                known.add(self._secrets[secret])
        return {label for label in known if not self._is_theirs(label)}

    def _is_theirs(self, label):
        """A colluder's own seeds, and its pairs' with anybody, were never secret from the server."""
        owners = label[2] if isinstance(label[2], frozenset) else {label[2]}
        return bool(owners & self._colluders)

    def assert_only(self, survivors=(), dropped=()):
        """Nothing of honest sites came out but seeds of survivors, and of survivors with dropped sites."""
        survivors, dropped = set(survivors), set(dropped)
        for kind, _context, who in self.released():
            if kind == "b":
                assert who in survivors, (kind, who)
            else:
                assert kind == "k", (kind, who)
                assert len(who & survivors) == len(who & dropped) == 1, (kind, who)

    def assert_hidden(self):
        """For every round: one list of enough survivors explains all that came out of honest sites."""
        rounds = {}
        for kind, context, who in self.released():
            assert kind in "bk", (kind, who)
            rounds.setdefault(context, (set(), set()))[kind == "k"].add(who)
        honest = [name for name in self._names if name not in self._colluders]
        least = self._threshold - len(self._colluders)
        for opened, pairs in rounds.values():
            if (opened, pairs) not in self._explained:
                lists = (
                    set(of) for size in range(least, len(honest) + 1) for of in combinations(honest, size)
                )
                assert any(
                    opened <= list_ and all(len(pair & list_) == 1 for pair in pairs) for list_ in lists
                ), (opened, pairs)
                self._explained.append((opened, pairs))

    def nothing(self):
        assert self.released() == set()
