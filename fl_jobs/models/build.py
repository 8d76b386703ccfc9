"""The model a specification names, built the same at every site."""

from importlib import import_module
from pathlib import Path

import torch

from fl_jobs.catalog import MODELS, validate_model
from fl_jobs.errors import SpecError
from fl_jobs.packaging.spec import RunSpec
from fl_jobs.split_model import SplitModel


def build_model(spec: RunSpec, weights: Path | None = None, *, shapes_only: bool = False) -> SplitModel:
    """A fresh model; it depends on the specification only: its seed, and the trained weights it names.

    ``weights`` is the site's folder of them. ``shapes_only``: the tensors have the right names and shapes,
    without a file; for a list of tensors, never to train or to answer. Raises SpecError, ModelFileError.
    """
    task = spec.study.task
    arguments = validate_model(spec.model.name, spec.model.arguments, task.kind)
    if arguments.get("weights") and weights is None and not shapes_only:
        raise SpecError("This model starts from trained weights. Name the folder that holds them.")
    module, _, function = MODELS[spec.model.name].path.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model: SplitModel = getattr(import_module(module), function)(
            task, arguments, None if shapes_only else weights
        )
    return model
