"""Inference on a processor or a GPU: probabilities, embedding and class maps in one pass.

How a batch travels: patches (`core.patches`) are cut into batches that suit the device
(`core.devices`). On a GPU a batch is copied through pinned memory. On a processor each core
computes a piece that fits its cache (`core.threads`), in 16-bit numbers if asked to; patches whose
two best classes are close are then computed again in 32-bit numbers, so that the label does not
depend on the precision. If the memory does not suffice, the batch is halved; if it does not suffice
for one patch, or the device is lost, the network goes on on the processor. The network itself is
`models.network`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.devices import (
    batch_size as usual_batch_size,
    choose_precision,
    is_out_of_memory,
    load_on,
    release_memory,
    synchronize,
    use_cpu_instead,
)
from ..core.errors import ModelError, naming_file
from ..core.model_card import ModelCard
from ..core.patches import Patches
from ..core.progress import Progress, Stop, checked, report
from ..core.settings import CPU_BFLOAT16
from ..core.threads import parallel_map
from .files import find_model, read_model
from .network import new_network

_Part = tuple[Tensor, Tensor, dict[str, Tensor]]  # probabilities, embedding, class maps
# Patches that a core of a processor computes at a time: it is fastest while they stay in its cache
# (measured, see docs/explanation/performance.md).
_PIECE = 32
_log = logging.getLogger(__name__)
# Short numbers change a probability by less than 0.01: two of them by less than twice that.
_CLOSE = 0.03


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction of the network for N patches and C classes."""

    probabilities: np.ndarray  # (N, C): calibrated; NaN where the patch has no finite values
    embedding: np.ndarray  # (N, D): Float32
    class_maps: dict[str, np.ndarray]  # channel → (N, h, w) float32, of the most probable class


