"""Where to compute, in which precision, and what becomes of the work when a device goes away."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from .errors import ModelError

_log = logging.getLogger(__name__)

# Patches at a time: a GPU is fastest when it has enough to do.
_BATCH = {"cuda": 4096}
# What a GPU that is gone says of itself, beside "out of memory", which is another matter.
_SIGNS_OF_LOSS = ("cuda error", "cudnn_status", "cublas_status", "device-side", "no cuda gpus")
# The libraries of CUDA say in words of their own that memory does not suffice.
_SIGNS_OF_NO_MEMORY = ("out of memory", "alloc_failed")
_lost: set[str] = set()
_STRIP_VALUES = 1 << 22  # of 4 bytes, sent at a time


def devices() -> dict[str, str]:
    """Devices at hand: name → description; one that was lost in this process is not."""
    found = {"cpu": f"{torch.get_num_threads()} threads"}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return {name: words for name, words in found.items() if name not in _lost}


def choose_device(device: str = "auto") -> torch.device:
    """The device of that name; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    ModelError
        If it is not there.
    """
    available = devices()
    if device == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if d in available))
    if device not in available:
        raise ModelError(
            f"there is no device {device!r} here",
            advice=f"Choose one of {', '.join(available)}, or auto",
        )
    return torch.device(device)


def batch_size(device: torch.device) -> int:
    """Patches that are computed at a time."""
    return _BATCH.get(device.type, 512)


def half_precision(device: torch.device) -> torch.dtype | None:
    """The short floating point numbers that the device computes fast with; None: it has none."""
    # float16, not bfloat16: as fast, and its probabilities are ten times nearer to float32's.
    return torch.float16 if device.type == "cuda" else None


class DeviceLostError(RuntimeError):
    """What lay on a device is gone with it; it can be made again elsewhere."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that less at a time may do."""
    words = str(error).lower()
    known = isinstance(error, RuntimeError) and any(x in words for x in _SIGNS_OF_NO_MEMORY)
    return known or isinstance(error, torch.OutOfMemoryError)


def is_device_loss(error: Exception, device: torch.device) -> bool:
    """Whether an error means that the device is gone, and not that something is wrong with us."""
    if device.type == "cpu" or is_out_of_memory(error):
        return False
    if isinstance(error, getattr(torch, "AcceleratorError", ())):  # since PyTorch 2.8
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in words for sign in _SIGNS_OF_LOSS)


def report_device_loss(device: torch.device, error: Exception) -> None:
    """Nobody asks for this device again in this process: CUDA does not recover from its errors."""
    _lost.add(device.type)
    _log.warning(
        "the %s device can't be used any more (%s): going on with the CPU",
        device.type,
        str(error).splitlines()[0] if str(error) else type(error).__name__,
    )


def upload(values: np.ndarray, device: torch.device) -> Tensor:
    """An array (Y, ...) on the device, sent in strips: one is pinned while another is on its way.

    Pinned memory is what a GPU reads by itself; it stays with PyTorch for the next time.
    """
    whole = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cpu":
        return whole
    out = torch.empty_like(whole, device=device)
    rows = max(1, _STRIP_VALUES // max(1, whole[:1].numel()))
    for strip, there in zip(whole.split(rows), out.split(rows), strict=True):
        pinned = strip.pin_memory() if device.type == "cuda" else strip
        there.copy_(pinned, non_blocking=True)
    return out


def synchronize(device: torch.device) -> None:
    """Until the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def release_memory(device: torch.device) -> None:
    """Let other programs have the memory that is kept for the next computation."""
    if device.type == "cuda" and device.type not in _lost:
        torch.cuda.empty_cache()
