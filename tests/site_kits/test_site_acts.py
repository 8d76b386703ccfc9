"""What console and agent write into the site's own log, and what does not happen when it takes no entry."""

import json
from datetime import UTC, datetime

import pytest

from fl_jobs.approval import site_log
from site_kits.agent import __main__ as agent
from site_kits.agent.datasets import check_folder, register_folder, registered_cards, withdraw
from site_kits.agent.passphrase import check_passphrase, new_passphrase
from site_kits.console.sessions import FREE_ATTEMPTS
from site_kits.errors import AgentError
from tests.site_kits.console_doubles import Operator
from tests.site_kits.site_doubles import add_cytology


def entries(home):
    year = datetime.now(UTC).year
    if not (home.root / site_log.FOLDER / f"{year}.sqlite3").exists():
        return []
    log = site_log.open_log(home.root, year)
    return [json.loads(leaf) for leaf in log.leaves(0, log.size())]


def acts(home):
    return [entry["act"] for entry in entries(home)]


@pytest.fixture
def full_disk(monkeypatch):
    """From ``full_disk()`` on the site's log takes nothing."""

    def fill():
        def refuse(*_):
            raise site_log.LogUnavailableError("database or disk is full")

        monkeypatch.setattr(site_log, "open_log", refuse)

    return fill


def test_who_comes_in_and_goes_and_who_does_not_get_in_is_written(home):
    operator = Operator(home, signed_in=False)
    operator.get("/login")
    operator.post("/login", passphrase="wrong")
    assert acts(home) == ["operator.sign_in_refused"]
    assert operator.post("/login", passphrase=operator.passphrase).headers["location"] == "/"
    assert acts(home)[1:] == ["operator.signed_in"]
    operator.get("/")
    operator.post("/logout")
    assert acts(home)[2:] == ["operator.signed_out"]
    assert "wrong" not in json.dumps(entries(home))
    assert operator.passphrase not in json.dumps(entries(home))


def test_attempts_during_the_pause_do_not_fill_the_log(home):
    operator = Operator(home, signed_in=False)
    operator.get("/login")
    answers = [operator.post("/login", passphrase="wrong").status_code for _ in range(FREE_ATTEMPTS + 4)]
    assert answers[-1] == 429
    assert acts(home) == ["operator.sign_in_refused"] * answers.count(200)


def test_without_its_entry_nobody_gets_in(home, full_disk):
    operator = Operator(home, signed_in=False)
    operator.get("/login")
    full_disk()
    for typed in (operator.passphrase, "wrong"):
        answer = operator.post("/login", passphrase=typed)
        assert answer.status_code == 503
        assert "cannot be written" in operator.text
    assert operator.get("/").headers["location"] == "/login"


def test_a_withdrawal_names_the_data_set_and_its_digest(home):
    add_cytology(home)
    card = register_folder(home, "cytology")
    withdraw(home, "cytology")
    shared, gone = entries(home)
    assert (shared["act"], gone["act"]) == ("dataset.registered", "dataset.withdrawn")
    assert gone["obj"] == shared["obj"] == f"cytology {card['digest']}"
    assert gone["data"] == {"because": "withdrawn"}


def test_a_shared_data_set_that_changed_is_withdrawn_by_its_next_check_and_that_is_an_entry(home):
    add_cytology(home)
    card = register_folder(home, "cytology")
    check_folder(home, "cytology")
    assert acts(home) == ["dataset.registered"], "nothing changed, it stays shared"
    table = next((home.data / "cytology").glob("*.csv"))
    lines = table.read_text().split("\n")
    table.write_text("\n".join([*lines[:-3], ""]))
    check_folder(home, "cytology")
    assert registered_cards(home) == []
    gone = entries(home)[-1]
    assert (gone["act"], gone["data"]) == ("dataset.withdrawn", {"because": "changed"})
    assert gone["obj"] == f"cytology {card['digest']}", "of what was shared, not of the new one"


def test_a_damaged_registration_can_be_withdrawn(home):
    add_cytology(home)
    register_folder(home, "cytology")
    (home.registered / "cytology.json").write_text("{}")
    withdraw(home, "cytology")
    assert entries(home)[-1]["obj"] == "cytology -"
    assert not (home.registered / "cytology.json").exists()


def test_without_its_entry_a_data_set_stays_as_it_was(home, full_disk):
    add_cytology(home)
    operator = Operator(home)
    register_folder(home, "cytology")
    before = registered_cards(home)
    full_disk()
    with pytest.raises(AgentError, match="cannot be written"):
        withdraw(home, "cytology")
    operator.get("/data/cytology/")
    operator.post("/data/cytology/withdraw")
    operator.get("/data/cytology/")
    assert "cannot be written" in operator.text
    assert registered_cards(home) == before


def test_a_new_passphrase_is_an_entry_or_is_not_made(home, full_disk):
    old = new_passphrase(home)
    assert agent.main(["--home", str(home.root), "console-password"]) == 0
    assert acts(home) == ["passphrase.changed"]
    assert not check_passphrase(home, old)
    kept = home.console_passphrase.read_bytes()
    full_disk()
    assert agent.main(["--home", str(home.root), "console-password"]) != 0
    assert home.console_passphrase.read_bytes() == kept
