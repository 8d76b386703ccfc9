"""A site speaks Chinese to who asks for it: refusals by browser, the command by locale."""

import pytest

from site_kits.agent.__main__ import main

CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"}


def test_a_refusal_is_chinese_for_a_chinese_browser(tabular):
    assert "凭据" in tabular.client.post("/v1/predict", headers=CHINESE).json()["detail"]
    assert "ticket" in tabular.client.post("/v1/predict").json()["detail"]


@pytest.mark.parametrize(("locale", "word"), [("zh_CN.UTF-8", "安装包"), ("en_US.UTF-8", "kit")])
def test_the_command_speaks_the_language_of_the_terminal(locale, word, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LC_ALL", locale)
    assert main(["--home", str(tmp_path), "doctor", "--local"]) != 0
    assert word in "".join(capsys.readouterr())
