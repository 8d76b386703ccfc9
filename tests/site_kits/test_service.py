"""The systemd unit that brings a site up at boot: systemd itself says whether it is one."""

import shutil
import subprocess

import pytest

from site_kits.agent.__main__ import main
from site_kits.agent.service import unit_text


def test_the_unit_is_written_beside_the_kit_and_says_how_to_install_it(home, capsys):
    assert main(["--home", str(home.root), "service"]) == 0
    (unit,) = home.root.glob("consilium-*.service")
    assert f"ExecStart=/bin/bash {home.root}/start.sh\n" in unit.read_text()
    assert f"systemctl enable --now {unit.name}" in capsys.readouterr().out


def test_without_a_kit_nothing_is_written(tmp_path, capsys):
    assert main(["--home", str(tmp_path), "service"]) == 2
    assert not list(tmp_path.glob("*.service"))
    assert "site.json" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not on this machine")
def test_systemd_accepts_the_unit(home, tmp_path, monkeypatch):
    monkeypatch.setenv("CONSILIUM_PYTHON", '/opt/100% "py"/bin/python')
    (tmp_path / "units").mkdir()
    unit = tmp_path / "units" / "consilium-example.service"
    unit.write_text(unit_text(home, "example", "root"))
    found = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    said = [line for line in found.stderr.splitlines() if unit.name in line]
    assert said == []
    unit.write_text(unit.read_text().replace("RestartSec=10", "RestartSec=soon"))  # and it does look
    found = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert "soon" in found.stderr
