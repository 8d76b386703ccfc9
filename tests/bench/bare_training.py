"""The limit a federation is measured against: the same local training with nothing around it.

One process per site, all at once as in the federation; a barrier ends each round, because a round of the
federation ends with its slowest site. No server, no validation, no files.
"""

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

from fl_jobs.packaging.spec import RunSpec
from fl_jobs.site_session import SiteSession


def bare_round_s(spec: RunSpec, site_homes: list[Path], scratch: Path, *, rounds: int) -> float:
    """Median seconds of a round in which every site trains all arms of ``spec``."""
    start = multiprocessing.get_context("spawn")
    barrier = start.Barrier(len(site_homes) + 1)
    arguments = [(spec.model_dump_json(), home, scratch / home.name, barrier, rounds) for home in site_homes]
    processes = [start.Process(target=_train, args=each) for each in arguments]
    for process in processes:
        process.start()
    durations = []
    barrier.wait(120)
    for _ in range(rounds + 1):
        began = time.monotonic()
        barrier.wait(300)
        durations.append(time.monotonic() - began)
    for process in processes:
        process.join(30)
    return median(durations[1:])  # the first round reads the data


def _train(spec_json: str, home: Path, scratch: Path, barrier: Barrier, rounds: int) -> None:
    spec = RunSpec.model_validate_json(spec_json)
    scratch.mkdir(parents=True)
    for name in ("data", "registered"):
        (scratch / name).symlink_to(home / name, target_is_directory=True)
    session = SiteSession(
        spec, run_id="bare", site=home.name, site_home=scratch, share_site_metrics=False
    )  # fmt: skip
    barrier.wait(120)
    for number in range(rounds + 1):
        for arm in spec.arms():
            session.train(session.models.load(arm, {}, 0).algorithm, "train", number)
        barrier.wait(300)
