"""``python -m infra.messages`` brings both catalogues up to date and names what is not translated."""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from infra.messages.catalogue import Entry, mo_bytes, read_po, write_po
from infra.messages.sources import REPOSITORY, Message, read_portal, read_site

PORTAL = REPOSITORY / "platform_web/locale/zh_Hans/LC_MESSAGES/django.po"
SITE = REPOSITORY / "site_kits/locale/zh_Hans/LC_MESSAGES/consilium_site.po"


def merge(old: list[Entry], found: Mapping[Message, str]) -> list[Entry]:
    """What the sources say now: known translations are kept, new sentences empty, others gone.

    A sentence that was reworded brings its former translation, marked fuzzy: not compiled until checked.
    """
    known = {entry.msgid: entry for entry in old}
    said = {msgid for msgid, _plural in found}
    gone = [msgid for msgid in known if msgid not in said]
    entries = []
    for (msgid, plural), place in found.items():
        before, flags = known.get(msgid, Entry(msgid)), []
        if msgid not in known and (near := get_close_matches(msgid, gone, n=1, cutoff=0.8)):
            before, flags = known[near[0]], ["fuzzy"]
        entries.append(Entry(msgid, plural, before.translation, place, flags or before.flags))
    return entries


def update(path: Path, found: Mapping[Message, str]) -> list[Entry]:
    """Rewrite ``path`` and its .mo; the entries that want a translation."""
    entries = merge(read_po(path), found)
    write_po(path, entries)
    path.with_suffix(".mo").write_bytes(mo_bytes(entries))
    return [entry for entry in entries if not entry.translation or "fuzzy" in entry.flags]


def main() -> int:
    missing = 0
    for path, found in ((PORTAL, read_portal()), (SITE, read_site())):
        wanting = update(path, found)
        missing += len(wanting)
        sys.stdout.write(
            f"{path.relative_to(REPOSITORY)}: {len(found)} sentences, {len(wanting)} to translate\n"
        )
        for entry in wanting:
            sys.stdout.write(f"  {entry.places}: {entry.msgid}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
