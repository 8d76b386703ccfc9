"""The models in memory: each loaded after both its files had the ordered SHA-256, then watched."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from fl_jobs.errors import FLJobError
from fl_jobs.packaging.spec import RunSpec
from site_kits.site_home import ServedArm, ServeOrder, SiteHome, file_sha256
from site_kits.translation import _

log = logging.getLogger("consilium.inference")

KEPT_MODELS = 4
_Look = tuple[int, int, int]  # inode, size, time of change in ns
_MAX_SPEC_BYTES = 4 * 2**20


class Model(Protocol):
    """What ``fl_jobs.predictor.Predictor`` can do."""

    def predict(self, records: list[Any]) -> list[Any]: ...


Loader = Callable[[RunSpec, ServedArm, Path | None, Path, Path], Model]


class ModelUnusableError(Exception):
    """A model cannot be served; ``state`` is "waiting" (a file is still coming) or "refused"."""

    def __init__(self, state: str, sentence: str) -> None:
        super().__init__(sentence)
        self.state = state


@dataclass(frozen=True)
class LoadedModel:
    """A model with what its files looked like when their digests were checked."""

    order: ServeOrder
    spec: RunSpec
    model: Model
    files: dict[Path, _Look]


def load_predictor(
    spec: RunSpec, arm: ServedArm, shared: Path | None, personal: Path, weights: Path
) -> Model:
    """``Predictor.load``; torch is imported here and nowhere else in this package."""
    import torch

    from fl_jobs.predictor import Predictor

    torch.set_num_threads(1)
    model: Model = Predictor.load(spec, arm, shared, personal, weights)
    return model


class ModelShelf:
    """A few loaded models, least recently used goes first. Used from one thread only."""

    def __init__(self, home: SiteHome, loader: Loader = load_predictor, kept: int = KEPT_MODELS) -> None:
        self._home, self._loader, self._kept = home, loader, kept
        self._loaded: OrderedDict[ServeOrder, LoadedModel] = OrderedDict()
        self._verdicts: dict[ServeOrder, tuple[list[_Look], str, str]] = {}

    def get(self, order: ServeOrder) -> LoadedModel:
        """The model of ``order``, loaded or reloaded when needed. Raises ModelUnusableError."""
        kept = self._loaded.pop(order, None)
        if kept is None or kept.files != {path: _look(path) for path in kept.files}:
            kept = self._load(order)
        self._loaded[order] = kept
        while len(self._loaded) > self._kept:
            self._loaded.popitem(last=False)
        return kept

    def keep_only(self, orders: tuple[ServeOrder, ...]) -> None:
        """Forget models that were withdrawn."""
        for order in [order for order in self._loaded if order not in orders]:
            del self._loaded[order]
        self._verdicts = {order: verdict for order, verdict in self._verdicts.items() if order in orders}

    def inspect(self, order: ServeOrder) -> tuple[str, str]:
        """("ready" | "waiting" | "refused", why). Files are read again only when they look different.

        Loads the model while there is room on the shelf, so that the first question is answered at once.
        """
        paths = [self._home.run_folder(order) / "run_spec.json", *self._files(order)]
        looks = [_look(path) for path in paths]
        kept = self._verdicts.get(order)
        if kept is None or kept[0] != looks:
            kept = (looks, *self._judge(order))
            self._verdicts[order] = kept
        return kept[1], kept[2]

    def _judge(self, order: ServeOrder) -> tuple[str, str]:
        try:
            if order in self._loaded or len(self._loaded) < self._kept:
                self.get(order)
            else:
                self._spec(order)
                for path, digest in self._files(order).items():
                    _verified(path, digest)
        except ModelUnusableError as exc:
            log.warning("%s: %s", order.study, exc)
            return exc.state, str(exc)
        return "ready", ""

    def _files(self, order: ServeOrder) -> dict[Path, str]:
        """The files of an order with the digests they must have."""
        files = {self._home.personal_part(order): str(order.personal_sha256)}
        if order.shared_sha256 is not None:
            files[self._home.artifact(order.shared_sha256)] = str(order.shared_sha256)
        return files

    def _load(self, order: ServeOrder) -> LoadedModel:
        spec = self._spec(order)
        personal = self._home.personal_part(order)
        shared = self._home.artifact(order.shared_sha256) if order.shared_sha256 else None
        files = {path: _verified(path, digest) for path, digest in self._files(order).items()}
        try:
            model = self._loader(spec, order.arm, shared, personal, self._home.weights)
        except (FLJobError, OSError) as exc:
            raise ModelUnusableError("refused", str(exc)) from exc
        if files != {path: _look(path) for path in files}:  # exchanged between the check and the load
            raise ModelUnusableError("refused", _("A model file changed while it was read. Ask again."))
        log.info("loaded %s %s %s", order.study, order.arm, order.version_label)
        return LoadedModel(order, spec, model, files)

    def _spec(self, order: ServeOrder) -> RunSpec:
        path = self._home.run_folder(order) / "run_spec.json"
        try:
            if path.stat().st_size > _MAX_SPEC_BYTES:
                raise ModelUnusableError("refused", _("{name} is too large.").format(name=path.name))
            spec = RunSpec.model_validate_json(path.read_bytes())
        except OSError as exc:
            raise ModelUnusableError(
                "refused", _("This site did not take part in the run this model comes from.")
            ) from exc
        except ValidationError as exc:
            raise ModelUnusableError("refused", _altered(path)) from exc
        if spec.digest() != order.run_digest:
            raise ModelUnusableError("refused", _altered(path))
        return spec


def _look(path: Path) -> _Look:
    """Inode, size and time of change; zeros when the file is gone."""
    try:
        facts = path.stat()
    except OSError:
        return (0, 0, 0)
    return (facts.st_ino, facts.st_size, facts.st_mtime_ns)


def _verified(path: Path, digest: str) -> _Look:
    look, is_shared = _look(path), path.parent.name == "sha256"
    if look == (0, 0, 0):
        if is_shared:
            raise ModelUnusableError("waiting", _("The shared part is still on its way from the portal."))
        raise ModelUnusableError(
            "refused",
            _("The personal part {name} is missing at this site; restore it.").format(name=path.name),
        )
    if file_sha256(path) != digest:
        raise ModelUnusableError("refused", _altered_shared() if is_shared else _altered(path))
    return look


def _altered_shared() -> str:
    return _(
        "The shared part on this site's disk is not the one that was approved (its SHA-256 differs), so it "
        "is not used. The site fetches it again from the portal; if this stays for a minute, tell its "
        "operator."
    )


def _altered(path: Path) -> str:
    return _(
        "The model file {name} on this site's disk is not the one that was approved (its SHA-256 differs), "
        "so it is not used. Restore it from a backup, or ask the administrator for a new run."
    ).format(name=path.name)
