"""The model a specification names, built the same at every site."""

from importlib import import_module

import torch

from fl_jobs.catalog import MODELS, validate_model
from fl_jobs.packaging.spec import RunSpec
from fl_jobs.split_model import SplitModel


def build_model(spec: RunSpec) -> SplitModel:
    """A fresh model; its weights depend on the specification's seed only. Raises SpecError."""
    task = spec.study.task
    arguments = validate_model(spec.model.name, spec.model.arguments, task.kind)
    module, _, function = MODELS[spec.model.name].path.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model: SplitModel = getattr(import_module(module), function)(task, arguments)
    return model
