"""The atom model: networks and card, from a file to score maps and candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fusion

from ...core.devices import choose_device, load_on, named_device_errors, use_cpu_instead
from ...core.errors import ModelError, naming_file
from ...core.progress import Progress, Stop, check, report
from ...core.threads import parallel_results
from ...models.files import find_model, read_card, read_tensors, save_model
from ...models.network import apply_symmetry, undo_symmetry
from .candidates import contrast_channels, find_local_maxima
from .card import SAMPLING_NM, SHIPPED, AtomCard
from .network import AtomNet, JoiningConvolution, TransposedJoin, pad_to_stride

SAME_SAMPLING = 0.05
"""Images with a pixel size within this (relative) of the common sampling are not resampled."""
TILE_PX = 1024
MARGIN_PX = 96
"""Overlap of the tiles of large images on each side: the receptive field of the network."""
QUICK_PASSES = 3
"""Number of networks and views of a quick computation."""
_SYMMETRIES = 8
_LEVELS = 127.0


class AtomModel:
    """An atom model on a device.

    Raises `ModelError` if the weights do not match the card.
    """

    def __init__(
        self,
        card: AtomCard,
        tensors: Mapping[str, np.ndarray],  # arrays by name, as of `quantize_weights`
        device: torch.device,
    ) -> None:
        self.card = card
        self._tensors = tensors  # what is on a device that is lost can't be read any more
        self._move(device)

    def _move(self, device: torch.device) -> None:
        """Make the networks, on a device."""
        self.device = device
        try:
            networks = [
                fuse_batch_norm(
                    _network(self.card, dequantize_weights(self._tensors, f"network.{i}."))
                )
                for i in range(self.card.members)
            ]
        except (RuntimeError, KeyError, ValueError) as error:
            raise ModelError(
                f"the weights of {self.card.name!r} do not match its card",
                advice="Get the model again",
            ) from error
        with named_device_errors(device):
            self.networks = [network.to(device) for network in networks]

    def score_map(
        self,
        image: np.ndarray,
        pixel_size_nm: float,
        progress: Progress | None = None,
        stop: Stop | None = None,
        quick: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute scores (mean logits) at the common sampling.

        The networks use different symmetries of the square, together all of them, so that effects
        of the scan direction average out.

        Parameters
        ----------
        image : ndarray of float32, shape (Y, X)
            Image, finite.
        quick : int, optional
            Number of a quick computation with `QUICK_PASSES` networks and views only, which
            changes scores by about 0.2. Successive numbers use different ones.

        Returns
        -------
        scores : ndarray
            (Y', X') float32 at `SAMPLING_NM`.
        factor : ndarray
            (2,) its pixels per pixel of the image.
        """
        base, factor = resample_image(image, pixel_size_nm)
        views = [(net, v) for n, net in enumerate(self.networks) for v in self._views(n)]
        if quick is not None and len(views) > QUICK_PASSES:
            first = quick * QUICK_PASSES
            views = [views[i % len(views)] for i in range(first, first + QUICK_PASSES)]
        resampled = [resample_image(base, SAMPLING_NM * scale)[0] for scale in self.card.scales]
        try:
            maps = self._mean_scores(resampled, views, progress, stop)
        except RuntimeError as error:
            if not use_cpu_instead(error, self.device):
                raise
            self._move(torch.device("cpu"))
            return self.score_map(image, pixel_size_nm, progress, stop, quick)
        return np.max([upsample_scores(scores, base.shape) for scores in maps], axis=0), factor

    def _mean_scores(
        self,
        images: Sequence[np.ndarray],
        views: Sequence[tuple[nn.Module, int]],
        progress: Progress | None,
        stop: Stop | None,
    ) -> list[np.ndarray]:
        """Return the (Y, X) mean scores of the views of images at the common sampling."""
        totals = [np.zeros(image.shape, np.float32) for image in images]
        passes, parts = [], []
        for image, total in zip(images, totals, strict=True):
            channels = torch.from_numpy(contrast_channels(image, SAMPLING_NM))
            for window, inner, tile in _tiles(image.shape):
                for network, view in views:
                    passes.append((network, channels[(slice(None), *window)], view))
                    parts.append((total[tile], inner))
        report(progress, 0, len(passes), "Finding atoms")
        results = parallel_results(self._pass, passes, self.device.type == "cpu")
        with closing(results):
            for i, ((part, inner), scores) in enumerate(zip(parts, results, strict=True), 1):
                check(stop)
                part += scores[inner].numpy()
                report(progress, i, len(passes), "Finding atoms")
        return [total / len(views) for total in totals]

    def _views(self, member: int) -> list[int]:
        first = member * self.card.views
        # Together, the networks use all symmetries, quarter turns first.
        return [_ORDER[(first + i) % _SYMMETRIES] for i in range(self.card.views)]

    @torch.inference_mode()
    def _pass(self, network_channels_view: tuple[nn.Module, Tensor, int]) -> Tensor:
        network, channels, view = network_channels_view
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
        quick: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Detect candidate atoms.

        Parameters
        ----------
        image : ndarray of float32, shape (Y, X)
            Image, finite.
        quick : int, optional
            See `score_map`.

        Returns
        -------
        points : ndarray
            (N, 2) positions (y, x) in pixels of the image.
        score : ndarray
            (N,) scores, the highest first; the card's calibration makes them probabilities.
        """
        scores, factor = self.score_map(image, pixel_size_nm, progress, stop, quick)
        points, score = find_local_maxima(scores, self.card.distance_nm / SAMPLING_NM)
        likely = self.card.calibration(pixel_size_nm)(score) >= self.card.floor
        return (points[likely] + 0.5) / factor - 0.5, score[likely]


_ORDER = (0, 5, 2, 7, 1, 4, 3, 6)
"""Order of the symmetries: number = quarter turns + 4 × mirrored."""


def resample_image(pixels: np.ndarray, pixel_size_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Resample the image to the common sampling; return also (2,) its pixels per original pixel."""
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
    """Resize a map (Y, X) to ``shape`` by cubic interpolation."""
    if scores.shape == tuple(shape):
        return scores
    out = functional.interpolate(
        torch.from_numpy(scores)[None, None], size=shape, mode="bicubic", align_corners=False
    )
    return np.asarray(out[0, 0].numpy())


