"""``verify.py`` as a program: what it says, and that nothing whatever makes it stumble."""

import base64
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance import merkle, verify
from compliance.bundle import bundle_lines, ranges_of
from compliance.canonical import CanonicalError, canonical_bytes, parse_canonical
from compliance.evidence_file import evidence_of
from compliance.note import _ORDER_EIGHT, _is_weak
from tests.compliance import small_log as log

# RFC 8032, section 7.1: secret, public, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
ENCODINGS = st.sampled_from(
    [
        (y | sign << 255).to_bytes(32, "little")
        for y in (0, 1, verify.P - 1, verify.P, verify.P + 1, 2, _ORDER_EIGHT, verify.P - _ORDER_EIGHT)
        for sign in (0, 1)
    ]
)


@pytest.fixture
def files(tmp_path):
    def write(**contents: str | bytes) -> dict[str, str]:
        for name, data in contents.items():
            (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return {name: str(tmp_path / name) for name in contents}

    return write


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_ed25519_is_that_of_rfc_8032(secret, public, message, signature):
    key, text, signed = (bytes.fromhex(one) for one in (public, message, signature))
    assert verify.is_signed(key, text, signed)
    assert not verify.is_signed(key, text + b"x", signed)
    for place in (0, 31, 32, 63):
        assert not verify.is_signed(
            key, text, signed[:place] + bytes([signed[place] ^ 1]) + signed[place + 1 :]
        )
    assert not verify.is_signed(key, text, signed + b"\0")
    assert not verify.is_signed(key, text, signed[:-1])
    s = int.from_bytes(signed[32:], "little") + verify.L
    assert not verify.is_signed(key, text, signed[:32] + s.to_bytes(32, "little"))


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64), st.binary(min_size=32, max_size=64))
def test_ed25519_agrees_with_openssl(secret, message, noise):
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public, signed = key.public_key().public_bytes_raw(), key.sign(message)
    assert verify.is_signed(public, message, signed)
    assert not verify.is_signed(noise[:32], message, signed) or noise[:32] == public


@settings(max_examples=300)
@given(ENCODINGS, ENCODINGS, st.integers(0, 2), st.binary(max_size=2))
def test_what_openssl_takes_of_weak_points_is_refused_here_and_in_the_library(key, r, s, message):
    signature = r + s.to_bytes(32, "little")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        careless = True
    except InvalidSignature:
        careless = False
    strict = careless and not _is_weak(key) and not _is_weak(r)
    assert verify.is_signed(key, message, signature) == strict


@given(st.integers(1, 40), st.data())
def test_what_is_written_is_verified_and_any_other_entry_is_not(size, data):
    entries = [canonical_bytes({"id": str(n), "text": f"中 {n}"}) for n in range(size)]
    hashes = [merkle.leaf_hash(entry) for entry in entries]
    tree = merkle.subtree_of(hashes)
    indexes = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    for start, end in ranges_of(indexes):
        proof = merkle.range_proof(tree, start, end, size)
        root = merkle.root_hash(hashes)
        assert verify.root_of_range(start, hashes[start:end], size, proof) == root
        assert merkle.root_of_range(start, hashes[start:end], size, proof) == root
        wrong = [bytes(32), *hashes[start + 1 : end]]
        assert verify.root_of_range(start, wrong, size, proof) != root
    index = data.draw(st.sampled_from(sorted(indexes)))
    path = merkle.inclusion_proof(tree, index, size)
    assert verify.root_of_leaf(hashes[index], index, size, path) == root
    other = data.draw(st.integers(0, 2 * size))
    assert (verify.root_of_leaf(hashes[index], other, size, path) == root) == (other == index)


@given(st.integers(0, 30), st.integers(1, 30), st.lists(st.just(bytes(32)), max_size=12), st.integers(0, 60))
def test_library_and_verifier_agree_about_proofs_of_any_length(start, size, proof, count):
    leaves = [bytes([n]) * 32 for n in range(count)]
    try:
        expected = merkle.root_of_range(start, leaves, size, proof)
    except merkle.ProofError:
        expected = None
    assert verify.root_of_range(start, leaves, size, proof) == expected


@settings(max_examples=400)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    ),
    st.booleans(),
)
def test_library_and_verifier_agree_about_entries(value, ascii_only):
    text = json.dumps({"id": "a", "v": value}, sort_keys=True, separators=(",", ":"), ensure_ascii=ascii_only)
    data = text.encode(errors="surrogatepass")
    try:
        parse_canonical(data)
        expected = True
    except CanonicalError:
        expected = False
    check = verify.Check(None, None, {})
    try:
        check.leaf(data)
        found = True
    except verify.Malformed:
        found = False
    assert found == expected


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["bundle", "evidence", "entry", "policy"]))
def test_rubbish_is_malformed_and_never_a_traceback(tmp_path_factory, rubbish, kind):
    folder = tmp_path_factory.mktemp("rubbish")
    (folder / "rubbish").write_bytes(rubbish)
    (folder / "policy").write_text(str(log.POLICY))
    policy = folder / ("rubbish" if kind == "policy" else "policy")
    flags = [f"--{kind}"] if kind in ("evidence", "entry") else []
    shown = [str(folder / "rubbish")] * (2 if kind == "entry" else 1)
    assert verify.main([*shown, *flags, "--policy", str(policy)]) == 4


