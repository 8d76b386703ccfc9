"""Which device a site computes on: a property of its machine, never of a run."""

import os
import re

import torch
from torch import nn

from fl_jobs.errors import DeviceError

VARIABLE = "CONSILIUM_DEVICE"
CPU = torch.device("cpu")
_NAME = re.compile(r"auto|cpu|cuda(?::(\d{1,3}))?")


def site_device() -> torch.device:
    """What the site's operator chose in CONSILIUM_DEVICE; ``auto``, the default, is a GPU if torch sees one.

    On a GPU the process is set to repeat its steps to the last bit. Raises DeviceError.
    """
    wished = os.environ.get(VARIABLE, "").strip() or "auto"
    match = _NAME.fullmatch(wished)
    if match is None:
        raise DeviceError(
            f"{VARIABLE} is “{wished[:40]}”. Set it to auto, cpu, cuda or cuda:N, then start the site again."
        )
    if wished == "cpu":
        return CPU
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as nvidia-smi numbers; CUDA: fastest first
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wished == "auto" and not count:
        return CPU
    number = int(match[1] or 0)
    if number >= count:
        raise DeviceError(
            f"{VARIABLE} is “{wished}”, and the number of GPUs that torch sees here is {count}. Check the "
            f"driver with nvidia-smi, name another GPU, or set {VARIABLE}=cpu; then start the site again."
        )
    _repeat_steps()
    return torch.device("cuda", number)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's numbers are; its inputs have to be there too."""
    return next(model.parameters()).device


def _repeat_steps() -> None:
    """Otherwise sums change their order from run to run, and convolutions keep ten bits of a float32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the GPU is first used
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False
