"""What the linters do not see: what runs where, what is never used, what the README promises."""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FORBIDDEN = re.compile(
    r"\b(?:import pickle|torch\.load\(|allow_pickle=True|yaml\.load\(|shell=True|os\.system\()"
)


def tracked(*patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in REPOSITORY.glob(pattern) if ".venv" not in path.parts]


def test_no_unsafe_loader_and_no_shell_anywhere():
    packages = ("platform_web", "site_kits", "fl_jobs", "secure_agg", "compliance", "infra")
    found = [
        f"{path.relative_to(REPOSITORY)}: {line.strip()}"
        for path in tracked(*(f"{package}/**/*.py" for package in packages))
        for line in path.read_text(encoding="utf-8").splitlines()
        if FORBIDDEN.search(line)
    ]
    assert found == []


def test_the_demo_imports_no_service_of_ours():
    ours = re.compile(
        r"^\s*(?:from|import) (platform_web|site_kits|fl_jobs|secure_agg|compliance)\b", re.MULTILINE
    )
    assert [
        path.name for path in tracked("infra/**/*.py") if ours.search(path.read_text(encoding="utf-8"))
    ] == []


def test_the_web_process_imports_neither_torch_nor_nvflare():
    code = (
        "import sys, platform_web.asgi; from django.urls import get_resolver; get_resolver().url_patterns\n"
        "print([n for n in ('torch', 'nvflare', 'monai', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stderr[-2000:]


def test_the_site_side_runs_without_django():
    code = (
        "import sys; sys.modules['django'] = None; sys.modules['celery'] = None\n"
        "import site_kits.agent.__main__, site_kits.inference.app, fl_jobs.flare.executor"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-2000:]


def test_each_make_target_says_what_it_does():
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    for target in phony.group(1).split():
        assert re.search(rf"^{target}:.*## \S", text, re.MULTILINE), f"{target} has no ## help"


def test_constraints_name_no_accelerator_build():
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    assert "torch==2.13.0\n" in text
    assert not re.search(r"^(nvidia|cuda|triton|torchvision)|\+cpu", text, re.MULTILINE)


def test_third_party_lists_every_vendored_file():
    listed = (REPOSITORY / "THIRD_PARTY.md").read_text(encoding="utf-8")
    vendored = [path.name for path in tracked("platform_web/**/static/**/vendor/*", "site_kits/**/vendor/*")]
    assert vendored
    assert [name for name in vendored if name not in listed] == []
