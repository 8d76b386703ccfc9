# ruff: noqa: F811 - pytest takes fixtures by the name of the argument
"""The site's own log: what it takes, and what does not happen when it cannot be written."""

import hashlib
import json
import shutil
import stat

import pytest

from fl_jobs.approval import site_log
from fl_jobs.approval.egress import read_lines
from fl_jobs.errors import SiteLogError
from fl_jobs.flare import wire
from fl_jobs.flare.site_filter import SharedTensorFilter
from tests.fl_jobs.test_flare_outgoing import W, result, site  # noqa: F401 - a fixture


def entries(home):
    log = site_log.open_log(home, int(next((home / site_log.FOLDER).glob("*.sqlite3")).stem))
    return [json.loads(leaf) for leaf in log.leaves(0, log.size())]


def test_an_entry_says_what_left(tmp_path):
    site_log.record(tmp_path, "update.sent", run="run", rnd=3, obj="job", task="train", masked=True)
    [entry] = entries(tmp_path)
    assert (entry["act"], entry["job"], entry["rnd"], entry["obj"]) == ("update.sent", "run", 3, "job")
    assert entry["data"] == {"task": "train", "masked": True}
    assert entry["ts"].endswith("Z")


@pytest.mark.parametrize(
    ("act", "data"), [("update.sent", {"name": "x"}), ("cat.fed", {}), ("update.sent", {"task": 1.5})]
)
def test_what_is_not_declared_is_not_taken(tmp_path, act, data):
    with pytest.raises(SiteLogError, match="takes no such entry"):
        site_log.record(tmp_path, act, **data)


def test_several_are_written_together_or_not_at_all(tmp_path):
    good = ("prediction.served", "run", 1, "study", {"bucket": "benign 90-100 %"})
    site_log.record_all(tmp_path, [good, good])
    with pytest.raises(SiteLogError):
        site_log.record_all(tmp_path, [good, ("cat.fed", "", None, "", {})])
    assert len(entries(tmp_path)) == 2


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(SiteLogError, match="nothing was sent or shown"):
        site_log.record(tmp_path, "operator.signed_in")
    with pytest.raises(SiteLogError, match="cannot be used"):
        site_log.pseudonym(tmp_path, b"case")


def test_a_case_has_one_pseudonym_at_one_site(tmp_path):
    first = site_log.pseudonym(tmp_path / "a", b"case")
    assert first == site_log.pseudonym(tmp_path / "a", b"case")
    assert first not in (
        site_log.pseudonym(tmp_path / "b", b"case"),
        site_log.pseudonym(tmp_path / "a", b"other"),
    )
    key = tmp_path / "a" / site_log.FOLDER / "subject.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32


def test_what_leaves_stands_in_the_sites_log_with_the_digest_of_its_bytes(site):
    SharedTensorFilter().process(result(), site.context)
    [entry] = [one for one in entries(site.home) if one["act"] == "update.sent"]
    [line] = read_lines(site.home)
    assert (entry["rnd"], entry["data"]["task"]) == (1, "train")
    assert entry["data"]["sha256"] == line.sha256 == hashlib.sha256(W["global/w"].tobytes()).hexdigest()


def test_a_log_that_cannot_be_written_keeps_the_result(site):
    folder = site.home / site_log.FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")
    site_log._opened.cache_clear()
    answer = SharedTensorFilter().process(result(), site.context)
    assert wire.TENSORS_KEY not in answer
    assert "cannot be written" in answer[wire.ERROR_KEY]
