"""Every vector through verify.py, with the standard library alone: for a Python too old for the rest."""

import base64
import contextlib
import importlib.util
import io
import json
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def run():
    spec = importlib.util.spec_from_file_location("verify", str(REPOSITORY / "compliance" / "verify.py"))
    verify = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(verify)
    count, differ = 0, []
    for path in sorted((REPOSITORY / "tests" / "compliance" / "vectors").glob("*.json")):
        whole = json.loads(path.read_text(encoding="utf-8"))
        for vector in whole["vectors"]:
            count += 1
            with tempfile.TemporaryDirectory() as folder:
                if said(verify, {**whole, **vector}, Path(folder)) != vector["exit"]:
                    differ.append(vector["name"])
    print("; ".join([*differ[:5], f"{count} vectors, {len(differ)} differ"]))


def said(verify, vector, folder):
    for field in ("policy", "input", "entry"):
        (folder / field).write_bytes(base64.b64decode(vector.get(field, "")))
    entry = vector["kind"] == "entry"
    asked = [str(folder / "entry"), str(folder / "input")] if entry else [str(folder / "input")]
    asked += [] if vector["kind"] == "bundle" else ["--" + vector["kind"]]
    asked += ["--complete"] if vector["complete"] else []
    asked += [] if vector["max_age"] is None else ["--max-age", str(vector["max_age"])]
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")):
        return verify.main([*asked, "--policy", str(folder / "policy")])


if __name__ == "__main__":
    run()
