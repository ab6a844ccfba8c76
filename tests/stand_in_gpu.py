"""A GPU that is not there: its tensors are computed by the CPU, but don't mix with the CPU's."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
"""What it is called: a device that PyTorch knows everywhere, and that has no values of its own."""
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class OnGpu(torch.Tensor):
    """A tensor there; it can't be read but by a copy to the CPU, or one value at a time."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner):
        out = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=DEVICE,
        )  # fmt: skip
        out.inner = inner
        return out

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} of a tensor on the GPU, without the GPU")


class StandInGpu(TorchDispatchMode):
    """While it is on, the device is there; tensors of two devices in an operation are an error.

    Attributes
    ----------
    sent, fetched
        Bytes that went there, and that came back.
    """

    def __init__(self):
        super().__init__()
        self.sent = self.fetched = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        there = [isinstance(x, OnGpu) for x in tensors]
        alike = all(on or x.ndim == 0 for on, x in zip(there, tensors, strict=True))
        if any(there) and not alike and function not in _COPIES:
            raise RuntimeError(f"{function}: tensors on two devices")
        asked = kwargs.get("device")
        if asked is not None:
            goes_there, kwargs["device"] = torch.device(asked) == DEVICE, torch.device("cpu")
        else:
            goes_there = there[0] if function in _COPIES else any(there)
        out = function(*_inner(args), **_inner(kwargs))
        if function in _COPIES:
            self.sent += _size(out) if goes_there and not there[-1] else 0
            self.fetched += _size(out) if there[-1] and not goes_there else 0
        return tree_map(
            lambda x: OnGpu(x) if goes_there and isinstance(x, torch.Tensor) else x, out
        )


def _inner(tree):
    return tree_map(lambda x: x.inner if isinstance(x, OnGpu) else x, tree)


def _size(x):
    return x.numel() * x.element_size()
