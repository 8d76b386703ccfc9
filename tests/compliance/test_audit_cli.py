"""consilium-audit without a portal: drill, split, reconcile, hammer, with their exit codes."""

import json
import time
from pathlib import Path

import pytest

from compliance import cli
from compliance.bundle import bundle_lines
from compliance.canonical import canonical_bytes
from compliance.drill import KINDS, Drill
from compliance.merkle import leaf_hash, root_hash, subtree_of
from compliance.note import Checkpoint, Signature, SignedNote, cosign, sign, verifier_key
from compliance.sqlite_log import SqliteLog
from compliance.witness import Witness
from platform_web.audit.cli import main
from tests.compliance.logs import ORIGIN, Log


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = Log().grown(6)
    (tmp_path / "policy.txt").write_text(f"log {verifier_key(ORIGIN, log.key)}\nquorum none\n")
    return log


def test_a_drill_refuses_all_and_keeps_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drill", "--made-up", "--count", "1", "--sites", "3", "--keep", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("1 refused by the quorum, 1 with evidence, 0 sites deceived") == 6
    for kind in ("delete", "change", "insert", "swap", "regrow", "fork"):
        evidence = str(tmp_path / f"{kind}.txt")
        assert main(["verify", "--evidence", evidence, "--policy", str(tmp_path / "policy.txt")]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_drill_sees_a_single_site_that_judges_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Witness.sign

    def careless(self: Witness, note: str, proof: list[bytes]) -> Signature:
        if "site-1/" not in self.verifier_key.name:
            return honest(self, note, proof)
        return cosign(SignedNote.parse(note).text, self.verifier_key.name, self._key, 1)

    monkeypatch.setattr(Witness, "sign", careless)
    drill = Drill([], 5, tmp_path)
    trials = [drill.rewrite(kind) for _ in range(3)]
    drill.close()
    assert not any(trial.was_accepted for trial in trials)
    assert any(trial.deceived for trial in trials)


def test_two_trees_of_one_size_are_a_contradiction(log: Log, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, note in zip(paths, (log.note(), log.fork(2).note(), log.note(4)), strict=True):
        path.write_text(note)
    policy, out = ["--policy", str(tmp_path / "policy.txt")], str(tmp_path / "evidence.txt")
    assert main(["split", str(paths[0]), str(paths[1]), *policy, "--out", out]) == 1
    assert main(["verify", "--evidence", out, *policy]) == 0
    assert main(["split", str(paths[0]), str(paths[0]), *policy]) == 0
    assert main(["split", str(paths[0]), str(paths[2]), *policy]) == cli.INCOMPLETE
    paths[0].write_text("no checkpoint")
    assert main(["split", str(paths[0]), str(paths[1]), *policy]) == cli.MALFORMED
    assert main(["split", str(tmp_path / "none"), str(paths[1]), *policy]) == cli.MALFORMED


def _bundle(log: Log, entries: list[bytes]) -> str:
    leaves = [leaf_hash(entry) for entry in entries]
    text = str(Checkpoint(ORIGIN, len(leaves), root_hash(leaves)))
    note = SignedNote.parse(str(sign(text, ORIGIN, log.key)))
    return "".join(bundle_lines(subtree_of(leaves), lambda a, b: entries[a:b], [(0, len(leaves))], note))


def _committed(number: int, sites: list[str], received: tuple[str, ...] = ()) -> bytes:
    data = {"sites": len(sites), "contributors": sites, "received_sha256": list(received)}
    return canonical_bytes(
        {"id": f"p{number}", "act": "round.committed", "job": "run", "rnd": number, "data": data}
    )


def _sent(number: int, digest: str) -> bytes:
    data = {"task": "train", "sha256": digest}
    return canonical_bytes(
        {"id": f"s{digest}", "act": "update.sent", "job": "run", "rnd": number, "data": data}
    )


def test_both_sides_of_a_round_are_compared(
    log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(rounds: list[bytes], sent: list[bytes]) -> int:
        path = tmp_path / f"{time.monotonic_ns()}.sqlite3"
        own = SqliteLog(path)
        for leaf in sent:
            own.append(json.loads(leaf)["id"], leaf)
        own.close()
        (tmp_path / "rounds").write_text(_bundle(log, rounds))
        policy = str(tmp_path / "policy.txt")
        return main(["reconcile", "a", str(path), str(tmp_path / "rounds"), "--policy", policy])

    both = [_committed(1, ["a", "b"]), _committed(2, ["a"])]
    assert compare(both, [_sent(1, "d1"), _sent(2, "d2"), _sent(3, "under way")]) == 0
    assert "2 rounds match" in capsys.readouterr().out
    assert compare([*both, _committed(3, ["b"])], [_sent(1, "d1"), _sent(2, "d2"), _sent(3, "d3")]) == 1
    assert "round 3: sent by the site, and not among" in capsys.readouterr().out
    assert compare(both, [_sent(1, "d1")]) == 1
    assert "round 2: aggregated by the portal in the site's name" in capsys.readouterr().out
    assert compare(both, [_sent(1, "d1"), _sent(2, "d2"), _sent(2, "other")]) == 0
    assert "1 were sent again" in capsys.readouterr().out
    both = [_committed(1, ["a", "b"], ("d1", "e1")), _committed(2, ["a", "b"], ("d2",))]
    assert compare(both, [_sent(1, "d1"), _sent(2, "d0"), _sent(2, "d2")]) == 0
    assert "2 rounds match on both sides, 2 of them byte for byte" in capsys.readouterr().out
    assert compare(both, [_sent(1, "d1"), _sent(2, "other")]) == 1
    said = capsys.readouterr().out
    assert "round 2: what the portal received is not what the site sent" in said
    assert "1 rounds match" in said


def test_a_bundle_that_does_not_verify_is_not_compared(log: Log, tmp_path: Path) -> None:
    (tmp_path / "rounds").write_text("no bundle")
    arguments = [str(tmp_path / "none"), str(tmp_path / "rounds"), "--policy", str(tmp_path / "policy.txt")]
    assert main(["reconcile", "a", *arguments]) == cli.MALFORMED


def test_the_hammer_prints_its_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["hammer", "--count", "20", "--writers", "2", "--folder", str(tmp_path)]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"append_per_s", "append_p99_ms"}
    assert main(["feed"]) == cli.MALFORMED
