"""Witness policies, each beside a bundle that is right."""

from compliance.note import COSIGNATURE_V1, ED25519, Signature, SignedNote, VerifierKey, verifier_key
from tests.compliance import small_log as log
from tests.compliance.small_log import LOG, WITNESSES, bundle, checkpoint, cosigned, weak_key

A, B, C, D, E = log.SITES
GOOD = str(log.POLICY)
LOG_LINE = f"log {LOG}\n"
KNOWN = LOG_LINE + "".join(f"witness {site} {key}\n" for site, key in WITNESSES.items())


def case(code: int, why: str, policy: str | bytes, text: str | None = None) -> dict[str, object]:
    return {"exit": code, "why": why, "policy": policy, **({"input": text} if text else {})}


def policies() -> dict[str, dict[str, object]]:
    return {**right(), **malformed(), **bad_names(), **bad_keys(), **weak()}


def right() -> dict[str, dict[str, object]]:
    nested = f"group east all {A} {B}\ngroup west any {C} {E}\ngroup both 2 east west\nquorum both\n"
    spaced = KNOWN.replace("witness ", "\t witness  ").replace("\n", "\thttps://x\n")
    spaced = f"# comment\n\n \t\n  # another\n{spaced}quorum none"
    foreign = "# 见证\n".encode("gbk") + GOOD.encode()
    return {
        "platform's own": case(0, "four of five", GOOD),
        "nested groups": case(0, "groups of groups", KNOWN + nested),
        "nested groups, one not met": case(
            2, "hospital-e has not signed", KNOWN + nested.replace(f"any {C} {E}", f"all {C} {E}")
        ),
        "one witness": case(0, "a quorum may be a witness", KNOWN + f"quorum {A}\n"),
        "one witness, missing": case(2, "hospital-e has not signed", KNOWN + f"quorum {E}\n"),
        "all": case(2, "four of five", KNOWN + f"group g all {' '.join(log.SITES)}\nquorum g\n"),
        "any": case(0, "one is enough", KNOWN + f"group g any {D} {E}\nquorum g\n"),
        "none": case(0, "nobody is asked", LOG_LINE + "quorum none\n"),
        "comments and spaces": case(
            0, "spaces and tabs, empty lines, comments, addresses",
            spaced,
        ),
        "comment in another encoding": case(0, "bytes of comments do not matter", foreign),
        "no-break space": case(4, "parts no words", GOOD.replace("quorum ", "quorum\u00a0")),
        "order of lines": case(0, "the log may stand last", GOOD.replace(LOG_LINE, "") + LOG_LINE),
    }  # fmt: skip


def malformed() -> dict[str, dict[str, object]]:
    return {
        "empty": case(4, "no log, no quorum", ""),
        "no log": case(4, "one is asked for", GOOD.replace(LOG_LINE, "")),
        "two logs": case(4, "one is asked for", LOG_LINE + GOOD),
        "no quorum": case(4, "one is asked for", KNOWN),
        "two quorums": case(4, "one is asked for", GOOD + "quorum none\n"),
        "unknown word": case(4, "no such rule", GOOD + "mirror x\n"),
        "unknown quorum": case(4, "not declared", KNOWN + "quorum x\n"),
        "quorum before its group": case(
            4, "names are declared above", KNOWN + f"quorum g\ngroup g any {A}\n"
        ),
        "group of an unknown name": case(4, "not declared", KNOWN + "group g any x\nquorum g\n"),
        "group of itself": case(4, "not declared above", KNOWN + "group g any g\nquorum g\n"),
        "group with none": case(4, "none is no member", KNOWN + "group g any none\nquorum g\n"),
        "group without members": case(4, "at least one", KNOWN + "group g any\nquorum none\n"),
        "member twice": case(4, "nobody counts twice", KNOWN + f"group g 2 {A} {A}\nquorum g\n"),
        "member of two groups": case(
            4, "nobody counts twice", KNOWN + f"group g any {A}\ngroup h any {A}\ngroup i all g h\nquorum i\n"
        ),
        "threshold 0": case(4, "at least one", KNOWN + f"group g 0 {A}\nquorum g\n"),
        "threshold above its members": case(4, "never met", KNOWN + f"group g 2 {A}\nquorum g\n"),
        "threshold with leading zero": case(4, "decimal", KNOWN + f"group g 01 {A}\nquorum g\n"),
        "threshold not a number": case(4, "decimal", KNOWN + f"group g ² {A} {B}\nquorum g\n"),
    }


