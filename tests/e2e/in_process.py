"""The same run without NVFlare and without masks: what the sums must be."""

from collections.abc import Collection, Mapping
from pathlib import Path

from fl_jobs.aggregation import gather
from fl_jobs.messages import TensorMap
from fl_jobs.packaging.spec import RunSpec
from fl_jobs.server_session import ServerSession
from fl_jobs.site_session import SiteSession


def expected_rounds(
    spec: RunSpec, homes: Mapping[str, Path], *, lost_after: Mapping[str, int]
) -> dict[int, TensorMap]:
    """The aggregate of every round; a site of ``lost_after`` is missing in all rounds after that number."""
    server, aggregates = ServerSession(spec), {}
    sites = {
        name: SiteSession(spec, run_id="expected", site=name, site_home=home, share_site_metrics=True)
        for name, home in homes.items()
    }
    while (order := server.next_order()) is not None and order.name in ("phase", "train"):
        away: Collection[str] = [name for name, last in lost_after.items() if order.round_number > last]
        answers = {name: site.execute(order) for name, site in sites.items() if name not in away}
        commit = server.fold(order, gather(order, spec, answers))
        if order.name == "train":
            aggregates[order.round_number] = commit.tensors
    return aggregates
