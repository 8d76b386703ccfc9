"""Which tensors of a model leave a site and which stay; nothing that is not declared shared ever leaves."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from fl_jobs.errors import SharedStateError
from fl_jobs.packaging.spec import Lane

VARIANCE, MEAN = "running_var", "running_mean"


class Parts(nn.Module):
    """A model whose floating-point tensors under ``shared_prefixes`` leave the site.

    All others belong to the site and are written to its own disk only. Counters of normalisation layers are
    whole numbers: they cannot be averaged under masks and stay.
    """

    shared_prefixes: ClassVar[tuple[str, ...]] = ("base.", "head.")

    def shared_state(self) -> dict[str, Tensor]:
        """A view of the tensors that leave the site in "train"."""
        return {k: v for k, v in self.state_dict().items() if self.is_shared(k, v)}

    def personal_state(self) -> dict[str, Tensor]:
        """A view of the tensors that stay at the site; together with the shared ones they are the model."""
        return {k: v for k, v in self.state_dict().items() if not self.is_shared(k, v)}

    def is_shared(self, name: str, value: Tensor) -> bool:
        return name.startswith(self.shared_prefixes) and value.is_floating_point()

    def shared_sums(self) -> dict[str, tuple[Tensor, Lane]]:
        """The shared tensors as they are summed, weighted with the site's number of cases.

        A running variance travels as second moment: the fold takes the square of the mean off again, so that
        the common variance is the mean of variances plus the variance of means.
        """
        state = self.shared_state()
        sums: dict[str, tuple[Tensor, Lane]] = {}
        for name, value in state.items():
            mean = state.get(name.removesuffix(VARIANCE) + MEAN) if name.endswith(VARIANCE) else None
            sums[name] = (value if mean is None else value + mean.square(), "samples")
        return sums

    def load_shared(self, aggregate: Mapping[str, Tensor]) -> None:
        """Load an aggregate. Raises SharedStateError unless names and shapes agree exactly."""
        expected = {name: value.shape for name, value in self.shared_state().items()}
        if expected != {name: value.shape for name, value in aggregate.items()}:
            raise SharedStateError(
                "The aggregate does not fit this model. Start the run again from its start."
            )
        self.load_state_dict(dict(aggregate), strict=False)


def trainable(*modules: nn.Module) -> list[nn.Parameter]:
    """Parameters of ``modules`` that the model itself has not frozen, as a pretrained base may be."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]
