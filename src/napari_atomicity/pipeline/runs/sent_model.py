"""A model on its way to the workers, and on a worker."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._version import __version__
from ...core.errors import ModelError, require_extra
from ...core.model_card import ModelCard
from ...io.readers.read_limits import read_limits, set_read_limits
from ...models.files import find_model, read_card, read_tensors

if TYPE_CHECKING:
    from ...models.inference import Classifier

with require_extra("batch", "analysing on several processes"):
    from distributed.diagnostics.plugin import WorkerPlugin

_LEAVE_S = 0.3


@dataclass(frozen=True, eq=False)
class SentModel:
    """A model as it travels: its card, and the bytes of its weights."""

    card: dict[str, Any]
    weights: bytes
    device: str

    @classmethod
    def of(cls, model: str | Path, device: str) -> SentModel:
        """Read from its files and checked.

        Raises `ModelError` if it is missing or damaged.
        """
        path = find_model(model)
        card = read_card(path, ModelCard)
        read_tensors(path, card.sha256)
        return cls(card.to_dict(), path.read_bytes(), device)

    @property
    def key(self) -> str:
        """Of card, weights and device."""
        from ...io.files import to_json

        said = to_json([self.card, self.device]).encode() + self.weights
        return hashlib.sha256(said).hexdigest()[:16]


_models: dict[str, SentModel] = {}
_wanted_by: dict[str, set[str]] = {}
_loading = threading.Lock()


@lru_cache(maxsize=2)
def _load(key: str) -> Classifier:
    from safetensors.numpy import load

    from ...core.devices import choose_precision
    from ...models.inference import Classifier

    model = _models[key]
    device, half = choose_precision(model.device)
    return Classifier(ModelCard.from_dict(model.card), load(model.weights), device, half=half)


def classifier_of(key: str) -> Classifier:
    """On a worker: the model that was sent under this key.

    Raises `ModelError` if none was, or the device is not there.
    """
    if key not in _models:
        raise ModelError("the model did not reach this worker", advice="Start the run again")
    with _loading:
        return _load(key)


class ModelSender(WorkerPlugin):
    """Brings the model, and the limits for reading files, to each worker once.

    Workers that come later get them as well.
    """

    def __init__(self, model: SentModel, threads: int | None, run: str) -> None:
        self.name = f"atomicity-{run}"
        self._key, self._model, self._threads = model.key, model, threads
        self._version, self._limits = __version__, read_limits()

    def setup(self, worker: Any) -> None:
        """Store the model on a worker and limit its threads."""
        if self._version != __version__:
            raise RuntimeError(
                f"napari-atomicity {__version__} is on this worker ({socket.gethostname()}), "
                f"{self._version} where the run was started: install the same version"
            )
        set_read_limits(self._limits)
        _models[self._key] = self._model
        _wanted_by.setdefault(self._key, set()).add(self.name)
        if self._threads is None:
            return
        # A worker of this machine: Ctrl-C reaches it too, but who ends it is the run.
        import signal

        import torch

        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(self._threads)

    def teardown(self, worker: Any) -> None:
        """Remove the model from a worker; end a worker of this machine."""
        others = _wanted_by.get(self._key, set())
        others.discard(self.name)
        if not others:  # no other run on these workers needs it
            _models.pop(self._key, None)
            _load.cache_clear()
        if self._threads is not None:
            # Nothing is left to do there, and an interpreter with torch takes seconds to go.
            leave = threading.Timer(_LEAVE_S, os._exit, (0,))
            leave.daemon = True
            leave.start()
