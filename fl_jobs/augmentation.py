"""Random changes of the images of a training batch; tables and texts stay as they are.

On the whole batch at once and from a generator of the caller's: MONAI's transforms work image by image and
cost more than the training step of a small network.
"""

import torch
from torch import Tensor

SHIFT = 26  # of 255: how far "strong" may brighten or darken


def augment(x: Tensor, mode: str, generator: torch.Generator) -> Tensor:
    """A changed copy of a batch of images in bytes (B × C × H × W); other inputs come back unchanged.

    Drawn on the CPU, so that the changes are the same on every device.
    """
    if x.dtype != torch.uint8 or mode == "none":
        return x
    for axis in (-1, -2):
        chosen = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(chosen.view(-1, 1, 1, 1).to(x.device), x.flip(axis), x)
    if mode == "strong":
        if x.shape[-1] == x.shape[-2]:
            chosen = torch.rand(len(x), generator=generator) < 0.5
            x = torch.where(chosen.view(-1, 1, 1, 1).to(x.device), x.transpose(-1, -2), x)
        shift = torch.randint(-SHIFT, SHIFT + 1, (len(x), 1, 1, 1), generator=generator)
        x = (x.short() + shift.short().to(x.device)).clamp(0, 255).to(torch.uint8)
    return x
