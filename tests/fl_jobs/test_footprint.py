"""What a round costs a site, and that it stays there unless its policy shares it."""

import time

import numpy as np
import pytest

from fl_jobs.flare.footprint import Footprint, payload_bytes
from fl_jobs.messages import SYSTEM
from fl_jobs.server_session import ServerSession
from fl_jobs.site_session import SiteSession
from tests.fl_jobs.sites import make_spec, tabular_home


def first_round(tmp_path, *, share=True):
    spec = make_spec("fedavg")
    home = tabular_home(tmp_path / "a")
    site = SiteSession(spec, run_id="run", site="a", site_home=home, share_site_metrics=share)
    order = ServerSession(spec).next_order()
    footprint = Footprint(order.tensors)
    with footprint.measure():
        answer = site.execute(order)
    footprint.add_to(answer, payload_bytes(answer.tensors))
    return answer


def test_a_round_says_what_it_cost(tmp_path):
    answer = first_round(tmp_path)
    cost = answer.metrics["site"]["trained"][SYSTEM]
    assert cost["bytes_up"] == sum(value.nbytes for value in answer.tensors.values()) > 0
    assert cost["bytes_down"] == 0  # before round 1 there is no aggregate
    assert cost["seconds"] > 0
    assert 50 < cost["peak_memory_mb"] < 50_000


def test_a_site_that_keeps_its_figures_keeps_its_cost(tmp_path):
    assert first_round(tmp_path, share=False).metrics["site"] is None


def rapl(folder, *microjoules):
    for package, value in enumerate(microjoules):
        zone = folder / f"intel-rapl:{package}"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "energy_uj").write_text(f"{value}\n", encoding="ascii")
    return folder


def test_energy_is_that_of_all_packages(tmp_path):
    footprint = Footprint({"x": np.zeros(3, np.float32)}, rapl(tmp_path, 1_000_000, 5_000_000))
    with footprint.measure():
        rapl(tmp_path, 3_500_000, 5_000_000)
    assert footprint.figures["package_energy_j"] == 2.5
    assert footprint.figures["bytes_down"] == 12


@pytest.mark.parametrize("after", [(500_000,), ("nonsense",)])
def test_a_counter_that_wrapped_or_cannot_be_read_gives_no_figure(tmp_path, after):
    footprint = Footprint({}, rapl(tmp_path, 1_000_000))
    with footprint.measure():
        time.sleep(0.002)
        rapl(tmp_path, *after)
    assert "package_energy_j" not in footprint.figures
    assert footprint.figures["seconds"] > 0


def test_a_machine_without_counters_gives_no_energy(tmp_path):
    footprint = Footprint({}, tmp_path / "absent")
    with footprint.measure():
        pass
    assert "package_energy_j" not in footprint.figures
