import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from compliance import merkle
from compliance.note import Checkpoint, encode_base64, open_checkpoint, verify
from compliance.signer import core
from compliance.signer.core import Signer, SignerError, create
from compliance.signer.door import (
    MAX_LINE_BYTES,
    SOCKET_NAME,
    SignerAwayError,
    SignerClient,
    SignerServer,
    answer,
)

LEAVES = [merkle.leaf_hash(b"%d" % number) for number in range(40)]
LOG, ORIGIN = "fed/audit", "fed/audit/2026"
RECEIPT = '{"id":"a","index":null,"leaf_hash":"b","ts":"c","within_s":60}\n'


def text(size, leaves=LEAVES, origin=ORIGIN):
    return str(Checkpoint(origin, size, merkle.root_hash(leaves[:size])))


def proof(old, size, leaves=LEAVES):
    return merkle.consistency_proof(merkle.subtree_of(leaves), old, size) if old else []


@pytest.fixture
def folder(tmp_path):
    create(tmp_path / "signer", LOG)
    return tmp_path / "signer"


@pytest.fixture
def signer(folder):
    signer = Signer(folder)
    yield signer
    signer.close()


@pytest.fixture
def client(signer, folder):
    server = SignerServer(signer, folder / SOCKET_NAME)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield SignerClient(folder / SOCKET_NAME)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_growing_log_is_signed_and_a_signed_head_again(signer):
    key = signer.state(ORIGIN).key
    for old, size in [(0, 3), (3, 8), (8, 8), (8, 40)]:
        note = signer.sign(text(size), proof(old, size))
        checkpoint, _ = open_checkpoint(str(note), key)
        assert (checkpoint.size, checkpoint.root) == (size, merkle.root_hash(LEAVES[:size]))
        assert signer.state(ORIGIN).size == size
    assert str(signer.sign(text(40), [])) == str(note)


def test_what_was_signed_is_remembered_by_the_next_process(folder):
    first = Signer(folder)
    first.sign(text(8), [])
    first.close()
    second = Signer(folder)
    assert second.state(ORIGIN) == first.state(ORIGIN)
    with pytest.raises(SignerError, match="8 were signed before") as refused:
        second.sign(text(7), [])
    assert refused.value.size == 8
    second.close()


REWRITTEN = [LEAVES[0], b"\1" * 32, *LEAVES[2:]]


@pytest.mark.parametrize(
    ("asked", "hashes", "sentence"),
    [
        (text(7), [], "Entries are missing"),
        (text(0, []), [], "0 entries"),
        (text(8, REWRITTEN), [], "does not begin"),
        (text(20, REWRITTEN), proof(8, 20, REWRITTEN), "does not begin"),
        (text(20), [], "does not begin"),
        (text(20), proof(7, 20), "does not begin"),
        (text(20, origin="fed/audit"), [], "signs fed/audit/YEAR only"),
        (text(20, origin="other/audit/2026"), [], "signs fed/audit/YEAR only"),
        (text(20, origin="fed/audit/9999"), [], "in the future"),
        ("rubbish", [], "three lines"),
        (text(20) + "more\n", [], "three lines"),
    ],
)
def test_what_does_not_go_on_from_the_signed_tree_is_refused_and_changes_nothing(
    signer, asked, hashes, sentence
):
    signer.sign(text(8), [])
    before = signer.state(ORIGIN)
    with pytest.raises(SignerError, match=sentence):
        signer.sign(asked, hashes)
    assert signer.state(ORIGIN) == before
    signer.sign(text(20), proof(8, 20))


def test_the_former_year_is_closed_when_the_next_has_begun(signer):
    signer.sign(text(5, origin="fed/audit/2025"), [])
    signer.sign(text(8), [])
    with pytest.raises(SignerError, match="is closed"):
        signer.sign(text(6, origin="fed/audit/2025"), proof(5, 6))
    with pytest.raises(SignerError, match="is closed"):
        signer.sign(text(6, origin="fed/audit/2024"), [])
    signer.sign(text(5, origin="fed/audit/2025"), [])


def test_it_does_not_sign_what_it_cannot_remember(signer, monkeypatch):
    signer.sign(text(8), [])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(core, "_write", full)
    with pytest.raises(SignerError, match="No space left"):
        signer.sign(text(20), proof(8, 20))
    assert signer.state(ORIGIN).size == 8


def test_a_receipt_is_signed_and_nothing_else_under_its_name(signer):
    with pytest.raises(SignerError, match="no checkpoint yet"):
        signer.sign_receipt(ORIGIN, RECEIPT)
    signer.sign(text(8), [])
    note = signer.sign_receipt(ORIGIN, RECEIPT)
    verify(note.text, note.signatures[0], signer.state(ORIGIN).key)
    for other in (text(9), "{}\n", RECEIPT + RECEIPT, RECEIPT[:-1], RECEIPT + "\n", "x", '{"id": 1.5}\n'):
        with pytest.raises(SignerError, match="receipt"):
            signer.sign_receipt(ORIGIN, other)