class Classifier:
    """A model on a device.

    Parameters
    ----------
    tensors : dict of str to ndarray
        Name → array: ``network.*``, the references ``reference.*``, and what
        `models.out_of_distribution` needs, ``ood.*`` and ``outside.*``.
    batch_size : int, optional
        Patches at a time, None for what suits the device; halved by itself when the device's
        memory does not suffice.
    half : torch.dtype, optional
        Short floating point numbers that a processor computes with. The best class is that of
        float32: a patch whose best two are close to each other is computed again.
    """

    half: torch.dtype | None = None

    def __init__(
        self,
        card: ModelCard,
        tensors: dict[str, np.ndarray],
        device: torch.device,
        batch_size: int | None = None,
        half: torch.dtype | None = None,
    ) -> None:
        self.card = card
        self.device = device
        self.batch_size = batch_size or usual_batch_size(device)
        self.half = half
        self.network = new_network(card)
        weights = {
            k.removeprefix("network."): torch.from_numpy(np.array(v))
            for k, v in tensors.items()
            if k.startswith("network.")
        }
        try:
            self.network.load_state_dict(weights)
            # What is on a device that is lost can't be read any more.
            self._weights = {k: v.clone() for k, v in self.network.state_dict().items()}
        except RuntimeError as error:
            raise ModelError(
                f"the weights of {card.name!r} don't fit its card",
                advice="Get the model again",
            ) from error
        self.network.eval()
        self._move(device)
        self.reference_embedding = tensors.get("reference.embedding", np.empty((0, 0), np.float32))
        self.reference_label = tensors.get("reference.label", np.empty(0, np.int64))
        self.reference_map = tensors.get("reference.map", np.empty((0, 2), np.float32))
        self.ood_tensors = {k: v for k, v in tensors.items() if k.startswith(("ood.", "outside."))}

    @property
    def device_name(self) -> str:
        """Name of the device for the record of an analysis, with the numbers that it computes."""
        on_cpu = self.device.type == "cpu"
        return CPU_BFLOAT16 if on_cpu and self.half is not None else str(self.device)

    def _move(self, device: torch.device) -> None:
        bias = self.card.bias or (0.0,) * len(self.card.classes)
        self.network.to(device)
        self._bias = torch.tensor(bias, dtype=torch.float32, device=device)
        self.device = device

    def predict(
        self,
        patches: Patches,
        progress: Progress | None = None,
        stop: Stop | None = None,
        *,
        symmetries: bool = False,
    ) -> Prediction:
        """Classify patches.

        Parameters
        ----------
        patches : mapping of str to ndarray
            Channel → (N, P, P) float32, as of `detection.patches.extract_patches`.
        symmetries : bool, optional
            Whether to average over the eight symmetries of the square, at eight times the cost:
            how a cluster lies then makes no difference.

        Returns
        -------
        Prediction
            Probabilities, embedding, class maps of the most probable class.

        Raises
        ------
        ModelError
            If a channel is missing or has the wrong size.
        """
        parts = self._all_parts(patches, None, symmetries, checked(progress, stop))
        probabilities = torch.cat([p for p, _, _ in parts]).numpy().astype(np.float64)
        embedding = torch.cat([e for _, e, _ in parts]).numpy()
        bad = ~np.isfinite(embedding).all(axis=1)
        probabilities[bad] = np.nan
        maps = {c: torch.cat([m[c] for _, _, m in parts]).numpy() for c in self.network.channels}
        return Prediction(probabilities, embedding, maps)

    def _all_parts(
        self,
        patches: Patches,
        of_class: int | None,
        symmetries: bool,
        progress: Progress | None = None,
    ) -> list[_Part]:
        """Apply the network to all patches, batch by batch."""
        n = self._check(patches)
        parts: list[_Part] = []
        done = 0
        try:
            while done < n or not parts:
                report(progress, done, n, "Classifying")
                rows = slice(done, min(done + self.batch_size, n))
                found = self._attempt(patches, rows, of_class, symmetries)
                if found is not None:
                    parts += found
                    done = rows.stop
        finally:
            release_memory(self.device)
        report(progress, n, n, "Classifying")
        return parts

    def _attempt(
        self, patches: Patches, rows: slice, of_class: int | None, symmetries: bool
    ) -> list[_Part] | None:
        """One batch, in parts; None if it is to be tried again: smaller, or elsewhere."""
        try:
            return self._forward(patches, rows, of_class, symmetries)
        except RuntimeError as error:
            if is_out_of_memory(error) and self.batch_size > 1:
                self._take_less(rows.stop - rows.start)
                return None
            if not use_cpu_instead(error, self.device):
                raise
            self._go_on_without(torch.device("cpu"))
        return None

    def _take_less(self, count: int) -> None:
        """Halve the batch, of which there may be less to do than it holds."""
        release_memory(self.device)
        self.batch_size = (min(self.batch_size, count) + 1) // 2
        _log.warning("out of GPU memory: going on with batches of %d", self.batch_size)

    def _go_on_without(self, device: torch.device) -> None:
        """Move the network to another device, from the copy of its weights."""
        fresh = new_network(self.card)
        fresh.load_state_dict(self._weights)
        self.network = fresh.eval()
        self._move(device)
        self.batch_size = usual_batch_size(device)

    def class_maps(
        self,
        patches: Patches,  # channel → (N, P, P) float32
        label: str,
        *,
        symmetries: bool = False,
    ) -> dict[str, np.ndarray]:  # channel → (N, h, w) float32
        """Compute Grad-CAM of a chosen class.

        Raises `ModelError` if the model has no such class.
        """
        if label not in self.card.classes:
            raise ModelError(
                f"{self.card.name!r} has no class {label!r}",
                advice=f"Its classes are {', '.join(self.card.classes)}",
            )
        index = self.card.classes.index(label)
        parts = self._all_parts(patches, index, symmetries)
        return {c: torch.cat([m[c] for _, _, m in parts]).numpy() for c in self.network.channels}

    def _check(self, patches: Patches) -> int:
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

    def _forward(
        self, patches: Patches, rows: slice, of_class: int | None, symmetries: bool
    ) -> list[_Part]:
        if self.device.type != "cpu":
            return [self._part(patches, rows, of_class, symmetries)]
        n = rows.stop - rows.start
        # An even number of equal pieces, unless they are tiny: cores finish together.
        number = 2 * -(-n // (2 * _PIECE)) if n > _PIECE // 2 else 1
        ends = np.linspace(rows.start, rows.stop, number + 1).astype(int).tolist()
        pieces = [slice(start, stop) for start, stop in pairwise(ends)]
        return parallel_map(lambda own: self._part(patches, own, of_class, symmetries), pieces)

    @torch.inference_mode()
    def _part(self, patches: Patches, rows: slice, of_class: int | None, symmetries: bool) -> _Part:
        batch = {c: self._on_device(patches[c][rows]) for c in self.network.channels}
        found = self._computed(batch, of_class, self.half, symmetries)
        if self.half is not None:
            found = self._with_close_calls(found, batch, of_class, symmetries)
        probabilities, embedding, maps = found
        # All on their way together, through pinned memory, and waited for once.
        back = [
            x.to("cpu", non_blocking=True)
            for x in (probabilities, embedding, *(maps[c] for c in self.network.channels))
        ]
        synchronize(self.device)
        return back[0], back[1], dict(zip(self.network.channels, back[2:], strict=True))

    def _on_device(self, patches: np.ndarray) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(patches, dtype=np.float32))
        if self.device.type == "cuda":  # the copy then runs beside what is computed
            return values.pin_memory().to(self.device, non_blocking=True)
        return values.to(self.device)

    def _computed(
        self,
        batch: dict[str, Tensor],
        of_class: int | None,
        half: torch.dtype | None,
        symmetries: bool = False,
    ) -> _Part:
        """Probabilities, embedding and class maps, float32, on the device."""
        with torch.autocast(self.device.type, dtype=half, enabled=half is not None):
            output = self.network(batch, symmetries)
        logits = output.logits.float()
        probabilities = torch.softmax(logits / self.card.temperature + self._bias, dim=1)
        if of_class is None:
            classes = probabilities.argmax(dim=1)
        else:
            classes = torch.full((len(probabilities),), of_class, device=self.device)
        maps = self.network.class_maps({c: m.float() for c, m in output.maps.items()}, classes)
        return probabilities, output.embedding.float(), maps

    def _with_close_calls(
        self,
        found: _Part,
        batch: dict[str, Tensor],
        of_class: int | None,
        symmetries: bool,
    ) -> _Part:
        """Recompute with float32 where half precision might change the label."""
        probabilities, embedding, maps = found
        if probabilities.shape[1] < 2 or not len(probabilities):
            return found
        best = probabilities.topk(2, dim=1).values
        sure = (best[:, 0] - best[:, 1] >= _CLOSE) & torch.isfinite(embedding).all(dim=1)
        close = torch.nonzero(~sure)[:, 0]
        if len(close):
            chosen = {c: x[close] for c, x in batch.items()}
            again = self._computed(chosen, of_class, None, symmetries)
            probabilities[close], embedding[close] = again[0], again[1]
            for channel, values in again[2].items():
                maps[channel][close] = values
        return probabilities, embedding, maps


def load_classifier(
    # "default" (dual channel), "raw" (single channel), another name that `atomicity models` lists,
    # or the path of a .safetensors file
    model: str | Path = "default",
    device: str = "auto",  # "auto", "cpu", "cpu-bf16", "cuda" or "mps"
) -> Classifier:
    """Load a model; it is cached for the next call.

    Raises `ModelError` if the model is missing or damaged, or the device is not there.
    """
    path = find_model(model).resolve()
    modified, (where, half) = path.stat().st_mtime_ns, choose_precision(device)
    try:
        return load_on(_load, where, path, modified, str(where), half)
    except RuntimeError as error:
        if not use_cpu_instead(error, where):
            raise
        return _load(path, modified, "cpu")


@lru_cache(maxsize=4)
def _load(path: Path, _modified: int, device: str, half: torch.dtype | None = None) -> Classifier:
    card, tensors = read_model(path)
    with naming_file(path):
        return Classifier(card, tensors, torch.device(device), half=half)
