"""One epoch of four sites with everything random injected: every byte that travels, for both rings.

Certificates of RSA, P-256 and Ed25519 lie in transcript.json with their keys, which guard nothing. Signatures
of RSA-PSS and ECDSA are random by themselves and are left out; nothing after the adverts depends on them.
``python -m tests.secure_agg.transcript`` writes the file anew.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from secure_agg import messages
from secure_agg.identity import Identity, Trust
from secure_agg.model_hash import model_hash
from secure_agg.plan import TensorField, Weighting
from secure_agg.server import ServerEpoch
from tests.secure_agg.cohort import NOW, Cohort, Root, make_key, name_of, plan_of

FILE = Path(__file__).parent / "transcript.json"
NAMES = tuple(name_of(index) for index in range(4))
KINDS = ("rsa", "p256", "ed25519", "ed25519")
FIELDS = [
    TensorField("bias", "float16", (), Weighting.EACH, 0),
    TensorField("layer", "float32", (2, 3), Weighting.MEAN, 2),
]


def make_identities():
    root, identities = Root(), {}
    for name, kind in zip(NAMES, KINDS, strict=True):
        key = make_key(kind)
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        identities[name] = {"key": der.hex(), "certificate": root.leaf(key, name).hex()}
    return {"root": root.der.hex(), "sites": identities}


class Replay(Cohort):
    """The cohort of the file's certificates; it writes down every message."""

    def __init__(self, identities):
        self._root = bytes.fromhex(identities["root"])
        self._sites = identities["sites"]
        super().__init__(4, seed="transcript", trust=Trust(self._root), ready=False)
        self.server = ServerEpoch(job_id="job", epoch=1, root_der=self._root, cohort_min=3, now=lambda: NOW)
        self.set_up()

    def client(self, name, **changes):
        about = self._sites[name]
        key = load_der_private_key(bytes.fromhex(about["key"]), None)
        identity = Identity(name, key, (bytes.fromhex(about["certificate"]),))
        return super().client(name, identity=identity, **changes)


def unsigned(advert):
    """An advert without its signature where that is random."""
    message = messages.Advert.decode(advert)
    return advert if message.sigalg == messages.ED25519 else replace(message, sig=b"").encode()


def record(identities):
    """All messages in hex, in the order in which they travel."""
    cohort = Replay(identities)
    written = {
        "adverts": {name: unsigned(client.advert()).hex() for name, client in cohort.clients.items()},
        "acks": {
            name: client.accept_roster(cohort.roster_message).hex() for name, client in cohort.clients.items()
        },
        "roster_hash": cohort.server.facts()["roster_hash"],
    }
    written["ring32_early_dropout"] = play(cohort, 1, 32, early=NAMES[3])
    written["ring64_late_dropout"] = play(cohort, 2, 64, late=NAMES[1])
    return written


def play(cohort, number, ring, *, early=None, late=None):
    """A round; ``early`` never uploads, ``late`` uploads, signs and falls silent."""
    model = {"bias": np.float16(number).reshape(()), "layer": np.full((2, 3), number, np.float32)}
    hash_ = model_hash(model)
    context = hashlib.sha256(b"order %d" % number).digest()
    plan = plan_of(4, ring=ring, fields=FIELDS, context=context)
    round_ = cohort.begin(number, plan=plan, hash_=hash_)
    steps = {"model_hash": hash_.hex(), "start": round_.start_message.hex(), "uploads": {}, "vectors": {}}
    for index, name in enumerate(cohort.names):
        if name == early:
            continue
        tensors = {"bias": np.float16(-0.25 * index).reshape(()), "layer": weights_of(index)}
        message, vector = cohort.clients[name].upload(tensors, 100 + index, {"loss": 0.125 * index})
        round_.add_upload(name, message, vector)
        steps["uploads"][name], steps["vectors"][name] = message.hex(), vector.tobytes().hex()
    finish(cohort, round_, steps, late)
    return steps


def weights_of(index):
    return (np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5) * np.float32(0.25 * (index + 1))


def finish(cohort, round_, steps, late):
    frozen = round_.freeze()
    steps["freeze"] = {name: message.hex() for name, message in frozen.items()}
    steps["signatures"], steps["reveals"], steps["recoveries"] = {}, {}, {}
    for name, message in frozen.items():
        answer = cohort.clients[name].sign_freeze(message)
        round_.add_signature(name, answer)
        steps["signatures"][name] = answer.hex()
    certificate = round_.certificate()
    steps["certificate"] = certificate.hex()
    for name in round_.signed:
        if name != late:
            answer = cohort.clients[name].reveal(certificate)
            round_.add_reveal(name, answer)
            steps["reveals"][name] = answer.hex()
    if round_.silent:
        request = round_.recover_request()
        steps["request"] = request.hex()
        for name in steps["reveals"]:
            answer = cohort.clients[name].recover(request)
            round_.add_recovery(name, answer)
            steps["recoveries"][name] = answer.hex()
    aggregate = round_.unmask()
    sums = {name: values.ravel().tolist() for name, values in aggregate.sums().items()}
    steps["sums"] = sums | {"total weight": aggregate.weight, "loss": aggregate.statistics["loss"]}
    steps["result"] = round_.result(hashlib.sha256(b"aggregate").digest()).hex()


if __name__ == "__main__":
    made = make_identities()
    text = json.dumps({"identities": made, "messages": record(made)}, indent=1)
    FILE.write_text(text + "\n", encoding="utf-8")
