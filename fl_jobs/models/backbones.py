"""MONAI's image networks as base: normalisation that sites can share, and a projection of the feature.

Trained weights are a safetensors file of the MONAI network's ``state_dict`` under its own names (for
ResNet-18 these are torchvision's), whatever its number of labels: its last layer is not read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.efficientnet import EfficientNetBN
from monai.networks.nets.resnet import resnet18
from torch import Tensor, nn
from torch.nn import functional

from fl_jobs.models.loading import decode_weights, is_left_out, load_exactly
from fl_jobs.models.norms import replace_batch_norms
from fl_jobs.packaging.spec import TaskSpec
from fl_jobs.split_model import Scaler, SplitModel
from fl_jobs.weights import read_weights

Arguments = Mapping[str, Any]
COLOURS = 3
PADDING = "_padding"


class SamePadding(nn.Module):
    """Zeros around a map so that a convolution of stride s gives 1/s of its sides, rounded up.

    MONAI's EfficientNet works its padding out for one square size and fails on smaller images.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.kernel, self.stride = convolution.kernel_size, convolution.stride

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for axis in (-1, -2):
            side, kernel, stride = x.shape[axis], self.kernel[axis], self.stride[axis]
            missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [missing // 2, missing - missing // 2]
        return functional.pad(x, pads)


def build_resnet18(task: TaskSpec, arguments: Arguments, weights: Path | None) -> SplitModel:
    """He et al., CVPR 2016; stem of stride 2 and no bias in the shortcuts, as in the paper."""
    network = resnet18(
        spatial_dims=2, n_input_channels=task.channels, num_classes=1, conv1_t_stride=2, bias_downsample=False
    )
    return _finish(network, "fc", task, arguments, weights)


def build_densenet121(task: TaskSpec, arguments: Arguments, weights: Path | None) -> SplitModel:
    """Huang et al., CVPR 2017. Odd sides are rounded up between blocks, so that 8 pixels are enough."""
    network = DenseNet121(spatial_dims=2, in_channels=task.channels, out_channels=1)
    for module in network.modules():
        if isinstance(module, nn.AvgPool2d):
            module.ceil_mode = True
    return _finish(network, "class_layers.out", task, arguments, weights)


def build_efficientnet_b0(task: TaskSpec, arguments: Arguments, weights: Path | None) -> SplitModel:
    """Tan and Le, ICML 2019."""
    network = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=task.channels)
    network._dropout.p = 0.0  # ours stands before the projection
    for block in list(network.modules()):
        for name, _ in list(block.named_children()):
            convolution = getattr(block, name.removesuffix(PADDING))
            if name.endswith(PADDING) and isinstance(convolution, nn.Conv2d):
                setattr(block, name, SamePadding(convolution))
    return _finish(network, "_fc", task, arguments, weights)


def _finish(
    network: nn.Module, last: str, task: TaskSpec, arguments: Arguments, weights: Path | None
) -> SplitModel:
    """``last`` names the network's own last layer; the projection to the feature takes its place."""
    if weights is not None and arguments["weights"]:
        _load(network, last + ".", read_weights(weights, arguments["weights"]), arguments["weights"])
    replace_batch_norms(network, arguments["norm"])
    parent_name, _, name = last.rpartition(".")
    parent, feature_dim = network.get_submodule(parent_name), int(arguments["feature_dim"])
    width = getattr(parent, name).in_features
    dropout = nn.Dropout(float(arguments["dropout"]))
    setattr(parent, name, nn.Sequential(dropout, nn.Linear(width, feature_dim), nn.ReLU()))
    return SplitModel(network, nn.Linear(feature_dim, len(task.labels)), Scaler(task.channels))


def _load(network: nn.Module, last: str, data: bytes, title: str) -> None:
    """The weights of all layers but the last. Raises ModelFileError, SpecError.

    A stem for three colours is summed to one for grey images: the same as showing it the grey image three
    times.
    """
    found = {k: v for k, v in decode_weights(data, title).items() if not is_left_out(k, last)}
    stem, value = next(iter(network.state_dict().items()))
    if stem in found and value.shape[1] == 1 and found[stem].shape[1:2] == (COLOURS,):
        found[stem] = found[stem].sum(dim=1, keepdim=True)
    load_exactly(network, found, title, without=last)
