"""Every algorithm under masks: the aggregate of a run in the clear, and nothing else on the wire."""

import numpy as np
import pytest

from fl_jobs.aggregation import gather, load_fold
from fl_jobs.messages import METRIC_KEYS, Sums
from fl_jobs.server_session import ServerSession
from fl_jobs.site_session import SiteSession
from tests.fl_jobs.masked_cohort import NAMES as SITES
from tests.fl_jobs.masked_cohort import Cohort
from tests.fl_jobs.recording import NAMES, make_homes
from tests.fl_jobs.sites import make_spec

SHARING = pytest.mark.parametrize("name", [name for name in NAMES if name != "local_only"])


def bound(plan, wire, order, sent):
    """Half a unit of the ring, and what a change loses in 32-bit floats before it is masked."""
    ring = 2.0 ** -(plan.fraction_bits(next(f for f in plan.fields if f.name == wire)) + 1)
    base = order.tensors.get(wire, np.zeros(1))
    largest = max(np.abs(answer.tensors[wire] - base).max() for answer in sent.values())
    return ring + 2.0**-24 * float(largest)


@SHARING
def test_the_masked_aggregate_is_the_plain_one_within_the_ring(tmp_path, name):
    """Both cohorts get the same orders: what differs is the masking alone."""
    spec = make_spec(name, rounds=3 if name == "fedproto" else 2, masked=True)
    cohort = Cohort(spec, make_homes(tmp_path / "masked", sites=SITES))
    plain = {
        site: SiteSession(spec, run_id="run", site=site, site_home=home, share_site_metrics=False)
        for site, home in make_homes(tmp_path / "plain", sites=SITES).items()
    }
    server = ServerSession(spec)
    while (order := server.next_order()) is not None:
        answers = {site: session.execute(order) for site, session in plain.items()}
        wanted, found = gather(order, spec, answers), cohort.gather(order)
        assert found.sums.weights == wanted.sums.weights
        for wire, total in wanted.sums.tensors.items():
            off = np.abs(found.sums.tensors[wire] - total).max() / wanted.sums.weights[wire]
            assert off <= bound(cohort.plan, wire, order, answers) * (1 + 1e-9), wire
        if order.name == "train":
            same_fold(spec, name, order, wanted.sums, found.sums)
        for masked in cohort.masked.values():
            assert masked.vector.nbytes == cohort.plan.vector_bytes
            assert masked.open_part.keys() == METRIC_KEYS - {"sums"}
        server.fold(order, found)
        if name == "fedproto" and order.round_number > 1 and order.name == "train":
            assert (found.sums.tensors["personal/prototypes_CK"] != 0).any()


def same_fold(spec, name, order, wanted, found):
    """What the server makes of the personal arm's sums agrees, and FedProto's counts do exactly."""
    mine = [wire for wire in spec.shared() if wire.startswith(f"{spec.arms()[-1]}/")]
    folded = [
        load_fold(name)(order.tensors, Sums({w: s.tensors[w] for w in mine}, {w: s.weights[w] for w in mine}))
        for s in (wanted, found)
    ]
    for wire in mine:
        assert np.allclose(folded[0][wire], folded[1][wire], atol=2e-6), wire
        if wire.endswith("owned_C"):
            assert np.array_equal(folded[0][wire], folded[1][wire])


@pytest.mark.parametrize("name", ["fedcp", "gpfl", "fedproto"])
def test_one_masked_vector_tells_nothing_of_what_it_hides(tmp_path, name):
    """The bytes of a site's vector are spread evenly, whatever the tensors are; two orders share none."""
    spec = make_spec(name, rounds=2, masked=True)
    cohort, server, before = Cohort(spec, make_homes(tmp_path, sites=SITES)), ServerSession(spec), None
    while (order := server.next_order()) is not None and order.name == "train":
        server.fold(order, cohort.gather(order))
        lane = np.asarray(cohort.masked["a"].vector[: cohort.plan.main_bytes])
        counts = np.bincount(lane, minlength=256)
        spread = ((counts - len(lane) / 256) ** 2).sum() / (len(lane) / 256)
        assert spread < 255 + 6 * np.sqrt(2 * 255)  # chi-square with 255 degrees of freedom, six sigma
        assert before is None or (lane == before).mean() < 0.05
        before = lane.copy()