def bad_names() -> dict[str, dict[str, object]]:
    again = f"witness again {WITNESSES[A]}\n"
    renamed = VerifierKey("north/x/witness", COSIGNATURE_V1, WITNESSES[A].public)
    of_log = VerifierKey("north/x/witness", COSIGNATURE_V1, LOG.public)
    return {
        "name twice": case(4, "declared once", KNOWN + f"witness {A} {renamed}\nquorum none\n"),
        "name none": case(4, "reserved", LOG_LINE + f"witness none {WITNESSES[A]}\nquorum none\n"),
        "name not ASCII": case(4, "names are ASCII", LOG_LINE + f"witness 院 {WITNESSES[A]}\nquorum none\n"),
        "same key": case(4, "one key, two witnesses", KNOWN + again + "quorum none\n"),
        "same key under another name": case(
            4, "a cosignature does not name its witness", KNOWN + f"witness again {renamed}\nquorum none\n"
        ),
        "the log's key as witness": case(
            4, "no log is its own witness", KNOWN + f"witness x {of_log}\nquorum none\n"
        ),
    }


def bad_keys() -> dict[str, dict[str, object]]:
    upper = str(LOG).replace(LOG.key_id.hex(), LOG.key_id.hex().upper())
    many = "".join(
        f"witness w{n} {VerifierKey(f'w{n}', COSIGNATURE_V1, bytes([n, 1]) + bytes(30))}\n" for n in range(28)
    )
    chain = "".join(f"group g{n} 1 g{n - 1}\n" for n in range(1, 33))
    chain = f"{KNOWN}group g0 1 {A}\n{chain}quorum g0\n"
    return {
        "log of the wrong type": case(4, "a witness's key", f"log {WITNESSES[A]}\nquorum none\n"),
        "witness of the wrong type": case(
            4,
            "a log's key",
            LOG_LINE + f"witness x {verifier_key('x', log.STRANGER, ED25519)}\nquorum none\n",
        ),
        "key id wrong": case(
            4, "of another name", GOOD.replace(str(LOG), str(LOG).replace("north", "south"))
        ),
        "key id in upper case": case(4, "one form", f"log {upper}\nquorum none\n"),
        "key too short": case(4, "31 bytes", f"log {VerifierKey('x', 1, bytes(31))}\nquorum none\n"),
        "key without its type": case(4, "no such key", f"log {LOG.name}+{LOG.key_id.hex()}\nquorum none\n"),
        "CR LF": case(4, "control characters", GOOD.replace("\n", "\r\n")),
        "NUL": case(4, "control characters, in comments too", "# \0\n" + GOOD),
        "33 witnesses": case(4, "32 at most", KNOWN + many + "quorum none\n"),
        "33 groups": case(4, "32 at most", chain),
        "too long": case(4, "65536 bytes at most", GOOD + "#" * 65536 + "\n"),
        "too many words": case(
            4, "three behind witness", KNOWN.replace("\n", " https://x y\n") + "quorum none\n"
        ),
    }


def weak() -> dict[str, dict[str, object]]:
    """Keys of small order: R = the key, S = 0 fits half of all texts in a library that does not look."""
    name = "north/weak/witness"
    key = weak_key(name, COSIGNATURE_V1)
    fake = bytes(8) + (1).to_bytes(32, "little") + bytes(32)
    notes = [cosigned(checkpoint(20)).with_signatures([Signature(name, key.key_id, fake)])]
    own = weak_key(log.ORIGIN, ED25519)
    text = checkpoint(20).text
    signed = SignedNote(text, (Signature(log.ORIGIN, own.key_id, (1).to_bytes(32, "little") + bytes(32)),))
    zero = Signature(log.ORIGIN, LOG.key_id, (1).to_bytes(32, "little") + bytes(32))
    with_weak, open_policy = KNOWN + f"witness weak {key}\nquorum {A}\n", LOG_LINE + "quorum none\n"
    neutral = bundle(last=SignedNote(text, (zero,)), heads=[])
    why = "a point of order two"
    return {
        "weak witness, unused": case(0, "a key that signs nothing is not looked at", with_weak),
        "weak witness": case(1, why, with_weak, bundle(last=notes[0])),
        "weak log": case(1, why, f"log {own}\nquorum none\n", bundle(last=signed, heads=[])),
        "weak R": case(1, "R is the neutral point", open_policy, neutral),
    }
