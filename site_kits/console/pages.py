"""Templates of the console: plain HTML, one style sheet, no script."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from fl_jobs.data.register import SMALLEST_COUNT
from site_kits.errors import SiteKitError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome
from site_kits.translation import spoken, translations

_HERE = Path(__file__).parent


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    environment.filters |= {"size": size_text, "number": "{:,}".format, "when": when_text}
    return environment


def page(home: SiteHome, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page in the language of the request."""
    language = spoken()
    known: dict[str, Any] = {"site": _site(home), "language": language, "smallest": SMALLEST_COUNT}
    html = _environment(language).get_template(template).render(known | values)
    return HTMLResponse(html, status)


def refusal(home: SiteHome, status: int, sentence: str) -> Response:
    """A page that says why not, and what to do next."""
    nobody: dict[str, Any] = {"path": "", "note": None, "signed_in": False, "waiting": 0}
    return page(home, "refused.html", status=status, sentence=sentence, **nobody)


async def icon(_request: Request) -> Response:
    """GET /favicon.ico: none; asking for one shall not look like an error."""
    return Response(status_code=204)


async def style(_request: Request) -> Response:
    """GET /console.css."""
    return Response((_HERE / "static" / "console.css").read_bytes(), media_type="text/css")


def size_text(count: int) -> str:
    """Bytes as people say them."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def when_text(moment: float | str) -> str:
    """Unix seconds or ISO 8601 as date and time, UTC."""
    if isinstance(moment, str):
        return f"{moment.replace('T', ' ')[:16]} UTC" if moment else ""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


def _site(home: SiteHome) -> dict[str, Any]:
    """Of the kit; empty words when site.json was damaged meanwhile, which the agent says."""
    try:
        return KitManifest.read(home.site_json).model_dump()
    except SiteKitError:
        return dict.fromkeys(("title", "organisation", "site", "federation"), "")
