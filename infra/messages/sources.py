"""Every sentence a person may read, found in the sources: Python, Django templates, Jinja templates."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from django.utils.translation.template import templatize
from jinja2 import Environment

Message = tuple[str, str]  # msgid and msgid_plural; the latter is empty where there is but one form
REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON, HTML, MAIL = "**/*.py", "**/templates/**/*.html", "**/templates/**/*.txt"

# What marks a sentence: the call's name, and which of its positional arguments are sentences.
_CALLS = {
    "_": (0,), "_t": (0,), "_n": (0,), "gettext": (0,), "gettext_lazy": (0,),
    "_table": (0,),  # infra.settings.base: titles of the tables
    # fl_jobs.catalog: title, help or summary
    "HyperParameter": (1, 6), "Algorithm": (1, 3), "Model": (1, 3), "Template": (1, 2),
    "Choice": (1, 2, 4),  # title, what the options are called, help
    "Digest": (1, 2),
    "SpecError": (0,),  # what the run form says of a choice
    "DataError": (0,),  # what the site's console says of a data folder
}  # fmt: skip
_PLURAL_CALLS = {"ngettext", "ngettext_lazy"}
_STRING = r"u?(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
_TEMPLATE_CALL = re.compile(rf"\b(n?gettext|_)\(\s*({_STRING})\s*(?:,\s*({_STRING}))?", re.DOTALL)
# The admin's theme speaks no Chinese; what its read-only tables say is translated here. (msgid, plural)
_THEME: tuple[Message, ...] = (
    (
        "\n                Found %(counter)s result in %(time)s seconds\n            ",
        "\n                Found %(counter)s results in %(time)s seconds\n            ",
    ),
    *(
        (words, "")
        for words in (
            "Search apps and models...", "Type to search", "No results matching your query",
            "Loading more results...", "Recent searches", "No recent searches", "Previous", "Next", "Light",
            "Dark", "System", "Return to site", "Go back", "True", "False", "No results found",
            "This page yielded into no results. Create a new item or reset your filters.", "Reset filters",
            "Apply Filters", "Select all rows", "Expand row", "All applications", "More actions", "General",
            "Submit", "No data", "Filters",
        )
    ),
)  # fmt: skip


def read_portal() -> dict[Message, str]:
    """The portal's sentences and the file that says each first."""
    found: dict[Message, str] = {}
    for pattern in (
        f"platform_web/{PYTHON}",
        "infra/settings/*.py",
        "fl_jobs/catalog/*.py",
        "fl_jobs/privacy/rules.py",
    ):
        _collect(found, pattern, _in_python)
    for pattern in (HTML, MAIL):
        _collect(found, f"platform_web/{pattern}", _in_django)
    return dict.fromkeys(_THEME, "unfold") | found


def read_site() -> dict[Message, str]:
    """The sentences of a site's agent, inference and console."""
    found: dict[Message, str] = {}
    _collect(found, f"site_kits/{PYTHON}", _in_python)
    _collect(found, f"site_kits/{HTML}", _in_jinja)
    _collect(found, "fl_jobs/data/*.py", _in_python)
    _collect(found, "fl_jobs/catalog/*.py", _in_python)
    return found


def _collect(found: dict[Message, str], pattern: str, read: Callable[[str], Iterator[Message]]) -> None:
    for path in sorted(REPOSITORY.glob(pattern)):
        for message in read(path.read_text(encoding="utf-8")):
            found.setdefault(message, path.relative_to(REPOSITORY).as_posix())


def _in_python(text: str) -> Iterator[Message]:
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    for node in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        words = [_words(argument) for argument in node.args]
        if name in _PLURAL_CALLS and words[0] and words[1]:
            yield words[0][0], words[1][0]
        for position in _CALLS.get(name, ()):
            for word in words[position] if position < len(words) else ():
                yield word, ""


def _words(argument: ast.expr) -> list[str]:
    """The sentence of a string, the sentences of a dictionary's values."""
    values = argument.values if isinstance(argument, ast.Dict) else [argument]
    found = [value.value for value in values if isinstance(value, ast.Constant)]
    return [word for word in found if isinstance(word, str) and word]


def _in_django(text: str) -> Iterator[Message]:
    for name, one, many in _TEMPLATE_CALL.findall(templatize(text)):
        yield ast.literal_eval(one), ast.literal_eval(many) if name == "ngettext" else ""


def _in_jinja(text: str) -> Iterator[Message]:
    environment = Environment(extensions=["jinja2.ext.i18n"], autoescape=True)
    for _line, _function, words in environment.extract_translations(text):  # type: ignore[attr-defined]
        yield (words if isinstance(words, str) else words[0]), ""
