"""Mutations of an audit file as text: what a bad disk, a mail program or a hand with an editor does to it."""

from collections.abc import Callable

import numpy as np

Spoil = Callable[[bytes, np.random.Generator], bytes]
ALIKE = {
    "a": "а",
    "e": "е",
    "o": "о",
    "c": "с",
    "1": "１",
    "0": "０",
    " ": "\u00a0",
    "-": "‐",
    "/": "∕",
    "=": "＝",
}
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def flip_bit(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(data)))
    return data[:place] + bytes([data[place] ^ 1 << int(rng.integers(8))]) + data[place + 1 :]


def replace_byte(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(data)))
    return data[:place] + bytes([int(rng.integers(256))]) + data[place + 1 :]


def replace_letter(data: bytes, rng: np.random.Generator) -> bytes:
    """Another letter of the alphabet, so that most texts keep their form."""
    place = int(rng.integers(len(data)))
    return data[:place] + BASE64[rng.integers(64)].encode() + data[place + 1 :]


def insert_byte(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(data) + 1))
    return (
        data[:place]
        + bytes([int(rng.choice([0, 9, 10, 13, 32, 61, 65, 0xEF, rng.integers(256)]))])
        + data[place:]
    )


def delete_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(data)))
    return data[:place] + data[place + int(rng.choice([1, 2, 4, 44, 45])) :]


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def append(data: bytes, rng: np.random.Generator) -> bytes:
    return data + [b"\n", b" ", b"\0", b"A", b"heads 0\n", data][rng.integers(6)]


def mark_order(data: bytes, rng: np.random.Generator) -> bytes:
    return b"\xef\xbb\xbf" + data


def end_as_windows(data: bytes, rng: np.random.Generator) -> bytes:
    if rng.integers(2):
        return data.replace(b"\n", b"\r\n")
    lines = data.split(b"\n")
    lines[rng.integers(max(1, len(lines) - 1))] += b"\r"
    return b"\n".join(lines)


def look_alike(data: bytes, rng: np.random.Generator) -> bytes:
    text = data.decode("utf-8")
    places = [place for place, letter in enumerate(text[:4000]) if letter in ALIKE]
    place = places[rng.integers(len(places))]
    return (text[:place] + ALIKE[text[place]] + text[place + 1 :]).encode()


def space_out(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.split(b"\n")
    place = int(rng.integers(len(lines)))
    line = lines[place]
    lines[place] = [line + b" ", b" " + line, line.replace(b" ", b"  "), line.replace(b" ", b"\t")][
        rng.integers(4)
    ]
    return b"\n".join(lines)


def drop_line(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.integers(len(lines))]
    return b"".join(lines)


def double_line(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.splitlines(keepends=True)
    place = int(rng.integers(len(lines)))
    lines.insert(int(rng.choice([place, rng.integers(len(lines) + 1)])), lines[place])
    return b"".join(lines)


def swap_lines(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines[1] == b"split\n":  # which of the two stands first says nothing
        return data
    first, second = rng.integers(len(lines), size=2)
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def break_line(data: bytes, rng: np.random.Generator) -> bytes:
    if rng.integers(2):
        place = int(rng.integers(len(data)))
        return data[:place] + b"\n" + data[place:]
    lines = data.splitlines(keepends=True)
    place = int(rng.integers(len(lines)))
    return b"".join([*lines[:place], lines[place].rstrip(b"\n"), *lines[place + 1 :]])


def change_number(data: bytes, rng: np.random.Generator) -> bytes:
    """One number of a line that has numbers, by one, or in a spelling that is not the one."""
    lines = data.split(b"\n")
    heads = [i for i, line in enumerate(lines) if line.split(b" ")[0] in NUMBERED and b" " in line]
    if not heads:
        return data
    place = heads[rng.integers(len(heads))]
    words = lines[place].split(b" ")
    which = int(rng.integers(1, len(words)))
    if not words[which].isdigit():
        return data
    value = int(words[which])
    spellings = [value + 1, value - 1, value * 2, value + 2**32, 2**53, 2**53 - 1, f"0{value}", f"+{value}"]
    spellings += [f"{value}.0", f"{value}e0", hex(value), f"{value}_0", "", "１", rng.integers(60)]
    words[which] = str(spellings[rng.integers(len(spellings))]).encode()
    lines[place] = b" ".join(words)
    return b"\n".join(lines)


NUMBERED = (b"ranges", b"range", b"heads", b"head", b"rewrite", b"index")


def encode_otherwise(data: bytes, rng: np.random.Generator) -> bytes:
    """The same bytes in another base64: spare bits, no padding, the URL alphabet, a space within."""
    lines = data.split(b"\n")
    place = int(rng.integers(1, len(lines)))
    line = lines[place]
    if line.endswith(b"="):
        body = line.rstrip(b"=")
        spare = BASE64[BASE64.index(chr(body[-1])) ^ 1].encode() if chr(body[-1]) in BASE64 else b"!"
        line = [body, line + b"=", body[:-1] + spare + line[len(body) :], line + b"AAAA"][rng.integers(4)]
    else:
        line = [line + b"=", line + b"====", line.replace(b"+", b"-"), line.replace(b"/", b"_")][
            rng.integers(4)
        ]
    lines[place] = line
    return b"\n".join(lines)


SPOILS: dict[str, Spoil] = {
    one.__name__: one
    for one in (
        *(flip_bit, replace_byte, replace_letter, insert_byte, delete_bytes, truncate, append, mark_order),
        *(end_as_windows, look_alike, space_out, drop_line, double_line, swap_lines, break_line),
        *(change_number, encode_otherwise),
    )
}


def spoil_often(data: bytes, rng: np.random.Generator) -> bytes:
    """Two to five of them, one after the other."""
    names = list(SPOILS)
    for _ in range(int(rng.integers(2, 6))):
        spoil = SPOILS[names[rng.integers(len(names))]]
        try:
            data = spoil(data, rng)
        except (ValueError, UnicodeDecodeError, IndexError):  # the one before left nothing to work on
            continue
    return data
