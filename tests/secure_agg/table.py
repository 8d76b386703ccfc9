"""One site that does as a test says, among honest ones and an honest server."""

from dataclasses import replace

from secure_agg import messages
from tests.secure_agg.cohort import Cohort, name_of

A, B, C, D, E = NAMES = tuple(name_of(index) for index in range(5))


class Table:
    """Five sites and an honest server; site E does as the test says. t = 4: one may be lost."""

    def __init__(self, watch):
        self.cohort = Cohort(5)
        self.oracle = watch(NAMES, colluders=[E])
        self.round = self.cohort.begin(1)
        self.sent = {name: self.cohort.upload(name) for name in NAMES}

    def key(self, name=E):
        return self.cohort.clients[name]._round._signing_key

    def resign(self, message, **changes):
        changed = replace(message, **changes)
        return replace(changed, sig=self.key().sign(changed.signed_body()))

    def alter_upload(self, *, bundles=None, vector=None, **header):
        """What E sends instead of what its client made."""
        upload = messages.Upload.decode(self.sent[E][0])
        changed = self.resign(upload.header, **header)
        upload = messages.Upload(changed, upload.bundles if bundles is None else bundles)
        self.sent[E] = upload.encode(), self.sent[E][1] if vector is None else vector

    def upload(self, names=NAMES):
        for name in names:
            self.round.add_upload(name, *self.sent[name])

    def certify(self):
        for name, message in self.round.freeze().items():
            self.round.add_signature(name, self.cohort.clients[name].sign_freeze(message))
        return self.round.certificate()

    def reveal(self, names):
        certificate = self.round.certificate()
        for name in names:
            self.round.add_reveal(name, self.cohort.clients[name].reveal(certificate))

    def recover(self, names):
        request = self.round.recover_request()
        for name in names:
            self.round.add_recovery(name, self.cohort.clients[name].recover(request))
