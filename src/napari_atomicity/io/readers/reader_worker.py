"""The process of `reader_process`: reads the files that it is asked for."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...core.errors import AtomicityError
from ...core.micrograph import Micrograph
from .lazy import is_large, pixels_of
from .raw_image import RawImage, metadata_value
from .reader_process import too_much_memory

_CHECK_S = 0.5
_GRACE_S = 5.0
"""Time after the limit until the system ends the process if the main process has died."""


def serve() -> None:
    """Read files until the standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the main process decides
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not mix with the replies
    replies.write(b"ready\n")
    replies.flush()
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        _limit(request["seconds"], request["memory"])
        _answer(request, replies)
        _limit(0, request["memory"])


def _end_with_parent(parent: int) -> None:
    """End this process, also while it reads a file, when the main process has ended."""
    import psutil

    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(_CHECK_S)
    os._exit(1)


def _limit(seconds: float, memory: int) -> None:
    """Limit time and memory where the system can."""
    if hasattr(signal, "setitimer"):  # by default the signal ends the process
        signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE_S if seconds else 0)
    with suppress(ImportError, ValueError, OSError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))


def _answer(request: dict[str, Any], replies: IO[bytes]) -> None:
    """Read a file and send the image or the error."""
    path = Path(os.fsdecode(bytes.fromhex(request["path"])))
    data = None
    try:
        module, _, name = request["function"].partition(":")
        read = getattr(import_module(module), name)
        data, about = _packed(read(path), path)
    except AtomicityError as error:
        about = _error(error)
    except MemoryError:
        about = _error(too_much_memory(path, request["memory"]))
    except PermissionError as error:
        about = {"error": "PermissionError", "text": str(error)}
    except Exception as error:  # libraries raise any exception for damaged files
        about = {"error": "", "text": f"{type(error).__name__}: {error}"[:2000]}
    replies.write(json.dumps(about, default=metadata_value).encode() + b"\n")
    if data is not None:
        replies.write(data.reshape(-1).view(np.uint8).data)
    replies.flush()


def _error(error: AtomicityError) -> dict[str, Any]:
    where = None if error.path is None else str(error.path)
    kind, advice = type(error).__name__, error.advice
    return {"error": kind, "text": error.what, "path": where, "advice": advice}


def _packed(recording: RawImage, path: Path) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Return the array, None for images that are read in parts, and the rest for JSON."""
    pixels = pixels_of(recording, path)
    in_file = isinstance(pixels, np.memmap) or not isinstance(pixels, np.ndarray)
    if in_file and is_large(pixels.shape):
        Micrograph(pixels)  # looks for a finite value
        return None, {"large": True}
    data = np.ascontiguousarray(pixels)
    scales = {
        name: None if scale is None else [float(scale.value), scale.unit]
        for name, scale in (("y", recording.y), ("x", recording.x))
    }
    about = {"calibration": recording.calibration, "metadata": recording.metadata, **scales}
    return data, {"dtype": data.dtype.str, "shape": data.shape, **about}
