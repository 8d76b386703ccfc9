"""The page as an auditor uses it: from disk, without a network, in both languages."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from compliance.evidence_file import evidence_of
from compliance.merkle import subtree_of
from compliance.tlog_proof import proof_of_entry
from tests.compliance.crafted import NOW, Log, entry_of, log_of
from tests.compliance.two_verifiers import PAGE

LOG = log_of(1, 21, 4, np.random.default_rng(5))
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def window(chromium):
    """The page with its clock at a known second; a console line or a request to anywhere fails the test."""
    page = chromium.new_page(locale="en-GB", viewport={"width": 1100, "height": 900})
    trouble = []
    page.on("console", lambda line: trouble.append(line.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "request",
        lambda asked: trouble.append(asked.url) if asked.url[:5] not in ("file:", "blob:") else None,
    )
    page.clock.set_fixed_time(NOW + 60)
    page.goto(PAGE.as_uri())
    yield page
    page.close()
    assert trouble == []


def choose(page, **files):
    for slot, data in {"policy": str(LOG.policy).encode(), **files}.items():
        page.set_input_files(f"#{slot}", {"name": f"{slot}.txt", "mimeType": "text/plain", "buffer": data})


def checked(page) -> str:
    page.click("#check")
    page.wait_for_selector("#result:not([hidden])")
    return page.inner_text("#result")


def bundle(*, heads=(3, 8)) -> bytes:
    return LOG.parts([(0, 4), (9, 21)], heads).data()


def spoilt() -> bytes:
    parts = LOG.parts([(0, 4), (9, 21)])
    parts.ranges[1].entries[2] = entry_of(99, np.random.default_rng(1))
    return parts.data()


@pytest.mark.parametrize("part", ["script", "style"])
def test_the_policy_names_the_hash_of_its_one_script_and_style(part):
    (content,) = re.findall(rf"<{part}>(.*?)</{part}>", TEXT, re.DOTALL)
    right = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert f"{part}-src 'sha256-{right}'" in TEXT, f"write sha256-{right} into the page's {part}-src"


def test_nothing_in_it_points_anywhere():
    assert re.findall(r"""(?:src|href)=["']|url\(|@import|https?://(?!www\.w3\.org/2000/svg)""", TEXT) == []


@pytest.mark.parametrize(
    ("data", "options", "title", "exit_code"),
    [
        (bundle(), {}, "Verified", 0),
        (spoilt(), {}, "Refused: a proof or signature does not fit", 1),
        (bundle(), {"complete": True}, "Incomplete", 3),
        (bundle()[:-1], {}, "Malformed", 4),
        (bundle(), {"age": "0.01"}, "Stale", 5),
        (bundle(), {"age": "1"}, "Verified", 0),
    ],
)
def test_a_bundle_gets_its_verdict(window, data, options, title, exit_code):
    choose(window, source=data)
    window.set_checked("#complete", options.get("complete", False))
    window.fill("#age", options.get("age", ""))
    said = checked(window)
    assert said.startswith(title)
    assert f"exit code {exit_code}" in said


def test_a_missing_quorum_names_who_has_not_cosigned(window):
    parts = LOG.parts([(0, 21)])
    parts.last = LOG.signed(21, LOG.names(1))
    choose(window, source=parts.data())
    said = checked(window)
    assert said.startswith("Too few witnesses")
    assert said.count("has not co-signed") == 3


def test_a_cosignature_that_does_not_fit_is_told_from_one_that_is_missing(window):
    parts = LOG.parts([(0, 21)])
    misfit = LOG.cosignature(LOG.text(20), "site-2")
    parts.last = LOG.signed(21, LOG.names(2)).with_signatures([misfit])
    choose(window, source=parts.data())
    said = checked(window)
    assert said.startswith("Refused")
    assert "The cosignature of site-2 under the checkpoint of size 21 does not fit." in said
    assert [said.count(one) for one in ("✓ co-signed", "✗ its", "— has not")] == [2, 1, 1]


