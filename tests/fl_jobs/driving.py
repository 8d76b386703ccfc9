"""Server and sites of a run in one process, step by step."""

from fl_jobs.aggregation import gather
from fl_jobs.site_session import SiteSession


def open_sites(spec, homes, *, share=True):
    return {
        name: SiteSession(spec, run_id="run", site=name, site_home=home, share_site_metrics=share)
        for name, home in homes.items()
    }


def drive(server, sites, *, until=None, absent=lambda order: ()):
    """Alternate orders and answers; returns records and commits of rounds by number."""
    records, commits = [], {}
    while (order := server.next_order()) is not None and order.name != until:
        away = absent(order)
        answers = {name: site.execute(order) for name, site in sites.items() if name not in away}
        commit = server.fold(order, gather(order, server.spec, answers))
        records.append(commit.record)
        if order.name == "train":
            commits[order.round_number] = commit.tensors
    return records, commits
