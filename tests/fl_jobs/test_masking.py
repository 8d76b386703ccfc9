"""A whole masked run in one process: the sums are those of a run in the clear."""

import dataclasses

import numpy as np
import pytest

from fl_jobs.aggregation import gather
from fl_jobs.masking.plans import RING64_BYTES_MAX, accept_plan, make_plan, ring_of, vector_sizes
from fl_jobs.messages import TaskOrder
from fl_jobs.server_session import ServerSession
from fl_jobs.site_session import SiteSession
from secure_agg.errors import SecureAggregationError
from tests.fl_jobs.masked_cohort import NAMES, Cohort
from tests.fl_jobs.sites import make_spec, tabular_homes


@pytest.mark.parametrize("away", [(), ("b",)])
def test_a_masked_run_has_the_sums_of_a_plain_one(tmp_path, away):
    spec = make_spec("dbe", rounds=2, masked=True)
    cohort = Cohort(spec, tabular_homes(tmp_path / "masked", names=NAMES))
    plain = {
        name: SiteSession(spec, run_id="run", site=name, site_home=home, share_site_metrics=False)
        for name, home in tabular_homes(tmp_path / "plain", names=NAMES).items()
        if name not in away
    }
    masked_server, plain_server = ServerSession(spec), ServerSession(spec)
    while (order := masked_server.next_order()) is not None:
        plain_order = plain_server.next_order()
        found = cohort.gather(order, away=away)
        wanted = gather(plain_order, spec, {name: site.execute(plain_order) for name, site in plain.items()})
        assert found.sites == wanted.sites
        assert found.sums.weights == wanted.sums.weights
        for wire, total in wanted.sums.tensors.items():
            weight = wanted.sums.weights[wire]
            assert np.abs(found.sums.tensors[wire] - total).max() / weight < 2.0**-20
        for arm, values in wanted.metrics.items():
            for name, value in values.items():
                assert found.metrics[arm][name] == pytest.approx(value, abs=1e-4)
        masked_server.fold(order, found)
        plain_server.fold(plain_order, wanted)


def orders_of(spec):
    server = ServerSession(spec)
    return server.next_order(), TaskOrder("train", 1, {"best": {}}), TaskOrder("finish", 2, {"chosen": {}})


def test_a_site_refuses_every_plan_but_its_own():
    spec = make_spec("dbe", masked=True)
    phase, train, finish = orders_of(spec)
    for order in (phase, train, finish):
        plan = make_plan(spec, order, site_count=4, log2_clip=3)
        accept_plan(spec, order, plan, site_count=4)
        for changed in (
            {"weight_max": plan.weight_max * 2},
            {"cohort_min": 4},
            {"colluding": 0},
            {"context": bytes(32)},
            {"statistics": plan.statistics[:-1] if plan.statistics else ("x/y",)},
            {"fields": plan.fields[:-1] if plan.fields else ()},
            {"site_count": 5},
        ):
            other = dataclasses.replace(plan, **changed)
            if other != plan:
                with pytest.raises(SecureAggregationError) as refused:
                    accept_plan(spec, order, other, site_count=4)
                assert refused.value.code == "E_PLAN"


def test_the_clip_is_one_power_of_two_for_all_tensors_and_not_beyond_twelve():
    spec = make_spec("dbe", masked=True)
    train = TaskOrder("train", 1)
    for clip, codes in ((13, {"E_PLAN"}), (-1, {"E_PLAN"})):
        plan = make_plan(spec, train, site_count=4, log2_clip=clip)
        with pytest.raises(SecureAggregationError) as refused:
            accept_plan(spec, train, plan, site_count=4)
        assert refused.value.code in codes
    plan = make_plan(spec, train, site_count=4, log2_clip=3)
    uneven = (dataclasses.replace(plan.fields[0], log2_clip=4), *plan.fields[1:])
    with pytest.raises(SecureAggregationError):
        accept_plan(spec, train, dataclasses.replace(plan, fields=uneven), site_count=4)


def test_two_orders_never_have_the_same_context():
    spec = make_spec("dbe", masked=True)
    contexts = {order.digest(spec.digest()) for order in orders_of(spec)}
    contexts.add(TaskOrder("train", 2).digest(spec.digest()))
    contexts.add(TaskOrder("train", 1).digest("0" * 64))
    assert len(contexts) == 5


def test_large_models_travel_in_as_many_bytes_as_without_masks():
    spec = make_spec("fedavg", masked=True)
    tensor = spec.tensors[0]
    rows = RING64_BYTES_MAX // 4 + 1
    large = spec.model_copy(update={"tensors": (tensor.model_copy(update={"shape": (rows,)}),)})
    train = TaskOrder("train", 1)
    assert ring_of(spec, train) == 64
    assert ring_of(large, train) == 32
    assert 4 * rows <= min(vector_sizes(large, "train")) < 4 * rows + 1000
