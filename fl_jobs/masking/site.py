"""A site's side of a masked run: checks the server's plan, then sends its change of the model under masks."""

from collections.abc import Callable

from fl_jobs.errors import SharedStateError
from fl_jobs.masking.plans import accept_plan
from fl_jobs.messages import Contribution, MaskedContribution, TaskOrder
from fl_jobs.packaging.spec import RunSpec
from secure_agg.client import Client
from secure_agg.identity import Identity, Trust, fingerprint
from secure_agg.model_hash import model_hash
from secure_agg.plan import Plan
from secure_agg.state import Vault


class SiteMask:
    """One site in one epoch of one run. The steps of FLSA-1 after the upload are those of ``client``."""

    def __init__(
        self,
        spec: RunSpec,
        *,
        run_id: str,
        epoch: int,
        identity: Identity,
        trust: Trust,
        vault: Vault,
        data_version: bytes,
        now: Callable[[], int],
    ) -> None:
        self._spec, self._order = spec, TaskOrder("", 0)
        self.client = Client(
            identity=identity,
            trust=trust,
            job_id=run_id,
            epoch=epoch,
            vault=vault,
            data_version=data_version,
            accept_plan=self._accept,
            now=now,
        )

    def begin(self, order: TaskOrder, start_message: bytes) -> None:
        """Check what the server wants before any work is done for it. Raises SecureAggregationError."""
        self._order = order
        self.client.begin_round(start_message, model_hash(order.tensors))

    def mask(self, contribution: Contribution) -> MaskedContribution:
        """Encode and mask the answer to the order begun. Raises SecureAggregationError; nothing left then."""
        declared = self._order.declared(self._spec)
        if contribution.tensors.keys() != declared.keys():
            raise SharedStateError("The update is not what the run declares. Nothing was sent.")
        changes = {
            wire: value - self._order.tensors[wire] if wire in self._order.tensors else value
            for wire, value in contribution.tensors.items()
        }
        sums = contribution.metrics["sums"]
        statistics = dict.fromkeys(self._order.statistics(self._spec), 0.0)
        statistics |= {f"{arm}/{name}": value for arm in sums for name, value in sums[arm].items()}
        message, vector = self.client.upload(changes, int(contribution.lanes["samples"]), statistics)
        open_part = {key: value for key, value in contribution.metrics.items() if key != "sums"}
        return MaskedContribution(message, vector, open_part)

    def peers(self) -> dict[str, str]:
        """The certificate key each peer presented: SHA-256 of its SPKI, by name."""
        adverts = self.client.roster.adverts
        own = self.client.name
        return {advert.name: fingerprint(advert.chain[0]) for advert in adverts if advert.name != own}

    def _accept(self, plan: Plan) -> None:
        accept_plan(self._spec, self._order, plan, site_count=len(self.client.roster.names))
