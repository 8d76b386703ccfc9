"""A network for short texts: hashed characters and pairs of characters, averaged by an embedding bag."""

from collections.abc import Mapping

from torch import Tensor, nn

from fl_jobs.packaging.spec import TaskSpec
from fl_jobs.split_model import Scaler, SplitModel


class HashedBag(nn.Module):
    """Mean embedding of the codes of a text. Code 0 is padding; codes are folded into ``buckets`` rows."""

    def __init__(self, buckets: int, dim: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.bag = nn.EmbeddingBag(buckets + 1, dim, mode="mean", padding_idx=0)
        nn.init.normal_(self.bag.weight, std=0.1)
        nn.init.zeros_(self.bag.weight[0].detach())

    def forward(self, codes_BL: Tensor) -> Tensor:
        folded_BL = (codes_BL - 1) % self.buckets + 1
        rows_BD: Tensor = self.bag(folded_BL.masked_fill(codes_BL == 0, 0))
        return rows_BD


def build(task: TaskSpec, arguments: Mapping[str, int | float]) -> SplitModel:
    """A model over the codes of :func:`fl_jobs.data.texts.encode_texts`."""
    dim, feature_dim = int(arguments["dim"]), int(arguments["feature_dim"])
    base = nn.Sequential(HashedBag(int(arguments["buckets"]), dim), nn.Linear(dim, feature_dim), nn.ReLU())
    return SplitModel(base, nn.Linear(feature_dim, len(task.labels)), Scaler(0))
