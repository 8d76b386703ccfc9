"""Kombu's filesystem transport, made whole: every file appears complete or not at all.

Kombu 5.7 opens the message file before it writes it, and a worker that looks in between (20 times a second)
reads nothing and dies of a JSON error: seen after 3 seconds with one beat and two workers. The tables of
exchanges have the same gap. Here files are written aside and renamed; a message is claimed by a rename.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem, virtual
from kombu.utils import json as kombu_json

Table = list[filesystem.exchange_queue_t]
untyped: Any = kombu_json
dumps, loads = untyped.dumps, untyped.loads


class Channel(filesystem.Channel):
    """Messages lie in ``data_folder_in`` (also ``data_folder_out``), tables in ``control_folder``."""

    def get_table(self, exchange: str) -> Table:
        try:
            text = self._table_file(exchange).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [filesystem.exchange_queue_t(*entry) for entry in loads(text)]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        entry = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        if entry not in self.get_table(exchange):
            self._change_table(exchange, lambda table: [entry, *(old for old in table if old != entry)])

    def _delete(
        self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **kwargs: Any
    ) -> None:
        base: Any = virtual.Channel
        base._delete(self, queue, exchange, routing_key, pattern, *args, **kwargs)
        entry = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        if entry in self.get_table(exchange):
            self._change_table(exchange, lambda table: [old for old in table if old != entry])

    def _table_file(self, exchange: str) -> Path:
        kombu: Any = self
        return Path(kombu._exchange_file(exchange))  # refuses names that lead elsewhere

    def _change_table(self, exchange: str, change: Callable[[Table], Table]) -> None:
        with _locked(Path(self.control_folder)):
            _write_whole(self._table_file(exchange), dumps(change(self.get_table(exchange))))

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        _write_whole(Path(self.data_folder_out) / name, dumps(payload))

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002 kombu's
        folder = Path(self.data_folder_in)
        for name in sorted(os.listdir(folder)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            taken = folder / f".{uuid.uuid4().hex}.taken"
            try:
                (folder / name).rename(taken)
            except FileNotFoundError:
                continue  # another worker was first
            text = taken.read_text(encoding="utf-8")
            taken.unlink()
            return loads(text)
        raise Empty


class Transport(filesystem.Transport):
    """Named in ``platform_web.celery`` as what ``filesystem://`` means."""

    Channel = Channel


def _write_whole(path: Path, text: str) -> None:
    aside = path.with_name(f".{uuid.uuid4().hex}.part")
    aside.write_text(text, encoding="utf-8")
    aside.rename(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process changes the tables at a time."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
