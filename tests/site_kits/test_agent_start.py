"""start.sh and the command of a folder in which nothing runs: what they ask, refuse and say."""

import contextlib
import json
import os
import pty
import subprocess
import sys

from tests.site_kits.site_doubles import LINK, PIN, environment, unpack_kit


def test_a_kit_whose_unpacker_kept_no_modes_starts_and_can_be_started_again(home, portal):
    (home.root / "start.sh").chmod(0o644)
    done = subprocess.run(
        ["bash", "start.sh", "status"], cwd=home.root, env=environment(), capture_output=True, text=True
    )
    assert "not running" in done.stdout
    assert os.access(home.root / "start.sh", os.X_OK)


def test_a_person_is_shown_the_root_and_asked_for_the_pin_before_anything_is_installed(home):
    screen_end, own_end = pty.openpty()
    process = subprocess.Popen(
        ["bash", "start.sh", LINK], cwd=home.root,
        env={"PATH": os.environ["PATH"], "CONSILIUM_MIN_FREE_MB": "999999999"},
        stdin=own_end, stdout=own_end, stderr=own_end,
    )  # fmt: skip
    os.close(own_end)
    (home.root / "wheel").mkdir()
    (home.root / "wheel" / "consilium-0.1.0-py3-none-any.whl").write_bytes(b"")
    shown, asked = "", 0
    with contextlib.suppress(OSError):  # the end of the terminal
        while piece := os.read(screen_end, 4096).decode():
            shown += piece
            if "PIN (nothing is shown" in shown and not asked:
                asked = os.write(screen_end, f"{PIN}\n".encode())
    assert process.wait(timeout=10) == 2
    os.close(screen_end)
    root = json.loads(home.site_json.read_text())["root_fingerprint_sha256"]
    assert root in shown.replace(" ", "")
    assert PIN not in shown
    assert shown.index("PIN (nothing") < shown.index("MB are free")


def test_start_refuses_a_folder_that_was_not_unpacked_whole(home):
    (home.root / "rootCA.pem").unlink()
    done = subprocess.run(["./start.sh"], cwd=home.root, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "rootCA.pem is missing. Unpack the whole zip" in done.stderr


def test_start_refuses_a_path_that_training_cannot_use(portal, tmp_path):
    home = unpack_kit(tmp_path / "two words", portal)
    done = subprocess.run(["./start.sh"], cwd=home.root, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "has spaces or quotes" in done.stderr


def test_start_speaks_chinese_where_the_machine_does(home):
    (home.root / "rootCA.pem").unlink()
    done = subprocess.run(
        ["./start.sh"], cwd=home.root, env=environment(LANG="zh_CN.UTF-8"), capture_output=True, text=True
    )
    assert "缺少 rootCA.pem" in done.stderr


def test_start_asks_for_space_before_it_installs(home):
    (home.root / "wheel").mkdir()
    (home.root / "wheel" / "consilium-0.1.0-py3-none-any.whl").write_bytes(b"")
    done = subprocess.run(
        ["./start.sh"],
        cwd=home.root,
        env={"PATH": os.environ["PATH"], "CONSILIUM_MIN_FREE_MB": "999999999"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "the installation needs 999999999 MB" in done.stderr
    assert not (home.root / "venv").exists()


def test_start_says_when_the_installation_fails(home):
    (home.root / "wheel").mkdir()
    (home.root / "wheel" / "consilium-0.1.0-py3-none-any.whl").write_bytes(b"not a wheel")
    (home.root / "wheelhouse").mkdir()  # so that no network is asked
    done = subprocess.run(
        ["./start.sh"],
        cwd=home.root,
        env={"PATH": os.environ["PATH"], "CONSILIUM_MIN_FREE_MB": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "logs/install.log" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_start_refuses_a_python_without_consilium(home):
    done = subprocess.run(
        ["./start.sh"],
        cwd=home.root,
        env=environment(CONSILIUM_PYTHON="/nowhere/python"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "is not a Python 3.11" in done.stderr


def test_status_says_when_nothing_runs(home):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "site_kits.agent", "--home", str(home.root), "status"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "not running. Start it with ./start.sh" in done.stdout


def test_the_doctor_names_each_thing_that_is_not_in_order(portal, tmp_path):
    home = unpack_kit(tmp_path / "unreachable", portal, agents_url="https://localhost:9")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "site_kits.agent", "--home", str(home.root), "doctor"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "ok      disk" in done.stdout
    assert "NOT OK  way to the portal: The portal at localhost:9 does not answer" in done.stdout
    assert not home.key.exists()
