import sys

import pytest

from platform_web.training.errors import RunRequestError
from platform_web.training.preparing import describe_run
from platform_web.training.services import draft_spec
from tests.platform_web import world

TENSOR = '{"arm":"global","phase":"train","name":"base.0.weight","shape":[4,2],"lane":"samples"}'


@pytest.fixture
def draft(dana, make_site):
    sites = [world.bring_online(make_site(name)) for name in ("site-a", "site-b")]
    return draft_spec(world.submitted_run(dana, world.open_study(dana), sites))


@pytest.fixture
def interpreter(settings, tmp_path):
    """``interpreter(body)`` stands for the learning side's Python."""

    def write(body):
        script = tmp_path / "python"
        script.write_text(f"#!{sys.executable}\nimport os, sys\n{body}\n")
        script.chmod(0o755)
        settings.CONSILIUM_PYTHON = str(script)

    return write


def test_the_tensor_list_joins_the_specification(draft, interpreter):
    interpreter(f"""sys.stdin.read(); print('{{"tensors": [{TENSOR}]}}')""")
    assert describe_run(draft).shared().keys() == {"global/base.0.weight"}


def test_the_sentence_of_the_learning_side_reaches_the_person(draft, interpreter):
    interpreter("""print('{"error": "The width must be a multiple of 4."}'); sys.exit(2)""")
    with pytest.raises(RunRequestError, match="multiple of 4"):
        describe_run(draft)


@pytest.mark.parametrize(
    "body", ["print('not json')", "sys.exit(1)", "print('[]')", "print('{\"tensors\": 3}')"]
)
def test_anything_else_is_a_sentence_too(draft, interpreter, body):
    interpreter(body)
    with pytest.raises(RunRequestError, match="could not describe"):
        describe_run(draft)


def test_an_interpreter_that_is_not_there_is_a_sentence(draft, settings):
    settings.CONSILIUM_PYTHON = "/nonexistent/python"
    with pytest.raises(RunRequestError, match="CONSILIUM_PYTHON"):
        describe_run(draft)


def test_no_secret_of_the_portal_reaches_the_learning_side(draft, interpreter, monkeypatch):
    monkeypatch.setenv("CONSILIUM_MASTER_KEY", "secret")
    interpreter("""print('{"error": "%s"}' % ",".join(sorted(os.environ)))""")
    with pytest.raises(RunRequestError) as error:
        describe_run(draft)
    assert "MASTER_KEY" not in str(error.value)
    assert "DATABASE_URL" not in str(error.value)
