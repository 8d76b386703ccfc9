"""The console page: what this site is doing, in plain words, for the person who looks after it."""

import time
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from fl_jobs.packaging.spec import RunSpec
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome, read_state
from site_kits.translation import choose_language, translations

_HERE = Path(__file__).parent
_FRESH_S = 25  # the agent writes every 5 to 15 s
_RUNS_SHOWN = 3


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(),
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    return environment


async def icon(_request: Request) -> Response:
    """GET /favicon.ico: none; asking for one shall not look like an error."""
    return Response(status_code=204)


async def style(_request: Request) -> Response:
    """GET /console.css."""
    return Response((_HERE / "static" / "console.css").read_bytes(), media_type="text/css")


def page(
    home: SiteHome, manifest: KitManifest, models: list[dict[str, Any]], accept_language: str
) -> Response:
    """The page as it is now; it reloads itself twice a minute without script."""
    language = choose_language(accept_language)
    status = read_state(home.status_json)
    alive = time.time() - float(status.get("written_at") or 0) < _FRESH_S
    heard = status.get("portal", {}).get("last_heartbeat", "")
    html = (
        _environment(language)
        .get_template("console.html")
        .render(
            language=language,
            site=manifest,
            status=status,
            alive=alive,
            heard=heard.replace("T", " ")[:19],
            problems=list(status.get("problems", {}).values()) if alive else [],
            good=alive and not status.get("problems") and bool(heard),
            datasets=status.get("datasets", []),
            models=models,
            runs=_runs(home),
        )
    )
    return HTMLResponse(html)


def _runs(home: SiteHome) -> list[dict[str, Any]]:
    """The newest runs this site took part in, with the tensors that left it."""
    paths = sorted(home.root.glob("personal/*/*/*/run_spec.json"), key=_changed, reverse=True)
    runs = []
    for path in paths[:_RUNS_SHOWN]:
        try:
            spec = RunSpec.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        tensors = [(tensor, " × ".join(map(str, tensor.shape)) or "1") for tensor in spec.tensors]
        runs.append({"spec": spec, "digest": spec.digest(), "tensors": tensors, "numbers": _numbers(spec)})
    return runs


def _numbers(spec: RunSpec) -> int:
    """How many numbers leave in one round."""
    total = 0
    for tensor in spec.shared().values():
        size = 1
        for length in tensor.shape:
            size *= length
        total += size
    return total


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