def test_the_same_result_is_said_in_chinese(window):
    choose(window, source=bundle())
    assert "co-signed at 2027-01-15T08:00:00Z" in checked(window)
    window.click("#language")
    said = window.inner_text("#result")
    assert said.startswith("核验通过")
    assert "联署于" in said
    assert window.get_attribute("html", "lang") == "zh-Hans"
    assert re.findall(r"undefined|\{\w+\}", window.inner_text("main")) == []


def test_both_languages_have_every_sentence_with_the_same_blanks(window):
    words = window.evaluate("WORDS")
    assert words["en"].keys() == words["zh"].keys()
    for key, english in words["en"].items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", words["zh"][key])), (
            key
        )
    keys = set(re.findall(r'(?:malformed|wrong)\("(\w+)"|Refusal\(\d, "(\w+)"', TEXT))
    assert {one or other for one, other in keys} <= words["en"].keys()


def test_the_proof_of_one_entry_needs_its_entry(window):
    proof = proof_of_entry(subtree_of(LOG.leaves), 7, LOG.signed(21, LOG.names()))
    choose(window, source=str(proof).encode())
    assert "choose the entry's file too" in checked(window)
    choose(window, entry=LOG.entries[7])
    assert checked(window).startswith("Verified")
    choose(window, entry=LOG.entries[8])
    assert "Entry 7 does not lead to the signed tree head." in checked(window)


def test_a_contradiction_is_proven_by_its_file_alone(window):
    other = Log(1, 4, [LOG.entries[1], *LOG.entries[1:]])
    proof = evidence_of(LOG.signed(5), other.signed(21), subtree_of(other.leaves))
    choose(window, source=str(proof).encode())
    assert checked(window).startswith("The contradiction is proven")
    choose(
        window, source=str(evidence_of(LOG.signed(5), other.signed(5))).replace("split", "rewrite 0").encode()
    )
    assert checked(window).startswith("The contradiction is not proven")


def test_files_are_needed_first_and_another_file_takes_the_result_away(window):
    window.click("#check")
    assert "first" in window.inner_text("#notice")
    choose(window, source=bundle())
    checked(window)
    choose(window, source=spoilt())
    assert window.is_hidden("#result")


def test_dropped_files_find_their_places(window):
    proof = proof_of_entry(subtree_of(LOG.leaves), 7, LOG.signed(21, LOG.names()))
    files = [str(proof), "# " * 500 + "whom we trust\n\n" + str(LOG.policy), LOG.entries[7].decode()]
    window.evaluate(
        """async files => {
          await take(files.map((text, i) => new File([text], `file-${i}`)));
        }""",
        files,
    )
    assert checked(window).startswith("Verified")


def test_the_saved_result_is_json(window):
    choose(window, source=spoilt())
    checked(window)
    with window.expect_download() as waiting:
        window.click("#save")
    saved = json.loads(waiting.value.path().read_text(encoding="utf-8"))
    assert saved["exit"] == 1
    assert saved["problems"][0]["key"] == "range_root"
    assert saved["files"][1]["sha256"] == hashlib.sha256(spoilt()).hexdigest()


def test_a_large_bundle_leaves_the_window_alive_and_can_be_stopped(window):
    large = Log(1, 4, [b'{"id":"%d","x":"%s"}' % (i, b"y" * 500) for i in range(12_000)])
    choose(window, source=large.parts([(0, 12_000)], size=12_000).data())
    window.click("#check")
    while window.locator("#progress").evaluate("it => it.value") <= 0.1:  # wait_for_function needs eval
        window.wait_for_timeout(20)
    window.click("#stop")
    window.wait_for_selector("#notice:not([hidden])")
    assert window.inner_text("#notice").startswith("Stopped")
    assert window.is_hidden("#result")
    assert "12,000" in checked(window)


def test_a_browser_without_its_cryptography_says_what_to_do(chromium):
    page = chromium.new_page(locale="en-GB")
    page.add_init_script("Object.defineProperty(crypto, 'subtle', { value: undefined })")
    page.goto(PAGE.as_uri())
    page.wait_for_selector("#unfit:not([hidden])")
    assert "python3 verify.py" in page.inner_text("#unfit")
    assert page.is_disabled("#check")
    page.close()
