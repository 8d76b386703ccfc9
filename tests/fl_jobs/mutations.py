"""Changes of a deployed job, each of a named kind and repeatable by its seed. Shared by test and proof."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SPEC, CLIENT = "config/run_spec.json", "config/config_fed_client.json"
EXTRA = (
    "config/config_fed_server.json", "config/extra.json", "config/config_fed_client.yml", "custom/evil.py",
    "config/config_fed_client.conf", "evil.pth", "config/evil.py", "__pycache__/evil.pyc", "config/.hidden",
    "config/config_exchange.json", "resources.json", "config/sub/config_fed_client.json",
)  # fmt: skip


class Chance:
    """Repeatable draws."""

    def __init__(self, kind: str, seed: int) -> None:
        self._numbers = np.random.default_rng([seed, *kind.encode()])

    def randrange(self, below: int) -> int:
        return int(self._numbers.integers(below))

    def choice(self, values: Any) -> Any:
        return values[self.randrange(len(values))]

    def randbytes(self, count: int) -> bytes:
        return bytes(self._numbers.bytes(count))

    def random(self) -> float:
        return float(self._numbers.random())


@contextmanager
def copied(app: Path, target: Path) -> Iterator[Path]:
    """A copy of the job to spoil."""
    shutil.copytree(app, target, symlinks=True)
    try:
        yield target
    finally:
        shutil.rmtree(target)


def mutate(app: Path, kind: str, seed: int) -> str:
    """Change the job; what was done, in words."""
    return str(MUTATIONS[kind](app, Chance(kind, seed)))


def _flip(name: str) -> Any:
    def flip(app: Path, chance: Chance) -> str:
        content = bytearray((app / name).read_bytes())
        place, bit = chance.randrange(len(content)), 1 << chance.randrange(8)
        content[place] ^= bit
        (app / name).write_bytes(content)
        return f"bit {bit} of byte {place} of {name}"

    return flip


def _edited(change: Any) -> Any:
    def edit(app: Path, chance: Chance) -> str:
        spec = json.loads((app / SPEC).read_text())
        said = change(spec, chance)
        text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        (app / SPEC).write_text(text)
        return str(said)

    return edit


def _tensor(spec: Any, chance: Chance) -> str:
    name = f"head.{chance.randrange(10**6)}.weight"
    spec["tensors"].append({**chance.choice(spec["tensors"]), "name": name})
    return f"tensor {name} added"


def _shape(spec: Any, chance: Chance) -> str:
    tensor = chance.choice(spec["tensors"])
    tensor["shape"] = [size + 1 + chance.randrange(99) for size in tensor["shape"]]
    return f"tensor {tensor['name']} is larger"


def _setting(spec: Any, chance: Chance) -> str:
    settings = spec["hyper_parameters"]
    name = chance.choice([*sorted(settings), f"x{chance.randrange(9)}"])
    value = settings.get(name, 0.0)
    settings[name] = f"{value}x" if isinstance(value, str) else (value or 0) + 1 + chance.random()
    return f"hyper-parameter {name} changed"


def _number(spec: Any, chance: Chance) -> str:
    name = chance.choice(["rounds", "seed", "min_sites"])
    spec[name] += 1 + chance.randrange(99)
    return f"{name} changed"


def _resealed(app: Path, chance: Chance) -> str:
    """The specification and the digest in the client configuration changed together, so that they agree."""
    _edited(_number)(app, chance)
    client = json.loads((app / CLIENT).read_text())
    digest = hashlib.sha256((app / SPEC).read_bytes()).hexdigest()
    client["executors"][0]["executor"]["args"]["run_digest"] = digest
    (app / CLIENT).write_text(json.dumps(client, indent=2, sort_keys=True) + "\n")
    return "specification and digest changed together"


def _client(app: Path, chance: Chance) -> str:
    client = json.loads((app / CLIENT).read_text())
    executor = client["executors"][0]["executor"]
    change = chance.randrange(6)
    if change == 0:
        executor["path"] = f"fl_jobs.flare.other{chance.randrange(99)}.Executor"
    elif change == 1:
        executor["args"][f"extra{chance.randrange(99)}"] = 1
    elif change == 2:
        client["components"] = [{"id": f"c{chance.randrange(99)}", "path": "fl_jobs.flare.x.Y", "args": {}}]
    elif change == 3:
        client["task_result_filters"] = [{"tasks": ["*"], "filters": []}]
    elif change == 4:
        executor["args"]["epoch"] = chance.choice([0, -1, True, "1", 1.0, 2**40])
    else:
        executor["args"]["run_id"] = chance.choice(["", "../../x", "f" * 36, None, 7])
    (app / CLIENT).write_text(json.dumps(client, indent=2, sort_keys=True) + "\n")
    return f"client configuration, change {change}"


def _extra(app: Path, chance: Chance) -> str:
    name = chance.choice(EXTRA)
    (app / name).parent.mkdir(parents=True, exist_ok=True)
    (app / name).write_bytes(chance.randbytes(chance.randrange(50)))
    return f"{name} added"


def _folder(app: Path, chance: Chance) -> str:
    name = chance.choice(["custom", "config/custom", "local", "__pycache__"])
    (app / name).mkdir()
    return f"empty folder {name}"


def _renamed(app: Path, chance: Chance) -> str:
    name = chance.choice([SPEC, CLIENT, "config"])
    (app / name).rename(app / f"{name}.{chance.choice(['bak', 'json', 'old', '1'])}")
    return f"{name} renamed"


def _case(app: Path, chance: Chance) -> str:
    name = Path(chance.choice([SPEC, CLIENT]))
    letters = list(name.name)
    place = chance.choice([i for i, letter in enumerate(letters) if letter.isalpha()])
    letters[place] = letters[place].upper()
    twin = app / name.parent / "".join(letters)
    if chance.random() < 0.5:
        (app / name).rename(twin)
    else:
        shutil.copyfile(app / name, twin)
    return f"{twin.name} beside or instead of {name}"


def _link(app: Path, chance: Chance) -> str:
    """The same bytes, but through a link: they could change after they were looked at."""
    name = chance.choice([SPEC, CLIENT, "config"])
    target = app.parent / f"linked-{chance.randrange(10**9)}"
    (app / name).rename(target)
    (app / name).symlink_to(target)
    return f"{name} is a link"


def _special(app: Path, chance: Chance) -> str:
    name = chance.choice([".__nvfl_sig.json", "config/.__nvfl_sig.json", ".__nvfl_submitter.crt"])
    if chance.random() < 0.5:
        os.mkfifo(app / name)
    else:
        (app / name).mkdir()
    return f"{name} is no file"


def _cut(app: Path, chance: Chance) -> str:
    name = chance.choice([SPEC, CLIENT])
    content = (app / name).read_bytes()
    place = chance.randrange(len(content))
    more = content + bytes([chance.choice(b" \n\x00")]) * (1 + chance.randrange(9))
    (app / name).write_bytes(chance.choice([content[:place], more]))
    return f"{name} cut or lengthened"


MUTATIONS = {
    "bit of the specification": _flip(SPEC),
    "bit of the client configuration": _flip(CLIENT),
    "tensor": _edited(_tensor),
    "shape": _edited(_shape),
    "hyper-parameter": _edited(_setting),
    "number": _edited(_number),
    "resealed": _resealed,
    "client": _client,
    "extra file": _extra,
    "folder": _folder,
    "renamed": _renamed,
    "case": _case,
    "link": _link,
    "special file": _special,
    "length": _cut,
}
