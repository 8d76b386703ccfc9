"""Every vector against ``verify.py`` and, where the library reads the same form, against the library."""

import base64
import json

import pytest

from compliance import verify
from compliance.canonical import CanonicalError, parse_canonical
from compliance.evidence_file import Evidence, EvidenceError
from compliance.note import NoteError, VerifierKey, open_checkpoint
from compliance.tlog_proof import TlogProof, TlogProofError
from compliance.witness_policy import PolicyTextError, WitnessPolicy
from tests.compliance import make_vectors
from tests.compliance.small_log import LOG


def read(kind: str) -> list[dict[str, object]]:
    whole = json.loads((make_vectors.FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    shared = {key: whole[key] for key in ("policy", "input")}
    return [{**shared, **vector} for vector in whole["vectors"]]


ALL = [pytest.param(one, id=f"{kind}: {one['name']}") for kind in make_vectors.KINDS for one in read(kind)]


def of(kind: str):
    return [pytest.param(one, id=one["name"]) for one in read(kind)]


def raw(vector: dict[str, object], field: str) -> bytes:
    return base64.b64decode(vector[field])


@pytest.mark.parametrize("kind", make_vectors.KINDS)
def test_the_files_are_what_is_made(kind):
    path = make_vectors.FOLDER / f"{kind}.json"
    assert path.read_text(encoding="utf-8") == make_vectors.text(kind)


def arguments(vector: dict[str, object], folder) -> list[str]:
    files = {field: folder / field for field in ("policy", "entry", "input") if field in vector}
    for field, path in files.items():
        path.write_bytes(raw(vector, field))
    flags = [f"--{vector['kind']}"] if vector["kind"] != "bundle" else []
    flags += ["--complete"] if vector["complete"] else []
    flags += ["--max-age", str(vector["max_age"])] if vector["max_age"] is not None else []
    shown = [str(files[field]) for field in ("entry", "input") if field in files]
    return [*shown, *flags, "--policy", str(files["policy"])]


@pytest.mark.parametrize("vector", ALL)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_verifier_says_what_the_vector_asks(vector, lang, tmp_path, capsys):
    code = verify.main([*arguments(vector, tmp_path), "--lang", lang])
    said = capsys.readouterr()
    assert (code, said.err) == (vector["exit"], ""), vector["why"]
    verdicts = [name for name, number in verify.EXIT.items() if number == code]
    assert said.out.startswith(tuple(verify.TEXTS[name][lang == "zh"] for name in verdicts))


@pytest.mark.parametrize("vector", ALL)
def test_the_json_report_names_verdict_and_reason(vector, tmp_path, capsys):
    verify.main([*arguments(vector, tmp_path), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["exit"] == vector["exit"]
    assert report["report"]


@pytest.mark.parametrize("vector", of("evidence"))
def test_the_library_agrees_about_evidence(vector):
    try:
        proven = Evidence.parse(raw(vector, "input").decode()).is_proven_for(LOG)
    except (EvidenceError, UnicodeDecodeError):
        assert vector["exit"] == 4
    else:
        assert proven is (vector["exit"] == 0)


@pytest.mark.parametrize("vector", of("entry"))
def test_the_library_agrees_about_an_entry(vector):
    policy = WitnessPolicy.parse(raw(vector, "policy").decode())
    try:
        parse_canonical(raw(vector, "entry"))["id"]
        proof = TlogProof.parse(raw(vector, "input").decode())
    except (CanonicalError, TlogProofError, UnicodeDecodeError, KeyError):
        assert vector["exit"] == 4
        return
    try:
        open_checkpoint(str(proof.note), policy.log)
        fits = proof.leads_to_its_checkpoint(raw(vector, "entry"))
        met = policy.is_met_by(set(policy.signers(proof.note)))
    except NoteError:
        fits = met = False
    found = 1 if not fits else 2 if not met else 0
    asked = 0 if vector["exit"] in (3, 5) else vector["exit"]  # nobody asks for completeness and age here
    assert found == asked


@pytest.mark.parametrize("vector", of("policy"))
def test_the_library_agrees_about_a_policy(vector):
    try:
        policy = WitnessPolicy.parse(raw(vector, "policy").decode("latin-1"))
    except PolicyTextError:
        assert vector["exit"] == 4
        return
    assert vector["exit"] != 4
    assert str(WitnessPolicy.parse(str(policy))) == str(policy)
    note = raw(vector, "input").decode().rsplit("checkpoint ", 1)[1]
    try:
        _, note = open_checkpoint(base64.b64decode(note).decode(), policy.log)
        met = policy.is_met_by(set(policy.signers(note)))
    except NoteError:
        assert vector["exit"] == 1
    else:
        assert vector["exit"] == (0 if met else 2)


def test_a_key_in_a_policy_may_be_read_back():
    assert VerifierKey.parse(str(LOG)) == LOG
