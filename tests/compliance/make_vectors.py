"""``python -m tests.compliance.make_vectors`` writes ``tests/compliance/vectors/*.json`` anew.

A file has ``vectors``, and the ``policy`` and ``input`` of those that have none of their own. Each vector:
name, kind (bundle, entry, evidence), why, exit (what every verifier must say), ``input`` (the file checked),
``policy`` and, for kind entry, ``entry`` (the stored bytes), all in base64; ``complete`` and ``max_age`` are
what was asked for.
"""

import base64
import json
from pathlib import Path

from tests.compliance import small_log
from tests.compliance.bad_bundles import bundles
from tests.compliance.bad_entries import entries
from tests.compliance.bad_evidence import evidence
from tests.compliance.bad_lines import broken_lines
from tests.compliance.bad_policies import policies
from tests.compliance.good_bundles import good_bundles

FOLDER = Path(__file__).parent / "vectors"
KINDS = {
    "good": good_bundles,
    "bundle": bundles,
    "lines": broken_lines,
    "entry": entries,
    "evidence": evidence,
    "policy": policies,
}


def vectors(kind: str) -> list[dict[str, object]]:
    found = []
    for name, case in KINDS[kind]().items():
        defaults = {
            "kind": kind if kind in ("entry", "evidence") else "bundle",
            "complete": False,
            "max_age": None,
        }
        raw = {key: encoded(case[key]) for key in ("policy", "input", "entry") if key in case}
        found.append({"name": name, **defaults, **case, **raw})
    return found


def encoded(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def text(kind: str) -> str:
    shared = {"policy": encoded(str(small_log.POLICY)), "input": encoded(small_log.bundle())}
    return json.dumps({**shared, "vectors": vectors(kind)}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in KINDS:
        (FOLDER / f"{one}.json").write_text(text(one), encoding="utf-8")
