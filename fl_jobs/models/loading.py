"""Trained weights into a network: safetensors only, exactly the tensors that the network has."""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from fl_jobs.errors import ModelFileError, SpecError


def decode_weights(data: bytes, title: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, floating-point ones in 32 bits. Raises ModelFileError."""
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"The trained weights “{title}” are not a readable safetensors file. Save them with "
            "safetensors.torch.save_file; files of torch.save are never read."
        ) from error
    return {k: v.to(torch.float32) if v.is_floating_point() else v for k, v in tensors.items()}


def load_exactly(network: nn.Module, found: Mapping[str, Tensor], title: str, *, without: str = "") -> None:
    """Load ``found`` into ``network``, whose tensors below ``without`` and counters stay as they are.

    Raises SpecError unless names and shapes are exactly the network's, with finite numbers.
    """
    wanted = {k: v for k, v in network.state_dict().items() if not is_left_out(k, without)}
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        parts = [f"lack {_some(missing)}"] if missing else []
        parts += [f"have {_some(extra)}, which it does not know"] if extra else []
        raise SpecError(
            f"The trained weights “{title}” do not fit this model: they {' and '.join(parts)}. "
            "Choose the weights or the settings that belong together."
        )
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            raise SpecError(
                f"The trained weights “{title}” do not fit this model: “{name}” has shape "
                f"{tuple(found[name].shape)}, not {tuple(value.shape)}. Choose the weights or the settings "
                "that belong together."
            )
        if not bool(torch.isfinite(found[name]).all()):
            raise SpecError(f"The trained weights “{title}” hold a number that is not finite in “{name}”.")
    network.load_state_dict(dict(found), strict=False)


def is_left_out(name: str, prefix: str) -> bool:
    """Whether a tensor belongs to a layer that is replaced, or counts the batches of a normalisation."""
    return bool(prefix and name.startswith(prefix)) or name.endswith("num_batches_tracked")


def fix_parameters(network: nn.Module) -> None:
    """Take every parameter that needs no gradient out of the model's state: neither trained, sent nor kept.

    It stays as a buffer and comes from the file of trained weights again whenever the model is built.
    """
    for module in list(network.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(module, name)
                module.register_buffer(name, parameter.detach(), persistent=False)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(f"“{name}”" for name in names[:2]) + more
