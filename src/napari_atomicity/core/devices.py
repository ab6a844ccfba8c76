"""Devices for computation: selection, precision, memory, and loss of a device."""

from __future__ import annotations

import logging
import platform
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from .errors import ModelError
from .settings import CPU_BFLOAT16

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

# Patches per batch: a GPU is fastest with large batches.
_BATCH = {"cuda": 8192}
# Parts of error messages of a GPU that does not respond; "out of memory" is treated separately.
_LOSS_MESSAGES = ("cuda error", "cudnn_status", "cublas_status", "device-side", "no cuda gpus")
# Parts of error messages of the CUDA libraries when memory is not sufficient.
_OUT_OF_MEMORY_MESSAGES = ("out of memory", "alloc_failed")
_lost: set[str] = set()


def devices() -> dict[str, str]:
    """Return the available devices, name → description, without those lost in this process."""
    found = {"cpu": f"{torch.get_num_threads()} threads"}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return {name: text for name, text in found.items() if name not in _lost}


def choose_device(device: str = "auto") -> torch.device:
    """Return the device "cpu", "cuda" or "mps"; "auto" selects CUDA, then MPS, then the CPU.

    A GPU without free memory, or that does not respond, is passed over by "auto".

    Raises `ModelError` if the device is not available.
    """
    available = devices()
    if device == "auto":
        order = (d for d in ("cuda", "mps", "cpu") if d in available)
        return torch.device(next(d for d in order if _failure(d) is None))
    if device not in available:
        raise ModelError(
            f"the device {device!r} is not available",
            advice=f"Choose one of {', '.join(available)}, or auto",
        )
    if failure := _failure(device):
        raise ModelError(
            f"the device {device!r} can't be used: {failure}",
            advice="Close other programs that use it, or choose the device cpu",
        )
    return torch.device(device)


def _failure(device: str) -> str | None:
    """Return why nothing can be stored on a device, None if something can."""
    if device == "cpu":
        return None
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        _log.warning("the %s device can't be used: %s", device, reason)
        return reason
    return None


def batch_size(device: torch.device) -> int:
    """Return the number of patches per batch."""
    return _BATCH.get(device.type, 512)


def choose_precision(device: str) -> tuple[torch.device, torch.dtype | None]:
    """Return a device for a network of clusters, and the 16-bit data type of `CPU_BFLOAT16`.

    Raises `ModelError` if the device is not available, or the processor lacks bfloat16.
    """
    if device != CPU_BFLOAT16:
        return choose_device(device), None
    cpu = torch.device("cpu")
    x86 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if not (x86 or (platform.machine() in ("aarch64", "arm64") and multiplies_bfloat16(cpu))):
        raise ModelError("this processor does not compute in bfloat16", advice="Choose cpu")
    return cpu, torch.bfloat16


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16, which halves the time of a training."""
    if device.type == "cuda":
        return True
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that a smaller batch may succeed."""
    message = str(error).lower()
    known = isinstance(error, RuntimeError) and any(x in message for x in _OUT_OF_MEMORY_MESSAGES)
    return known or isinstance(error, torch.OutOfMemoryError)


def is_device_loss(error: Exception, device: torch.device) -> bool:
    """Return whether an error means that the device was lost."""
    if device.type == "cpu" or is_out_of_memory(error):
        return False
    if isinstance(error, getattr(torch, "AcceleratorError", ())):  # since PyTorch 2.8
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in message for part in _LOSS_MESSAGES)


def report_device_loss(device: torch.device, error: Exception) -> None:
    """Exclude a lost device for the rest of this process: CUDA does not recover from errors."""
    _lost.add(device.type)
    _log.warning(
        "the %s device is lost (%s): continuing on the CPU",
        device.type,
        str(error).splitlines()[0] if str(error) else type(error).__name__,
    )


def use_cpu_instead(error: Exception, device: torch.device) -> bool:
    """Return whether the CPU can do what a device could not: it is lost, or has no memory left."""
    if device.type != "cpu" and is_out_of_memory(error):
        release_memory(device)
        _log.warning("the %s device has no memory left: continuing on the CPU", device.type)
        return True
    if is_device_loss(error, device):
        report_device_loss(device, error)
        return True
    return False


def load_on(
    load: Any,  # the loader, cached by `functools.lru_cache`; its models have a ``device``
    device: torch.device,
    *arguments: Any,
) -> Any:
    """Load a model by a cached loader, again if it has left its device for want of memory."""
    found = load(*arguments)
    if found.device.type != device.type:
        load.cache_clear()
        found = load(*arguments)
    return found


@contextmanager
def named_device_errors(device: torch.device) -> Iterator[None]:
    """Raise `ModelError` instead if a device has no memory left, or is lost."""
    try:
        yield
    except RuntimeError as error:
        if is_device_loss(error, device):
            _lost.add(device.type)
        elif device.type == "cpu" or not is_out_of_memory(error):
            raise
        raise ModelError(
            f"the device {device.type!r} has no memory left, or does not respond",
            advice="Close other programs that use it, or choose the device cpu",
        ) from error


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def release_memory(device: torch.device) -> None:
    """Release cached memory of the device for other programs."""
    if device.type == "cuda" and device.type not in _lost:
        torch.cuda.empty_cache()
