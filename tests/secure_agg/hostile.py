"""A server that says what it likes. It keeps everything that sites send and builds every message by hand."""

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_agg import messages
from secure_agg.headers import freeze_hash
from tests.secure_agg.cohort import MODEL_HASH


class Hostile:
    """Speaks to the clients of ``cohort`` and holds the keys of the sites that work with it."""

    def __init__(self, cohort, *, colluders=()):
        self.cohort, self.colluders = cohort, tuple(colluders)
        self.uploads, self.vectors, self.signatures = {}, {}, {}  # signatures: freeze hash -> site -> bytes

    def indices(self, names):
        return tuple(sorted(self.cohort.index(name) for name in names))

    def start(self, number=1, *, users=None, plan=None, model=MODEL_HASH):
        users = self.indices(users or self.cohort.names)
        return messages.RoundStart(number, users, (plan or self.cohort.plan).encode(), model).encode()

    def run_to_upload(self, start=None, *, names=None, model=MODEL_HASH, instead=None):
        """Every site uploads. ``instead``: by site, another ROUND_START than the common one."""
        start = start or self.start()
        for name in names or self.cohort.names:
            mine = (instead or {}).get(name, start)
            self.cohort.clients[name].begin_round(mine, messages.RoundStart.decode(mine).model_hash)
            upload, self.vectors[name] = self.cohort.upload(name)
            self.uploads[name] = messages.Upload.decode(upload)
        return self

    def header(self, name):
        return self.uploads[name].header

    def forge(self, name, **changes):
        """The header of a colluder, changed and signed again."""
        header = replace(self.header(name), **changes)
        return replace(header, sig=self.key_of(name).sign(header.signed_body()))

    def key_of(self, name):
        assert name in self.colluders
        return Ed25519PrivateKey.from_private_bytes(self.cohort.clients[name]._memory.load().ed25519_secret)

    def freeze(self, survivors, to, *, headers=None, bundles=None):
        """A list of survivors for one site, with the real headers and bundles but for those given."""
        indices, receiver = self.indices(survivors), self.cohort.index(to)
        shown = {name: self.header(name).encode() for name in survivors} | (headers or {})
        sent = {
            self.cohort.index(name): dict(self.uploads[name].bundles).get(receiver, b"")
            for name in survivors
            if name != to
        }
        pairs = sorted((self.cohort.index(name), encoded) for name, encoded in shown.items())
        sent = sent if bundles is None else bundles
        return messages.Freeze(indices, tuple(pairs), tuple(sorted(sent.items()))).encode()

    def hash_of(self, freeze):
        message = messages.Freeze.decode(freeze)
        context = next(iter(self.uploads.values())).header.round_ctx
        return freeze_hash(context, message.survivors, message.headers)

    def sign(self, name, freeze):
        """Have a site sign, and keep the signature."""
        answer = messages.FreezeSig.decode(self.cohort.clients[name].sign_freeze(freeze))
        self.signatures.setdefault(answer.freeze_hash, {})[name] = answer.sig
        return answer

    def sign_all(self, survivors, *, by=None, headers=None):
        """The sites ``by`` sign one list. Returns its hash."""
        for name in by or survivors:
            answer = self.sign(name, self.freeze(survivors, name, headers=headers))
        return answer.freeze_hash

    def collude(self, freeze_hash_):
        """The colluders sign whatever is useful."""
        body = messages.FreezeSig(freeze_hash_).signed_body()
        for name in self.colluders:
            self.signatures.setdefault(freeze_hash_, {})[name] = self.key_of(name).sign(body)

    def certificate(self, *hashes, only=None):
        """All signatures on the given hashes; of a site that signed two, the one on the first."""
        found = {}
        for freeze_hash_ in hashes:
            for name, signature in self.signatures.get(freeze_hash_, {}).items():
                if only is None or name in only:
                    found.setdefault(self.cohort.index(name), signature)
        return messages.Cert(tuple(sorted(found.items()))).encode()

    def reveal(self, name, *hashes, **about):
        return messages.Reveal.decode(self.cohort.clients[name].reveal(self.certificate(*hashes, **about)))

    def recover(self, name, freeze_hash_, silent):
        request = messages.RecoverReq(freeze_hash_, self.indices(silent)).encode()
        return messages.Recover.decode(self.cohort.clients[name].recover(request))
