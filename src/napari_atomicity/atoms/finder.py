"""The atom model: networks and card, from a file to a map of scores and to candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fusion

from ..core.devices import choose_device
from ..core.errors import ModelError
from ..core.progress import Progress, Stop, check, report
from ..models.files import find_model, read_tensors, save_model
from ..models.symmetries import apply_symmetry, undo_symmetry
from .candidates import contrast_channels, find_local_maxima
from .card import SAMPLING_NM, SHIPPED, AtomCard, read_atom_card
from .network import AtomNet, pad_to_stride

SAME_SAMPLING = 0.05
"""An image whose pixels differ less than this from it (relative) is taken as it is."""
TILE_PX = 1024
MARGIN_PX = 96
"""Tiles of large images overlap by this on each side: as far as the network sees."""
_SYMMETRIES = 8
_LEVELS = 127.0


class PassProgress:
    """Counts the passes of the networks for whoever waits."""

    def __init__(self, progress: Progress | None, stop: Stop | None, total: int) -> None:
        self._progress, self._stop, self._total, self._done = progress, stop, total, 0

    def next(self) -> None:
        """One more begins."""
        check(self._stop)
        report(self._progress, self._done, self._total, "Finding atoms")
        self._done += 1

    def end(self) -> None:
        """All are done."""
        report(self._progress, self._total, self._total, "Finding atoms")


class AtomModel:
    """An atom model on a device.

    Parameters
    ----------
    card
        Of the model.
    tensors
        Name → array, as of `quantize_weights`.
    device
        Where to compute.

    Raises
    ------
    ModelError
        If the weights don't fit the card.
    """

    def __init__(
        self, card: AtomCard, tensors: Mapping[str, np.ndarray], device: torch.device
    ) -> None:
        self.card = card
        self.device = device
        try:
            self.networks = [
                fuse_batch_norm(_network(card, dequantize_weights(tensors, f"network.{i}."))).to(
                    device
                )
                for i in range(card.members)
            ]
        except (RuntimeError, KeyError, ValueError) as error:
            raise ModelError(
                f"the weights of {card.name!r} don't fit its card", advice=str(error)
            ) from error

    def score_map(
        self,
        image: np.ndarray,
        pixel_size_nm: float,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores (mean logits) at the common sampling.

        Each network sees the image in other symmetries of the square, so that together they see
        all of them; what depends on the direction of the scan alone averages out.

        Parameters
        ----------
        image
            (Y, X) float32, finite.
        pixel_size_nm
            Edge length of a pixel.
        progress, stop
            Called between passes.

        Returns
        -------
        scores : ndarray
            (Y', X') float32 at `SAMPLING_NM`.
        factor : ndarray
            (2,) its pixels per pixel of the image.

        Raises
        ------
        Cancelled
            If ``stop()`` says so.
        """
        base, factor = resample_image(image, pixel_size_nm)
        views = [(n, v) for n in range(len(self.networks)) for v in self._views(n)]
        seen = [resample_image(base, SAMPLING_NM * scale)[0] for scale in self.card.scales]
        total = sum(len(list(_tiles(s.shape))) for s in seen) * len(views)
        steps = PassProgress(progress, stop, total)
        best: np.ndarray | None = None
        for one in seen:
            scores = upsample_scores(self._mean_scores(one, views, steps), base.shape)
            best = scores if best is None else np.maximum(best, scores)
        steps.end()
        assert best is not None
        return best, factor

    def _mean_scores(
        self, image: np.ndarray, views: Sequence[tuple[int, int]], steps: PassProgress
    ) -> np.ndarray:
        """(Y, X) mean score of the views of an image at the common sampling."""
        channels = torch.from_numpy(contrast_channels(image, SAMPLING_NM))
        total = np.zeros(image.shape, np.float32)
        for seen, kept, place in _tiles(image.shape):
            part = channels[(slice(None), *seen)]
            for n, view in views:
                steps.next()
                total[place] += self._pass(self.networks[n], part, view)[kept].numpy()
        return total / len(views)

    def _views(self, member: int) -> list[int]:
        first = member * self.card.views
        # Between them, members go through all symmetries, quarter turns first.
        return [_ORDER[(first + i) % _SYMMETRIES] for i in range(self.card.views)]

    @torch.inference_mode()
    def _pass(self, network: nn.Module, channels: Tensor, view: int) -> Tensor:
        height, width = channels.shape[-2:]
        turned = apply_symmetry(channels, view)
        batch = pad_to_stride(turned[None].to(self.device))
        logits = network(batch.contiguous(memory_format=torch.channels_last))[0]
        rows, columns = (height, width) if view % 2 == 0 else (width, height)
        return undo_symmetry(logits[:rows, :columns].float().cpu(), view)

    def candidates(
        self,
        image: np.ndarray,
        pixel_size_nm: float,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places that may be atoms.

        Returns
        -------
        points : ndarray
            (N, 2) positions (y, x) in pixels of the image.
        score : ndarray
            (N,) scores, the highest first; the card's calibration makes them probabilities.
        """
        scores, factor = self.score_map(image, pixel_size_nm, progress, stop)
        points, score = find_local_maxima(scores, self.card.distance_nm / SAMPLING_NM)
        likely = self.card.calibration(pixel_size_nm)(score) >= self.card.floor
        return (points[likely] + 0.5) / factor - 0.5, score[likely]


_ORDER = (0, 5, 2, 7, 1, 4, 3, 6)
"""Symmetries in the order in which they are used: number = quarter turns + 4 × mirrored."""


def resample_image(pixels: np.ndarray, pixel_size_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """The image at the common sampling, and (2,) its pixels per pixel of the original."""
    wanted = pixel_size_nm / SAMPLING_NM
    pixels = np.ascontiguousarray(pixels, np.float32)
    if abs(wanted - 1) <= SAME_SAMPLING:
        return pixels, np.ones(2)
    shape = tuple(max(1, round(n * wanted)) for n in pixels.shape)
    image = functional.interpolate(
        torch.from_numpy(pixels)[None, None],
        size=shape,
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    return image[0, 0].numpy(), np.array(shape) / np.array(pixels.shape)


def upsample_scores(scores: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map (Y, X) on the pixels of ``shape``, by cubic interpolation."""
    if scores.shape == tuple(shape):
        return scores
    out = functional.interpolate(
        torch.from_numpy(scores)[None, None], size=shape, mode="bicubic", align_corners=False
    )
    return np.asarray(out[0, 0].numpy())


def _tiles(shape: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], ...]]:
    """What is seen of the image, what is kept of that, and where it goes."""
    starts = [range(0, n, TILE_PX) for n in shape]
    for top in starts[0]:
        for left in starts[1]:
            place, seen, kept = [], [], []
            for first, n in zip((top, left), shape, strict=True):
                last = min(first + TILE_PX, n)
                begin, end = max(0, first - MARGIN_PX), min(n, last + MARGIN_PX)
                place.append(slice(first, last))
                seen.append(slice(begin, end))
                kept.append(slice(first - begin, last - begin))
            yield tuple(seen), tuple(kept), tuple(place)


