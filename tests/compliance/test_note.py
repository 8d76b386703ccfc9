"""Notes, keys and cosignatures: other people's known answers, and what is refused."""

import pytest

from compliance.note import (
    COSIGNATURE_V1,
    ED25519,
    Checkpoint,
    NoteError,
    Signature,
    SignedNote,
    VerifierKey,
    open_checkpoint,
    verify,
)
from tests.compliance import small_log as log

# golang.org/x/mod/sumdb/note: the example of its documentation
NEUMANN = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
NEUMANNS_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""
# A checkpoint of Sigsum's public test log of 2 September 2025, and its test witness's cosignature/v1
SIGSUM = "sigsum.org/v1/tree/4e89cc51651f0d95f3c6127c15e1a42e3ddf7046c5b17b752689c402e773bb4d"
SIGSUM_ROOT = bytes.fromhex("07e183bd7b31636eee13edba7ee64cc586363aea9e7cdd1579c047e2643a87b7")
SIGSUM_LOG = VerifierKey(
    SIGSUM, ED25519, bytes.fromhex("4644af2abd40f4895a003bca350f9d5912ab301a49c77f13e5b6d905c20a5fe6")
)
SIGSUM_WITNESS = VerifierKey(
    "testwitness",
    COSIGNATURE_V1,
    bytes.fromhex("5c35281928e9da396beede5f22a2251a589e6ac6de52a4de85de8634ffccaf6d"),
)
SIGSUM_SIGNED = bytes.fromhex(
    "9af6929d26d4dfb94802cba6f1cd988ac7165b73bfb1bbd1922175a771b54080"
    "56e2605e386a231b13ce7dda089db07beb35e2b387e88fa69e322f8839b01804"
)
SIGSUM_COSIGNED = bytes.fromhex(
    "8aff7c90eeeb74080bd81948afeb83ba5f25868ed06bb6103da45ecbc70c0dd8"
    "a195f6ab792bfa70a0f1af7d7dbd1c5beb480fc13d18f695a6fff9a8bbbb4709"
)
SIGSUM_TIME = 1_756_811_283
OTHER_ID = str(log.LOG).replace("north", "south")


def test_the_example_of_go_is_read_verified_and_written_back():
    note = SignedNote.parse(NEUMANNS_NOTE)
    assert str(note) == NEUMANNS_NOTE
    assert verify(note.text, note.by(NEUMANN)[0], NEUMANN) == 0
    with pytest.raises(NoteError, match="does not fit"):
        verify(note.text.replace("you", "I"), note.signatures[0], NEUMANN)


def test_a_checkpoint_and_cosignature_of_a_public_log_are_verified():
    text = str(Checkpoint(SIGSUM, 4684, SIGSUM_ROOT))
    body = SIGSUM_TIME.to_bytes(8, "big") + SIGSUM_COSIGNED
    note = SignedNote(
        text,
        (
            Signature(SIGSUM, SIGSUM_LOG.key_id, SIGSUM_SIGNED),
            Signature("testwitness", SIGSUM_WITNESS.key_id, body),
        ),
    )
    checkpoint, opened = open_checkpoint(str(note), SIGSUM_LOG)
    assert checkpoint == Checkpoint(SIGSUM, 4684, SIGSUM_ROOT)
    assert verify(text, opened.by(SIGSUM_WITNESS)[0], SIGSUM_WITNESS) == SIGSUM_TIME


def test_the_example_of_the_cosignature_specification_is_framed_as_it_says():
    """C2SP publishes no key for it."""
    signature = Signature.parse(
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJs"
        "X3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
    )
    assert (len(signature.body), int.from_bytes(signature.body[:8], "big")) == (72, 1_679_315_147)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a+b", "a+b+", "a b+00000000+AAAA", f"{log.LOG}x", "a+00000000+Ag" + "A" * 42, OTHER_ID],
)
def test_other_texts_are_no_keys(text):
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    "line", ["", "- a YWJjZGU=", "— a YWJjZA==", "— a+b YWJjZGU=", "— a YWJjZGV=", "— a !"]
)
def test_other_lines_are_no_signatures(line):
    with pytest.raises(NoteError):
        Signature.parse(line)


@pytest.mark.parametrize(
    "note", ["", "a\n", "a\n\n", "a\n\n— a YWJjZGU=", "a\tb\n\n— a YWJjZGU=\n", "a" * 20_000, "a\n\nb\n"]
)
def test_other_texts_are_no_notes(note):
    with pytest.raises(NoteError):
        SignedNote.parse(note)


@pytest.mark.parametrize(
    "text", ["a\n1\n", f"a\n1\n{'A' * 40}\n", "a\n-1\nx\n", f"a b\n1\n{'A' * 43}=\n", "a\n1\nx"]
)
def test_other_texts_are_no_checkpoints(text):
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


def test_a_line_of_another_key_is_not_verified_by_this_one():
    note = log.cosigned(log.checkpoint(5))
    with pytest.raises(NoteError, match="not one of"):
        verify(note.text, note.signatures[1], log.LOG)
    with pytest.raises(NoteError, match="not signed once"):
        open_checkpoint(str(note), NEUMANN)


def test_a_cosignature_has_one_length():
    note = log.cosigned(log.checkpoint(5))
    short = Signature(note.signatures[1].name, note.signatures[1].key_id, note.signatures[1].body[:-1])
    with pytest.raises(NoteError, match="wrong length"):
        verify(note.text, short, log.WITNESSES["hospital-a"])