@pytest.mark.parametrize(
    "asked",
    ["", "x", "--policy x", "a b --policy x", "a --entry --policy x", "a b --entry --evidence --policy x"],
)
def test_wrong_use_is_malformed_with_a_sentence(asked, capsys):
    assert verify.main(asked.split()) == 4
    assert "error" in capsys.readouterr().err


def test_it_is_a_program(files, monkeypatch):
    paths = files(policy=str(log.POLICY), bundle=log.bundle(range(20)))
    monkeypatch.setattr(
        sys, "argv", ["verify.py", paths["bundle"], "--policy", paths["policy"], "--complete"]
    )
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(verify.__file__, run_name="__main__")
    assert stop.value.code == 0


def test_help_is_no_error(capsys):
    assert verify.main(["--help"]) == 0
    assert "verify.py BUNDLE --policy" in capsys.readouterr().out


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_file_that_is_not_there_is_named(files, tmp_path, capsys, lang):
    given_files = files(policy=str(log.POLICY))
    missing = str(tmp_path / "missing")
    assert verify.main([missing, "--policy", given_files["policy"], "--lang", lang]) == 4
    assert missing in capsys.readouterr().out
    assert verify.main([str(tmp_path), "--policy", given_files["policy"]]) == 4


def test_the_report_names_who_signed_when_and_what_is_not_shown(files, capsys):
    paths = files(policy=str(log.POLICY), bundle=log.bundle())
    assert verify.main([paths["bundle"], "--policy", paths["policy"], "--lang", "en"]) == 0
    text = capsys.readouterr().out
    for part in ("3–4, 7–7, 19–19", "not shown: 16", "hospital-a (2001-09-09 01:46:40 UTC)", "hospital-e"):
        assert part in text


def test_the_report_of_a_wrong_line_names_its_number(files, capsys):
    paths = files(policy=str(log.POLICY), bundle=log.bundle().replace("heads 2", "heads two"))
    assert verify.main([paths["bundle"], "--policy", paths["policy"], "--lang", "en"]) == 4
    number = log.bundle().split("\n").index("heads 2") + 1
    assert f"Line {number}: " in capsys.readouterr().out


def test_it_runs_alone_without_anything_of_ours_and_on_a_poor_terminal(files, tmp_path):
    paths = files(policy=str(log.POLICY), bundle=log.bundle())
    alone = tmp_path / "verify.py"
    alone.write_bytes(Path(verify.__file__).read_bytes())
    environment = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": "ascii", "LANG": "zh_CN.UTF-8"}
    command = [sys.executable, "-I", "-S", str(alone), paths["bundle"], "--policy", paths["policy"]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_memory_does_not_grow_with_the_entries(tmp_path):
    entries = [canonical_bytes({"id": str(n), "pad": "x" * 100}) for n in range(20_000)]
    hashes = [merkle.leaf_hash(one) for one in entries]
    last = log.cosigned(log.checkpoint(len(hashes), hashes=hashes))
    tree = merkle.subtree_of(hashes)
    path = tmp_path / "bundle"
    with path.open("w") as file:
        file.writelines(bundle_lines(tree, lambda a, b: entries[a:b], [(0, len(hashes))], last))
    (tmp_path / "policy").write_text(str(log.POLICY))
    code = (
        "import sys, tracemalloc; from compliance import verify; tracemalloc.start()\n"
        "code = verify.main(sys.argv[1:]); print(code, tracemalloc.get_traced_memory()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), "--policy", str(tmp_path / "policy")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, peak = done.stdout.splitlines()[-1].split()
    assert status == "0"
    assert int(peak) < 2_000_000 < path.stat().st_size


def test_evidence_needs_the_log_only(files):
    other = log.checkpoint(20, hashes=log.HASHES[::-1])
    policy = f"log {log.LOG}\nquorum none\n"
    paths = files(policy=policy, evidence=str(evidence_of(log.checkpoint(20), other)))
    assert verify.main([paths["evidence"], "--evidence", "--policy", paths["policy"]]) == 0
    assert verify.main(["--evidence", paths["evidence"], "--policy", paths["policy"], "--json"]) == 0


def test_base64_has_one_spelling():
    for text in (b"YQ=", b"YQ", b"YR==", b"YQ==\n", b"Y Q==", b"=", b"A"):
        with pytest.raises(verify.Malformed):
            verify.base64(text, 0, 9)
    assert verify.base64(base64.b64encode(b"a"), 1, 1) == b"a"