# ---- weights


def quantize_weights(networks: Sequence[AtomNet]) -> dict[str, np.ndarray]:
    """Weights of networks for a file: convolutions in 8 bits with a scale for each output.

    The rounding, at most 0.4 % of the largest weight of an output, changes no score that matters
    and makes the file a quarter of the size.
    """
    out: dict[str, np.ndarray] = {}
    for i, network in enumerate(networks):
        for name, tensor in network.state_dict().items():
            value, key = tensor.cpu().numpy(), f"network.{i}.{name}"
            if value.ndim == 4:
                scale = np.abs(value).max(axis=(1, 2, 3), keepdims=True) / _LEVELS
                scale = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
                out[key] = np.rint(value / scale).astype(np.int8)
                out[f"{key}.scale"] = scale
            else:
                out[key] = value
    return out


def dequantize_weights(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    """The state of the network whose tensors begin so."""
    state = {}
    for key, value in tensors.items():
        if key.startswith(prefix) and not key.endswith(".scale"):
            if value.dtype == np.int8:
                value = value.astype(np.float32) * tensors[f"{key}.scale"]
            state[key.removeprefix(prefix)] = torch.from_numpy(np.array(value))
    return state


def _network(card: AtomCard, state: Mapping[str, Tensor]) -> AtomNet:
    network = AtomNet(width=card.width)
    network.load_state_dict(state)
    return network.eval()


def fuse_batch_norm(network: AtomNet) -> AtomNet:
    """The same network with every normalisation taken into the convolution before it."""
    for block in [*network.down, *network.up]:
        assert isinstance(block, nn.Sequential)
        for i, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d):
                convolution = block[i - 1]
                assert isinstance(convolution, nn.Conv2d)
                block[i - 1] = fusion.fuse_conv_bn_eval(convolution, layer)
                block[i] = nn.Identity()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save_atom_model(path: Path, card: AtomCard, networks: Sequence[AtomNet]) -> AtomCard:
    """Write weights and card; returns the card with its hash.

    Raises
    ------
    AtomicityError
        If a file can't be written.
    """
    return save_model(path, card, quantize_weights(networks))


def load_atom_model(model: str | Path = "default", device: str = "auto") -> AtomModel:
    """A model, ready to find atoms; kept in memory for the next call.

    Parameters
    ----------
    model
        "default", another name that `atomicity models` lists, or the path of a .safetensors file.
    device
        "auto", "cpu", "cuda" or "mps".

    Raises
    ------
    ModelError
        If the model is missing, damaged or of another kind, or the device is not there.
    """
    path = find_model(SHIPPED.get(str(model), model)).resolve()
    return _load(path, path.stat().st_mtime_ns, str(choose_device(device)))


@lru_cache(maxsize=4)
def _load(path: Path, _modified: int, device: str) -> AtomModel:
    card = read_atom_card(path)
    return AtomModel(card, read_tensors(path, card.sha256), torch.device(device))
