"""Reading and writing a catalogue: .po for people, .mo for ``gettext``. Only the forms used here."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

HEADER = (
    "Language: zh_Hans\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
    "Content-Transfer-Encoding: 8bit\nPlural-Forms: nplurals=1; plural=0;\n"
)


@dataclass
class Entry:
    """One sentence and its translation; Chinese has one form for every number."""

    msgid: str
    plural: str = ""
    translation: str = ""
    places: str = ""
    flags: list[str] = field(default_factory=list)


def read_po(path: Path) -> list[Entry]:
    """The entries of a .po file, without its header."""
    entries: list[Entry] = []
    for block in path.read_text(encoding="utf-8").split("\n\n") if path.exists() else []:
        entry, part = Entry(""), ""
        values = {"msgid": "", "msgid_plural": "", "msgstr": ""}
        for line in block.strip().splitlines():
            if line.startswith("#: "):
                entry.places = line[3:]
            elif line.startswith("#, "):
                entry.flags = line[3:].split(", ")
            elif not line.startswith("#"):
                keyword, _quote, _rest = line.partition('"')
                part = keyword.strip().removesuffix("[0]") or part
                values[part] += json.loads(line[len(keyword) :])
        entry.msgid, entry.plural, entry.translation = values.values()
        if entry.msgid:
            entries.append(entry)
    return entries


def write_po(path: Path, entries: list[Entry]) -> None:
    """Write ``entries`` in the order given, after the header."""
    blocks = ['msgid ""\nmsgstr ""\n' + "\n".join(_quoted(line) for line in HEADER.splitlines(keepends=True))]
    for entry in entries:
        lines = [f"#: {entry.places}"] + ([f"#, {', '.join(entry.flags)}"] if entry.flags else [])
        lines.append(f"msgid {_quoted(entry.msgid)}")
        if entry.plural:
            lines.append(f"msgid_plural {_quoted(entry.plural)}")
        lines.append(f"msgstr{'[0]' if entry.plural else ''} {_quoted(entry.translation)}")
        blocks.append("\n".join(lines))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def mo_bytes(entries: list[Entry]) -> bytes:
    """The compiled catalogue: header, two tables of (length, offset), the texts. Same entries, same bytes."""
    pairs = {"": HEADER}
    for entry in entries:
        if entry.translation and "fuzzy" not in entry.flags:
            pairs[f"{entry.msgid}\0{entry.plural}" if entry.plural else entry.msgid] = entry.translation
    encoded = sorted((key.encode(), value.encode()) for key, value in pairs.items())
    tables, texts = b"", b""
    start = 28 + 16 * len(encoded)
    for text in [key for key, _value in encoded] + [value for _key, value in encoded]:
        tables += struct.pack("<2I", len(text), start + len(texts))
        texts += text + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(encoded), 28, 28 + 8 * len(encoded), 0, 0)
    return head + tables + texts
