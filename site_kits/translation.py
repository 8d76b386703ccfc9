"""The words a site's operator reads: standard-library gettext, Chinese or English."""

import gettext
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "zh")
_FOLDERS = {"zh": "zh_Hans"}
_DOMAIN = "consilium_site"
_CATALOGUES = Path(__file__).with_name("locale")
_SPOKEN: ContextVar[str] = ContextVar("spoken_language", default="")


@cache
def translations(language: str) -> gettext.NullTranslations:
    """The catalogue of ``language``; English, the language of the source, needs none."""
    folder = _FOLDERS.get(language, language)
    return gettext.translation(_DOMAIN, localedir=_CATALOGUES, languages=[folder], fallback=True)


def choose_language(accept_language: str) -> str:
    """``zh`` or ``en``, whichever comes first in an Accept-Language header; ``en`` when neither does."""
    offers = []
    for position, part in enumerate(accept_language[:500].split(",")):
        tag, _semicolon, parameters = part.strip().partition(";")
        quality = parameters.strip().removeprefix("q=") or "1"
        base = tag.split("-")[0].lower()
        if base in LANGUAGES:
            offers.append((-_as_float(quality), position, base))
    return min(offers)[2] if offers else "en"


def _as_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Within the block, ``_`` answers in ``language``: that of the browser that asks."""
    token = _SPOKEN.set(language)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def speak(language: str) -> None:
    """From here on ``_`` answers in ``language``, until the block of :func:`speaking` around it ends."""
    _SPOKEN.set(language)


def spoken() -> str:
    """The language of the request, else of the process (LC_ALL, LC_MESSAGES or LANG)."""
    if language := _SPOKEN.get():
        return language
    return wished_language() or "en"


def wished_language() -> str:
    """The language of the process; empty when its surroundings name none, as under a service manager."""
    wish = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    if wish.partition(".")[0] in {"", "C", "POSIX"}:
        return ""
    return "zh" if wish.startswith("zh") else "en"


def noted(sentence: str) -> str:
    """Mark ``sentence`` for the catalogue; it is translated when it is said."""
    return sentence


def _(sentence: str) -> str:
    """``sentence`` in the language that is spoken; what is not in the catalogue stays as it is."""
    return translations(spoken()).gettext(sentence) if sentence else ""
