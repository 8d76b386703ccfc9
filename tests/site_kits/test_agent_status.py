"""What ``consilium-site`` says of a site, and the console's passphrase from the command line."""

import re

from site_kits.agent.__main__ import main
from site_kits.agent.passphrase import check_passphrase
from site_kits.agent.status import StatusBoard


def say(home, capsys, *words):
    code = main(["--home", str(home.root), *words])
    return code, capsys.readouterr().out


def test_status_says_when_nothing_runs(home, capsys):
    code, said = say(home, capsys, "status")
    assert code == 1
    assert "not running. Start it with ./start.sh" in said


def test_status_names_the_console(home, capsys, monkeypatch):
    monkeypatch.setattr("site_kits.agent.status.HomeLock.holder", lambda _path: 1)
    StatusBoard(home).put(console={"state": "running"}, console_url="http://127.0.0.1:9/")
    _code, said = say(home, capsys, "status")
    assert re.search(r"console: +running, http://127.0.0.1:9/", said)


def test_a_new_passphrase_is_shown_once_and_the_old_one_ends(home, capsys):
    shown = []
    for _time in range(2):
        code, said = say(home, capsys, "console-password")
        assert code == 0
        shown.append(re.search(r"shown this once: (\S+)", said)[1])
    assert check_passphrase(home, shown[1])
    assert not check_passphrase(home, shown[0])