def test_one_process_at_a_time(signer, folder):
    with pytest.raises(SignerError, match="Another signer"):
        Signer(folder)


def test_a_folder_that_others_can_read_is_refused(folder):
    folder.chmod(0o750)
    with pytest.raises(SignerError, match="chmod 700"):
        Signer(folder)


@pytest.mark.parametrize("content", ["", "[]", '{"fed/audit/2026": [0, "AA=="]}', '{"fed/audit/2026": 5}'])
@pytest.mark.parametrize("name", ["state.json", "key.json"])
def test_a_damaged_folder_is_never_taken_for_an_empty_memory(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(SignerError, match="Bring it back"):
        Signer(folder)


@pytest.mark.parametrize("name", ["state.json", "key.json"])
def test_a_folder_that_lost_a_file_does_not_sign(folder, name):
    (folder / name).unlink()
    with pytest.raises(SignerError, match="bring it back"):
        Signer(folder)


def test_the_key_is_made_once(folder, tmp_path):
    kept = (folder / "key.json").read_bytes()
    assert create(folder, LOG) is False
    assert (folder / "key.json").read_bytes() == kept
    with pytest.raises(SignerError, match="not other"):
        create(folder, "other")
    with pytest.raises(SignerError, match="cannot name a log"):
        create(tmp_path / "new", "two words")
    assert (folder.stat().st_mode | (folder / "key.json").stat().st_mode) & 0o077 == 0


def test_the_client_gets_what_the_signer_says(client, signer):
    assert client.state(ORIGIN) == signer.state(ORIGIN)
    note = client.sign(text(8), [])
    assert str(note) == str(signer.sign(text(8), []))
    assert str(client.sign_receipt(ORIGIN, RECEIPT)) == str(signer.sign_receipt(ORIGIN, RECEIPT))
    with pytest.raises(SignerError, match="8 were signed before") as refused:
        client.sign(text(3), [])
    assert refused.value.size == 8
    assert not isinstance(refused.value, SignerAwayError)


def test_the_socket_is_this_users_only(client, folder):
    assert (folder / SOCKET_NAME).stat().st_mode & 0o777 == 0o600


def test_a_signer_that_is_away_or_silent_is_said_to_be(folder, tmp_path):
    with pytest.raises(SignerAwayError, match="does not answer"):
        SignerClient(folder / SOCKET_NAME).state(ORIGIN)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with pytest.raises(SignerAwayError, match="does not answer"):
            SignerClient(tmp_path / "s", timeout_s=0.2).state(ORIGIN)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 30_000,
        b'{"state": 5}',
        b'{"state": "fed/audit/2026", "more": 1}',
        b'{"checkpoint": "x", "consistency": [5]}',
        b'{"checkpoint": "x", "consistency": ["!"]}',
        json.dumps({"checkpoint": "x", "consistency": [encode_base64(b"1" * 32)] * 65}).encode(),
        b'{"receipt": "\\ud800", "origin": "fed/audit/2026"}',
        b"x" * (MAX_LINE_BYTES + 1),
    ],
)
def test_any_line_gets_an_answer(signer, line):
    signer.sign(text(8), [])
    assert json.loads(answer(signer, line))["error"].endswith(".")


@pytest.mark.parametrize("reply", [b"", b"no\n", b"[]\n", b"{}\n", b'{"note": "x"}\n', b'{"size": "x"}\n'])
def test_an_answer_that_cannot_be_read_is_no_signature(tmp_path, reply):
    def once(server):
        link, _ = server.accept()
        link.recv(1 << 16)
        link.sendall(reply)
        link.close()

    for ask in (lambda client: client.state(ORIGIN), lambda client: client.sign(text(8), [])):
        with socket.socket(socket.AF_UNIX) as server:
            (tmp_path / "s").unlink(missing_ok=True)
            server.bind(str(tmp_path / "s"))
            server.listen()
            thread = threading.Thread(target=once, args=(server,))
            thread.start()
            with pytest.raises(SignerAwayError):
                ask(SignerClient(tmp_path / "s"))
            thread.join()


def test_the_process_signs_where_a_long_path_leads_and_ends_when_asked(tmp_path):
    folder = tmp_path / ("long" * 30) / "signer"
    command = [sys.executable, "-m", "compliance.signer", "--folder", str(folder)]
    assert subprocess.run(command, capture_output=True).returncode == 1
    assert subprocess.run([*command, "--init", LOG]).returncode == 0
    process = subprocess.Popen(command)
    try:
        client = SignerClient(folder / SOCKET_NAME)
        for _ in range(200):
            if (folder / SOCKET_NAME).exists():
                break
            threading.Event().wait(0.05)
        assert client.sign(text(8), []).text == text(8)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(5) == 0
        assert not (folder / SOCKET_NAME).exists()
    finally:
        process.kill()
        process.wait()
