"""Every sentence a person may read is there in Chinese; `python -m infra.messages` names what is missing."""

import gettext
import re

import pytest

from fl_jobs import catalog
from infra.messages.__main__ import PORTAL, SITE, merge
from infra.messages.catalogue import Entry, mo_bytes, read_po, write_po
from infra.messages.sources import read_portal, read_site

BOTH = pytest.mark.parametrize(
    ("path", "read"), [(PORTAL, read_portal), (SITE, read_site)], ids=["portal", "site"]
)
NAMED = re.compile(r"%\(\w+\)[a-z]|\{\{|\}\}|\{\w+[^{}]*\}|%%")
UNNAMED = re.compile(r"%[sd]")
ADVICE = "Run `python -m infra.messages` and translate what it names."


@BOTH
def test_every_sentence_of_the_sources_is_translated(path, read):
    known = {(entry.msgid, entry.plural): entry for entry in read_po(path)}
    missing = [words for words in read() if words not in known]
    assert missing == [], ADVICE
    assert [entry.msgid for entry in known.values() if not entry.translation or entry.flags] == [], ADVICE


@BOTH
def test_no_sentence_stands_in_the_catalogue_that_nobody_says(path, read):
    assert {(entry.msgid, entry.plural) for entry in read_po(path)} - set(read()) == set(), ADVICE


@BOTH
def test_placeholders_agree(path, read):
    for entry in read_po(path):
        spoken = entry.plural or entry.msgid
        assert set(NAMED.findall(spoken)) == set(NAMED.findall(entry.translation)), entry.msgid
        assert UNNAMED.findall(spoken) == UNNAMED.findall(entry.translation), entry.msgid
        assert spoken.endswith("\n") == entry.translation.endswith("\n"), entry.msgid


@BOTH
def test_the_compiled_catalogue_is_that_of_the_po(path, read):
    compiled = path.with_suffix(".mo")
    assert compiled.read_bytes() == mo_bytes(read_po(path)), ADVICE
    with compiled.open("rb") as file:
        spoken = gettext.GNUTranslations(file)
    for entry in read_po(path):
        said = spoken.ngettext(entry.msgid, entry.plural, 2) if entry.plural else spoken.gettext(entry.msgid)
        assert said == entry.translation


def test_all_that_the_catalog_of_algorithms_says_is_among_the_sentences():
    said = {words for words, _plural in read_portal()}
    for entry in [*catalog.ALGORITHMS.values(), *catalog.MODELS.values()]:
        settings = entry.hyper_parameters if isinstance(entry, catalog.Algorithm) else entry.arguments
        assert {entry.title, entry.summary} <= said
        assert {word for setting in settings for word in (setting.title, setting.help)} <= said


def test_what_is_known_stays_and_what_is_new_waits(tmp_path):
    path = tmp_path / "a.po"
    write_po(
        path, merge(read_po(path), {('say “a”\n"b" \\', ""): "x.py", ("%(n)s run", "%(n)s runs"): "x.py"})
    )
    entries = read_po(path)
    entries[0].translation, entries[1].translation = "“甲”\n", "%(n)s 次"
    write_po(path, entries)
    found = {("%(n)s run", "%(n)s runs"): "y.py", ("new", ""): "y.py", ('say “a”\n"b" \\', ""): "x.py"}
    merged = merge(read_po(path), found)
    assert [entry.translation for entry in merged] == ["%(n)s 次", "", "“甲”\n"]
    assert merged[0].places == "y.py"


def test_a_reworded_sentence_brings_its_translation_to_be_checked_and_does_not_speak_before():
    old = [Entry("Start the run again.", translation="请重新启动训练任务。")]
    reworded = merge(old, {("Start the run once again.", ""): "x.py", ("Another thing.", ""): "x.py"})
    assert [(entry.translation, entry.flags) for entry in reworded] == [
        ("请重新启动训练任务。", ["fuzzy"]),
        ("", []),
    ]
    assert "请重新" not in mo_bytes(reworded).decode(errors="ignore")
