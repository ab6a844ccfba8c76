"""Cases that end badly, to test that the harness sees it."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np

from fuzz.kinds import Attempt, Lost
from napari_atomicity import AtomicityError


def _raise(error: Exception) -> None:
    raise error


ATTEMPTS: dict[str, Attempt] = {
    "raw": partial(_raise, ValueError("x")),
    "unnamed": partial(_raise, AtomicityError("something is wrong")),
    "lost": partial(_raise, Lost("a correction")),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": partial(time.sleep, 600),
    "memory": lambda: bytearray(20_000_000_000),
}
EXPECTED = {
    "raw": "raw exception", "unnamed": "raw exception", "lost": "lost", "crash": "crash",
    "memory": "memory", "hang": "hang",
}  # fmt: skip


def make(end: str, _samples: Path, _folder: Path, _rng: np.random.Generator) -> Attempt:
    """A case that ends so, whatever its seed."""
    return ATTEMPTS[end]


ENDS = {end: partial(make, end) for end in ATTEMPTS}
