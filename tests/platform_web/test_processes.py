"""What a process loads and how it starts: told from outside, in a process of its own."""

import base64
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = base64.b64encode(b"k" * 32).decode()


def python(tmp_path, *arguments, **changes):
    environment = {
        "PATH": os.environ["PATH"],
        "CONSILIUM_HOME": str(tmp_path / "portal"),
        "CONSILIUM_MASTER_KEY": KEY,
        "DJANGO_SETTINGS_MODULE": "infra.settings.dev",
    } | changes
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("door", ["web", "agents"])
def test_a_web_process_loads_neither_torch_nor_nvflare(tmp_path, door):
    code = (
        "import sys, importlib, platform_web.asgi\n"
        "from django.conf import settings\n"
        "importlib.import_module(settings.ROOT_URLCONF)\n"
        "from django.urls import get_resolver\n"
        "get_resolver().url_patterns\n"
        "print(sorted({'torch', 'monai', 'nvflare', 'sklearn', 'grpc'} & set(sys.modules)))"
    )
    result = python(tmp_path, "-c", code, CONSILIUM_DOOR=door)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"CONSILIUM_MASTER_KEY": ""}, "CONSILIUM_MASTER_KEY is not set"),
        ({"CONSILIUM_MASTER_KEY": "short"}, "not the base64 text of 32 bytes"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL cannot be used"),
        ({"CONSILIUM_DOOR": "back"}, "must be one of web, agents"),
    ],
)
def test_a_bad_setting_is_one_sentence_and_exit_2(tmp_path, changes, words):
    result = python(tmp_path, "manage.py", "check", **changes)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_the_portal_is_set_up_once_and_another_master_key_is_refused(tmp_path):
    setup = ["manage.py", "setup_platform", "--admin", "ann"]
    assert "CONSILIUM_ADMIN_PASSWORD" in python(tmp_path, *setup).stderr
    first = python(tmp_path, *setup, CONSILIUM_ADMIN_PASSWORD="correct horse battery")
    assert first.returncode == 0, first.stderr
    home = tmp_path / "portal"
    files = [
        "tls/agents.crt",
        "tls/agents.key",
        "flare/server/startup/server.key",
        "flare/server/startup/rootCA.pem",
    ]
    before = {name: (home / name).read_bytes() for name in files}
    assert (home / "tls/agents.key").stat().st_mode & 0o077 == 0
    assert python(tmp_path, *setup).returncode == 0
    assert {name: (home / name).read_bytes() for name in files} == before
    wrong = python(tmp_path, *setup, CONSILIUM_MASTER_KEY=base64.b64encode(b"w" * 32).decode())
    assert wrong.returncode == 2
    assert "not the key this portal was set up with" in wrong.stderr
    checked = python(
        tmp_path,
        "manage.py",
        "check",
        "--database",
        "default",
        CONSILIUM_MASTER_KEY=base64.b64encode(b"w" * 32).decode(),
    )
    assert "consilium.E001" in checked.stderr


def test_supervision_starts_nothing_that_could_only_fail(tmp_path):
    first = python(tmp_path, "manage.py", "setup_platform")
    assert first.returncode == 0, first.stderr
    home = tmp_path / "portal"
    supervision = ["-m", "infra.supervision", "--home", str(home)]
    supervision += ["--web-port", "1", "--agents-port", "2", "--flare-port", "3"]
    for key, words in (
        ("", "CONSILIUM_MASTER_KEY is not set"),
        (base64.b64encode(b"w" * 32).decode(), "not the key this portal was set up with"),
    ):
        refused = python(tmp_path, *supervision, CONSILIUM_MASTER_KEY=key)
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert refused.stderr.startswith("CONSILIUM_MASTER_KEY")
        assert words in refused.stderr
    with (home / "supervision.lock").open("w") as lock:  # another supervisor of this home lives
        fcntl.flock(lock, fcntl.LOCK_EX)
        mine = {"pid": os.getpid(), "created": psutil.Process().create_time()}
        (home / "processes.json").write_text(json.dumps({"web": mine}))
        second = python(tmp_path, *supervision)
    assert second.returncode == 2
    assert "is running already" in second.stderr  # and this process, which the record names, still lives
