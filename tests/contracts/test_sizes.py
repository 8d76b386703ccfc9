"""The caps of the house: a file one can read in one go, a function one can hold in the head."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("platform_web", "site_kits", "fl_jobs", "secure_agg", "compliance", "infra", "tests")
FILE_LINES, FUNCTION_LINES, ALGORITHM_LINES, ALGORITHM_BASE_LINES, FEDAVG_LINES = 300, 40, 150, 80, 20

# path or path:function -> the reason why it may be longer
EXCEPTIONS: dict[str, str] = {
    "compliance/verify.py": "one file that an auditor can carry and read alone; it has a cap of its own, 400",
}


def sources() -> list[Path]:
    return [
        path
        for package in PACKAGES
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        if "migrations" not in path.parts
    ]


def limit(path: Path) -> int:
    if path.parent == REPOSITORY / "fl_jobs" / "algorithms":
        return {"base.py": ALGORITHM_BASE_LINES, "fedavg.py": FEDAVG_LINES}.get(path.name, ALGORITHM_LINES)
    return FILE_LINES


def test_no_file_is_longer_than_its_cap():
    found = {
        str(path.relative_to(REPOSITORY)): lines
        for path in sources()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > limit(path)
    }
    assert {name: lines for name, lines in found.items() if name not in EXCEPTIONS} == {}


def test_the_verifier_that_is_given_away_is_one_file_of_four_hundred_lines():
    text = (REPOSITORY / "compliance" / "verify.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400


def test_no_function_is_longer_than_forty_lines():
    found = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                name = f"{path.relative_to(REPOSITORY)}:{node.name}"
                if lines > FUNCTION_LINES and name not in EXCEPTIONS:
                    found[name] = lines
    assert found == {}


@pytest.mark.parametrize("word", ["utils", "helpers", "common"])
def test_no_module_is_a_drawer_for_everything(word):
    assert [str(path) for path in sources() if path.stem == word] == []
