"""Inference: probabilities, embedding and class maps of all channels in one pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..progress import Progress, Stop, check, report
from .card import ModelCard
from .files import find_model, model_files, read_card, read_model
from .network import AtomicityNet

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of N patches and C classes.

    Parameters
    ----------
    probabilities
        (N, C), calibrated; NaN where the patch has no finite values.
    embedding
        (N, D) float32.
    class_maps
        Channel → (N, h, w) float32, of the most probable class.
    """

    probabilities: np.ndarray
    embedding: np.ndarray
    class_maps: dict[str, np.ndarray]


class Classifier:
    """A model on a device.

    Parameters
    ----------
    card
        Of the model.
    tensors
        Name → array: ``network.*``, the references ``reference.*``, and what `model.outside` needs,
        ``ood.*`` and ``outside.*``.
    device
        Where to compute.
    batch_size
        Patches at a time; halved by itself when the device's memory does not suffice.
    """

    def __init__(
        self,
        card: ModelCard,
        tensors: dict[str, np.ndarray],
        device: torch.device,
        batch_size: int = 512,
    ) -> None:
        self.card = card
        self.device = device
        self.batch_size = batch_size
        self.network = AtomicityNet(card.patches.channels, len(card.classes), card.width)
        weights = {
            k.removeprefix("network."): torch.from_numpy(np.array(v))
            for k, v in tensors.items()
            if k.startswith("network.")
        }
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise ModelError(
                f"the weights of {card.name!r} don't fit its card", advice=str(error)
            ) from error
        self.network.eval().to(device)
        self.reference_embedding = tensors.get("reference.embedding", np.empty((0, 0), np.float32))
        self.reference_label = tensors.get("reference.label", np.empty(0, np.int64))
        self.reference_map = tensors.get("reference.map", np.empty((0, 2), np.float32))
        self.beside = {k: v for k, v in tensors.items() if k.startswith(("ood.", "outside."))}
        bias = card.bias or (0.0,) * len(card.classes)
        self._bias = torch.tensor(bias, dtype=torch.float32, device=device)

    def predict(
        self,
        patches: dict[str, np.ndarray],
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> Prediction:
        """Classify patches.

        Parameters
        ----------
        patches
            Channel → (N, P, P) float32, as of `detection.patches.extract_patches`.
        progress, stop
            Called between batches.

        Returns
        -------
        Prediction
            Probabilities, embedding, class maps of the most probable class.

        Raises
        ------
        ModelError
            If a channel is missing or has the wrong size.
        Cancelled
            If ``stop()`` says so.
        """
        n = self._check(patches)
        parts: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
        done = 0
        while done < n or not parts:
            check(stop)
            report(progress, done, n, "Classifying")
            count = min(self.batch_size, n - done)
            try:
                parts.append(self._forward(patches, slice(done, done + count), None))
            except torch.cuda.OutOfMemoryError:
                if self.batch_size == 1:
                    raise ModelError(
                        "the GPU has no memory left for a single patch",
                        advice="Close other programs that use it, or choose the device cpu",
                    ) from None
                torch.cuda.empty_cache()
                self.batch_size = max(1, self.batch_size // 2)
                _log.warning("out of GPU memory: going on with batches of %d", self.batch_size)
                continue
            done += count
        report(progress, n, n, "Classifying")
        probabilities = torch.cat([p for p, _, _ in parts]).numpy().astype(np.float64)
        embedding = torch.cat([e for _, e, _ in parts]).numpy()
        bad = ~np.isfinite(embedding).all(axis=1)
        probabilities[bad] = np.nan
        maps = {c: torch.cat([m[c] for _, _, m in parts]).numpy() for c in self.network.channels}
        return Prediction(probabilities, embedding, maps)

    def class_maps(self, patches: dict[str, np.ndarray], label: str) -> dict[str, np.ndarray]:
        """Grad-CAM of a chosen class: channel → (N, h, w) float32.

        Raises
        ------
        ModelError
            If the model has no such class.
        """
        if label not in self.card.classes:
            raise ModelError(
                f"{self.card.name!r} has no class {label!r}",
                advice=f"Its classes are {', '.join(self.card.classes)}",
            )
        index = self.card.classes.index(label)
        n = self._check(patches)
        parts = [
            self._forward(patches, slice(i, min(i + self.batch_size, n)), index)[2]
            for i in range(0, max(n, 1), self.batch_size)
        ]
        return {c: torch.cat([m[c] for m in parts]).numpy() for c in self.network.channels}

    def _check(self, patches: dict[str, np.ndarray]) -> int:
        size = self.card.patches.size_px
        for channel in self.network.channels:
            if channel not in patches:
                raise ModelError(f"{self.card.name!r} needs the channel {channel!r}")
            if patches[channel].shape[1:] != (size, size):
                raise ModelError(
                    f"{self.card.name!r} needs patches of {size} × {size} pixels, "
                    f"not {patches[channel].shape[1:]}"
                )
        return len(patches[self.network.channels[0]])

    @torch.inference_mode()
    def _forward(
        self, patches: dict[str, np.ndarray], rows: slice, of_class: int | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        batch = {
            c: torch.from_numpy(np.ascontiguousarray(patches[c][rows], dtype=np.float32)).to(
                self.device
            )
            for c in self.network.channels
        }
        output = self.network(batch)
        probabilities = torch.softmax(output.logits / self.card.temperature + self._bias, dim=1)
        if of_class is None:
            classes = probabilities.argmax(dim=1)
        else:
            classes = torch.full((len(probabilities),), of_class, device=self.device)
        maps = self.network.class_maps(output.maps, classes)
        return (
            probabilities.float().cpu(),
            output.embedding.float().cpu(),
            {c: m.float().cpu() for c, m in maps.items()},
        )


def choose_device(device: str = "auto") -> torch.device:
    """The device of that name; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    ModelError
        If it is not there.
    """
    at_hand = devices()
    if device == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if d in at_hand))
    if device not in at_hand:
        raise ModelError(
            f"there is no device {device!r} here",
            advice=f"Choose one of {', '.join(at_hand)}, or auto",
        )
    return torch.device(device)


def devices() -> dict[str, str]:
    """Devices at hand: name → description."""
    found = {"cpu": f"{torch.get_num_threads()} threads"}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def load_classifier(model: str | Path = "default", device: str = "auto") -> Classifier:
    """A model, ready to predict; kept in memory for the next call.

    Parameters
    ----------
    model
        "default" (dual channel), "raw" (single channel), another name that `atomicity models`
        lists, or the path of a .safetensors file.
    device
        "auto", "cpu", "cuda" or "mps".

    Raises
    ------
    ModelError
        If the model is missing or damaged, or the device is not there.
    """
    path = find_model(model).resolve()
    return _load(path, path.stat().st_mtime_ns, str(choose_device(device)))


@lru_cache(maxsize=4)
def _load(path: Path, _modified: int, device: str) -> Classifier:
    card, tensors = read_model(path)
    return Classifier(card, tensors, torch.device(device))


def available_models() -> list[ModelCard]:
    """Cards of the shipped models and of those in the user's model folder; damaged ones are left
    out with a warning."""
    cards = []
    for path in model_files():
        try:
            cards.append(read_card(path))
        except ModelError as error:
            _log.warning("%s", error)
    return cards
