"""A whole run in one process of which every message is kept."""

from dataclasses import dataclass, field

from fl_jobs.aggregation import gather
from fl_jobs.catalog import ALGORITHMS
from fl_jobs.packaging.spec import run_folder_name
from fl_jobs.server_session import ServerSession
from fl_jobs.site_session import SiteSession
from tests.fl_jobs.sites import IMAGE, TABULAR, TEXT, image_home, make_spec, tabular_home, text_home

NAMES = tuple(sorted(ALGORITHMS))
TASKS = {task.kind: task for task in (TABULAR, IMAGE, TEXT)}
HOMES = {"tabular": tabular_home, "image": image_home, "text": text_home}
SITES = ("a", "b", "c")


@dataclass
class Recording:
    """``answers`` are pairs of an order and {site: Contribution}, ``commits`` the aggregates by round."""

    spec: object
    homes: dict
    sites: dict = field(default_factory=dict)
    answers: list = field(default_factory=list)
    records: list = field(default_factory=list)
    commits: dict = field(default_factory=dict)

    def open_sites(self):
        self.sites = {
            name: SiteSession(self.spec, run_id="run", site=name, site_home=home, share_site_metrics=True)
            for name, home in self.homes.items()
        }

    def drive(self, server, *, last_round=None):
        """Go on to the end, or up to and with ``last_round``."""
        while (order := server.next_order()) is not None:
            answers = {name: site.execute(order) for name, site in self.sites.items()}
            commit = server.fold(order, gather(order, self.spec, answers))
            self.answers.append((order, answers))
            self.records.append(commit.record)
            if order.name == "train":
                self.commits[order.round_number] = commit.tensors
                if order.round_number == last_round:
                    return

    def personal_file(self, site, arm, number):
        folder = self.homes[site] / "personal" / "study" / self.spec.algorithm
        return folder / run_folder_name(self.spec.digest(), "run") / arm / f"r{number:04d}.safetensors"


def spec_of(name, kind="tabular", *, rounds=3, **hyper_parameters):
    """Masked on paper where the algorithm insists; in one process nothing is sent."""
    masked = ALGORITHMS[name].needs_masking
    values = {"learning_rate": 0.02, "batch_size": 8} | hyper_parameters
    return make_spec(name, TASKS[kind], rounds=rounds, masked=masked, **values)


def make_homes(root, kind="tabular", sites=SITES):
    return {name: HOMES[kind](root / name, seed=seed) for seed, name in enumerate(sites)}


def record(spec, homes):
    recording = Recording(spec, homes)
    recording.open_sites()
    recording.drive(ServerSession(spec))
    return recording
