"""Sites and a server in one process, with certificates of a root made here and randomness by seed."""

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secure_agg import messages
from secure_agg.client import Client
from secure_agg.identity import Identity, Trust, fingerprint
from secure_agg.model_hash import model_hash
from secure_agg.plan import Purpose, TensorField, Weighting, make_plan
from secure_agg.server import ServerEpoch
from secure_agg.state import MemoryVault
from secure_agg.thresholds import colluding_default

NOW = 1_900_000_000
MODEL = {"w": np.arange(3, dtype=np.float32)}
MODEL_HASH = model_hash(MODEL)


class Stream:
    """Random bytes that a seed fixes."""

    def __init__(self, seed):
        self._seed, self._count = str(seed).encode(), 0

    def __call__(self, size):
        self._count += 1
        return hashlib.shake_256(self._seed + b"/%d" % self._count).digest(size)


def name_of(index):
    return f"site-{index:02d}"


def make_key(kind="ed25519"):
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1()) if kind == "p256" else Ed25519PrivateKey.generate()


def subject_of(name, **more):
    parts = [(NameOID.COMMON_NAME, name), (NameOID.ORGANIZATION_NAME, "hospital")]
    parts += [(NameOID.UNSTRUCTURED_NAME, role) for role in more.values()]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


class Root:
    """A root certificate and what it signs. Every argument of ``leaf`` is something to do wrong."""

    def __init__(self, name="root"):
        self.key, self._subject = Ed25519PrivateKey.generate(), subject_of(name)
        self.certificate = self._sign(self.key, self._subject, [(x509.BasicConstraints(True, 0), True)])
        self.der = self.certificate.public_bytes(Encoding.DER)

    def leaf(self, key, name, *, subject=None, extensions=None, start=-1, days=30):
        if extensions is None:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
            extensions = [(x509.BasicConstraints(False, None), True), (usage, False)]
        made = self._sign(key, subject or subject_of(name), extensions, start, days)
        return made.public_bytes(Encoding.DER)

    def _sign(self, key, subject, extensions, start=-1, days=3650):
        begin = datetime.fromtimestamp(NOW, UTC) + timedelta(days=start)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=days))
        )
        for value, critical in extensions:
            builder = builder.add_extension(value, critical=critical)
        digest = SHA256() if isinstance(self.key, rsa.RSAPrivateKey) else None
        return builder.sign(self.key, digest)


@cache
def the_root():
    return Root()


@cache
def identity_of(name, kind="ed25519"):
    key = make_key(kind)
    return Identity(name, key, (the_root().leaf(key, name),))


def pins_of(names):
    return {name: fingerprint(identity_of(name).chain_der[0]) for name in names}


def plan_of(count, **changes):
    settings = {
        "purpose": Purpose.TRAIN,
        "ring": 64,
        "weight_max": 1024,
        "colluding": colluding_default(count),
        "cohort_min": 3,
        "site_count": count,
        "context": hashlib.sha256(b"order").digest(),
        "fields": [TensorField("w", "float32", (3,), Weighting.MEAN, 2)],
        "statistics": ["loss"],
    }
    return make_plan(**(settings | changes))


class Cohort:
    """``count`` sites that have agreed on their keys, and their server."""

    def __init__(self, count=4, *, epoch=1, seed="seed", trust=None, ready=True, **client):
        self.names = tuple(name_of(index) for index in range(count))
        self.vaults = {name: MemoryVault(hashlib.sha256(name.encode()).digest()) for name in self.names}
        self.epoch, self.seed, self._client = epoch, seed, client
        self.trust = trust or Trust(the_root().der)
        self.clients = {name: self.client(name) for name in self.names}
        self.server = ServerEpoch(
            job_id="job", epoch=epoch, root_der=the_root().der, cohort_min=3, now=lambda: NOW
        )
        self.plan = plan_of(count)
        if ready:
            self.set_up()

    def client(self, name, **changes):
        """A client over this site's vault, as after a restart."""
        settings = {
            "identity": identity_of(name),
            "trust": self.trust,
            "job_id": "job",
            "epoch": self.epoch,
            "vault": self.vaults[name],
            "data_version": b"data of " + name.encode(),
            "accept_plan": lambda plan: None,
            "now": lambda: NOW,
            "random_bytes": Stream(f"{self.seed}/{self.epoch}/{name}"),
        }
        return Client(**(settings | self._client | changes))

    def set_up(self):
        for name, client in self.clients.items():
            self.server.add_advert(name, client.advert())
        self.roster_message = self.server.roster_message()
        for name, client in self.clients.items():
            self.server.add_ack(name, client.accept_roster(self.roster_message))

    def index(self, name):
        return self.names.index(name)

    def begin(self, number, *, users=None, plan=None, hash_=MODEL_HASH, sites=None):
        """A round at the server, begun at all its sites (or ``sites``)."""
        round_ = self.server.begin_round(number, users or self.names, plan or self.plan, hash_)
        for name in round_.users if sites is None else sites:
            self.clients[name].begin_round(round_.start_message, hash_)
        return round_

    def upload(self, name):
        message, vector = self.clients[name].upload(update_of(name), weight_of(name), {"loss": 0.5})
        return message, vector

    def sum_of(self, names):
        """What the round must come to, from the inputs themselves."""
        weights = {name: weight_of(name) for name in names}
        total = sum(weights[name] * update_of(name)["w"].astype(np.float64) for name in names)
        return total, sum(weights.values())


def update_of(name):
    index = int(name[-2:])
    return {"w": np.array([index / 16, -0.5, index / 64], np.float32)}


def weight_of(name):
    return 10 + int(name[-2:])


def header_of(upload):
    return messages.Upload.decode(upload).header
