"""A whole run in one process: the same sessions as over NVFlare, for tests and for trying settings out.

Nothing leaves the process, so nothing is masked, whatever the run's policy says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from fl_jobs.aggregation import gather
from fl_jobs.algorithms.build import describe_tensors
from fl_jobs.packaging.spec import RunSpec
from fl_jobs.server_session import ServerSession
from fl_jobs.site_session import SiteSession

Spec = TypeVar("Spec", bound=RunSpec)


def with_tensors(spec: Spec) -> Spec:
    """The specification with the tensor list its algorithms give. Raises SpecError."""
    return spec.model_copy(update={"tensors": describe_tensors(spec)})


def run_in_process(
    spec: RunSpec, site_homes: Mapping[str, Path], *, run_id: str = "simulated"
) -> list[dict[str, Any]]:
    """Run ``spec`` with registered data below each site's home; return the journal's records.

    Two calls give the same numbers to the last bit, and those of a real run in which every site answers.
    """
    spec = spec if spec.tensors else with_tensors(spec)
    server = ServerSession(spec)
    sites = {
        site: SiteSession(spec, run_id=run_id, site=site, site_home=home, share_site_metrics=True)
        for site, home in site_homes.items()
    }
    records: list[dict[str, Any]] = []
    while (order := server.next_order()) is not None:
        answers = {site: session.execute(order) for site, session in sites.items()}
        records.append(server.fold(order, gather(order, spec, answers)).record)
    return records
