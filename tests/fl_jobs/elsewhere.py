"""A second device on every machine: its tensors hold values and mix with the CPU's as little as a GPU's do.

It goes by the name "meta", the one device beside the CPU that any build of torch knows. Inside ``Apart`` a
tensor moved there computes on the CPU, so results can be compared bit by bit; what a GPU refuses is refused:
an operation on tensors of both devices (single numbers of the CPU and copies aside), and ``numpy()``.
"""

import sys
import warnings
from contextlib import contextmanager

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

ELSEWHERE = torch.device("meta")
COPY = torch.ops.aten.copy_.default


class There(torch.Tensor):
    @staticmethod
    def __new__(cls, value):
        made = torch.Tensor._make_wrapper_subclass(
            cls, value.size(), strides=value.stride(), storage_offset=value.storage_offset(),
            dtype=value.dtype, device=ELSEWHERE,
        )  # fmt: skip
        made.value = value
        return made

    def data_ptr(self):
        return self.value.data_ptr()

    def numpy(self):
        raise TypeError("can't convert a tensor of another device to numpy. Use Tensor.cpu() first.")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside Apart")


class Apart(TorchDispatchMode):
    """``operations``: how many were done there."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = {id(one.value): one for one in given if isinstance(one, There)}
        here = [one for one in given if not isinstance(one, There) and one.dim()]
        if there and here and func is not COPY:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        on_there = torch.device(kwargs["device"]) == ELSEWHERE if kwargs.get("device") else bool(there)
        if kwargs.get("device"):
            kwargs["device"] = torch.device("cpu")
        self.operations += on_there
        made = func(*tree_map(_value, args), **tree_map(_value, kwargs))
        if func is COPY:
            return args[0]
        if there and torch.Tag.inplace_view in func.tags:
            with no_dispatch():  # the shape that is seen from outside
                func(*args, **kwargs)
        return tree_map(lambda one: _placed(one, there, on_there), made)


def _value(one):
    return one.value if isinstance(one, There) else one


def _placed(one, there, on_there):
    if not isinstance(one, torch.Tensor) or not on_there:
        return one
    return there[id(one)] if id(one) in there else There(one)


@contextmanager
def apart(monkeypatch):
    """``Apart``, with torch told what the name "meta" would make it do otherwise."""
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # a wrapped tensor has no place for its mark
    monkeypatch.setattr(
        sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"]
    )
    # a change of layout makes new parameters: writing it into the old ones would leave their values behind
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    with Apart() as mode, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")
        yield mode
