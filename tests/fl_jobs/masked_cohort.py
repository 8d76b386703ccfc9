"""Sites and server of a run under masks in one process."""

from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from fl_jobs.masking.plans import first_clip, make_plan
from fl_jobs.masking.site import SiteMask
from fl_jobs.masking.sums import gathered_from
from fl_jobs.site_session import SiteSession
from secure_agg.identity import Identity, Trust
from secure_agg.model_hash import model_hash
from secure_agg.server import ServerEpoch
from secure_agg.state import MemoryVault
from site_kits.provisioning import ca
from tests.e2e.allowed import make_request

NAMES = ("a", "b", "c", "d")


@cache
def identities():
    """Root certificate (DER), a time at which all are valid, and each site's identity."""
    key, root = ca.create_ca("Test")
    found = {}
    for name in NAMES:
        key_pem, request = make_request(name)
        pem = ca.sign_site_csr(key, root, request, site=name, organisation="test")
        der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        found[name] = Identity(name, load_pem_private_key(key_pem, None), (der,))
    now = int(root.not_valid_before_utc.timestamp()) + 3600
    return root.public_bytes(Encoding.DER), now, found


class Cohort:
    """Sites and server of one masked run; ``gather`` is one order from the upload to the sum."""

    def __init__(self, spec, homes):
        self.spec, self.orders, self.plan, self.masked = spec, 0, None, {}
        root_der, now, own = identities()
        self.epoch = ServerEpoch(
            job_id="run", epoch=1, root_der=root_der, cohort_min=spec.min_sites, now=lambda: now
        )
        self.sites, self.masks = {}, {}
        for name, home in homes.items():
            self.sites[name] = SiteSession(
                spec, run_id="run", site=name, site_home=home, share_site_metrics=False
            )
            self.masks[name] = SiteMask(
                spec,
                run_id="run",
                epoch=1,
                identity=own[name],
                trust=Trust(root_der=root_der),
                vault=MemoryVault(),
                data_version=name.encode(),
                now=lambda: now,
            )
        for name, mask in self.masks.items():
            self.epoch.add_advert(name, mask.client.advert())
        roster = self.epoch.roster_message()
        for name, mask in self.masks.items():
            self.epoch.add_ack(name, mask.client.accept_roster(roster))

    def gather(self, order, *, away=()):
        self.orders += 1
        plan = make_plan(self.spec, order, site_count=len(NAMES), log2_clip=first_clip(self.spec, order))
        round_ = self.epoch.begin_round(self.orders, NAMES, plan, model_hash(order.tensors))
        self.plan, self.masked = plan, {}
        for name in sorted(set(NAMES) - set(away)):
            self.masks[name].begin(order, round_.start_message)
            masked = self.masks[name].mask(self.sites[name].execute(order))
            round_.add_upload(name, masked.message, masked.vector)
            self.masked[name] = masked
        for name, message in round_.freeze().items():
            round_.add_signature(name, self.masks[name].client.sign_freeze(message))
        certificate = round_.certificate()
        for name in round_.signed:
            round_.add_reveal(name, self.masks[name].client.reveal(certificate))
        open_parts = {name: masked.open_part for name, masked in self.masked.items()}
        return gathered_from(round_.unmask(), order, self.spec, open_parts)