def _tiles(shape: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], ...]]:
    """Yield the slices of a tile with margin, of the tile in it, and of the tile in the image."""
    starts = [range(0, n, TILE_PX) for n in shape]
    for top in starts[0]:
        for left in starts[1]:
            tile, window, inner = [], [], []
            for first, n in zip((top, left), shape, strict=True):
                last = min(first + TILE_PX, n)
                begin, end = max(0, first - MARGIN_PX), min(n, last + MARGIN_PX)
                tile.append(slice(first, last))
                window.append(slice(begin, end))
                inner.append(slice(first - begin, last - begin))
            yield tuple(window), tuple(inner), tuple(tile)


# ---- weights


def quantize_weights(networks: Sequence[AtomNet]) -> dict[str, np.ndarray]:
    """Quantise the weights of networks: convolutions in 8 bits with a scale for each output.

    The rounding, at most 0.4 % of the largest weight of an output, does not change the results and
    reduces the file to a quarter of its size.
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
    """Return the state of the network whose tensors have this prefix."""
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
    """Fuse every batch normalisation into the preceding convolution, and speed up the joins."""
    for block in [*network.down, *network.up]:
        assert isinstance(block, nn.Sequential)
        for i, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d):
                convolution = block[i - 1]
                assert isinstance(convolution, nn.Conv2d)
                block[i - 1] = fusion.fuse_conv_bn_eval(convolution, layer)
                block[i] = nn.Identity()
        if isinstance(block[0], JoiningConvolution):
            block[0] = TransposedJoin(block[0])
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save_atom_model(path: Path, card: AtomCard, networks: Sequence[AtomNet]) -> AtomCard:
    """Write the weights and the card of an atom model.

    Raises `AtomicityError` if a file cannot be written.
    """
    return save_model(path, card, quantize_weights(networks))


def load_atom_model(
    # "default", another name listed by `atomicity models`, or the path of a .safetensors file
    model: str | Path = "default",
    device: str = "auto",  # "auto", "cpu", "cuda" or "mps"
) -> AtomModel:
    """Load an atom model; recently used models stay in memory.

    Raises `ModelError` if the model is missing, damaged or of another kind, or the device is not
    available.
    """
    path = find_model(SHIPPED.get(str(model), model)).resolve()
    where = choose_device(device)
    return load_on(_load, where, path, path.stat().st_mtime_ns, str(where))


@lru_cache(maxsize=4)
def _load(path: Path, _modified: int, device: str) -> AtomModel:
    card = read_card(path, AtomCard)
    with naming_file(path):
        return AtomModel(card, read_tensors(path, card.sha256), torch.device(device))
