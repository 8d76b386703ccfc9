"""Which processes the platform consists of, one place. Settings come from the environment, see the README."""

import os
import subprocess
import sys
from pathlib import Path

from infra.supervision.supervisor import Program

_BIN = Path(sys.executable).parent
_REPOSITORY = Path(__file__).resolve().parents[2]


def platform_programs(*, home: Path, web_port: int, agents_port: int) -> list[Program]:
    """Portal, agents' door, two workers, one beat, the NVFlare server, the log's sequencer and signer."""
    environment = _environment(home)

    def program(name: str, *command: str, folder: Path = _REPOSITORY, **extra: str) -> Program:
        return Program(name, command, {**environment, **extra}, folder)

    programs = [
        # NVFlare's own script with --once: it execs python, so the pid is the server's; no restart loop
        # that would hide a failure from us.
        program(
            "flare-server",
            "bash",
            str(home / "flare" / "server" / "startup" / "sub_start.sh"),
            "--once",
            folder=home / "flare" / "server",
        ),
        program("web", *_granian(web_port), CONSILIUM_DOOR="web"),
        program(
            "agents",
            *_granian(agents_port),
            "--ssl-certificate",
            str(home / "tls" / "agents.crt"),
            "--ssl-keyfile",
            str(home / "tls" / "agents.key"),
            CONSILIUM_DOOR="agents",
        ),
        program("worker-default", *_worker("default"), "--pool", "prefork", "--concurrency", "1"),
        # solo: the NVFlare session lives in this process; gRPC does not survive a fork
        program("worker-flare", *_worker("flare"), "--pool", "solo"),
        # every schedule is an interval, so beat needs no file of its own (Celery's is a pickle)
        program("beat", *_celery("beat"), "--scheduler", "celery.beat:Scheduler"),
        program("sequencer", sys.executable, "manage.py", "audit_sequencer"),
    ]
    if not environment.get("CONSILIUM_SIGNER_SOCKET"):
        # one of another user, in production: whoever may change the database must not read the log's key
        signer = (sys.executable, "-m", "compliance.signer", "--folder", str(home / "signer"))
        programs.append(program("signer", *signer))
    return programs


def settings_problem(home: Path) -> str:
    """Why the portal cannot start with these settings, in one sentence; empty when it can.

    Asked before anything starts: the processes would end again and again, with the reason in their logs.
    """
    command = [sys.executable, "manage.py", "check", "--database", "default"]
    done = subprocess.run(
        command, cwd=_REPOSITORY, env=_environment(home), capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    told = [line.partition(") ")[2] for line in lines if "(consilium." in line]
    return (told or lines[-1:] or ["The settings cannot be checked. Run: python manage.py check"])[0]


def _environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CONSILIUM_HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # NVFlare's scripts say `python3`
    }


def _granian(port: int) -> tuple[str, ...]:
    return (
        str(_BIN / "granian"),
        "--interface",
        "asginl",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--no-ws",
        "platform_web.asgi:application",
    )


def _celery(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "--app", "platform_web.celery", *arguments, "--loglevel", "INFO")


def _worker(queue: str) -> tuple[str, ...]:
    return (
        *_celery("worker"),
        "--queues",
        queue,
        "--hostname",
        f"{queue}@localhost",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    )
