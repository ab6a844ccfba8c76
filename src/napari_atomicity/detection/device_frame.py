"""A frame that lies on a GPU as a whole, and the filters of `detection.filters` there.

Every filter is the same sum of shifted copies in the same order as on the CPU, an operation at a
time, so that a pixel gets the same bits; cuDNN's convolutions would round to ten bits (TF32) and
fuse what is rounded apart here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..micrograph import LARGE_PIXELS, Micrograph
from ..model.devices import give_back, upload
from .background import Grid, between, blocks_of_background
from .filters import LAPLACIAN, gaussian_weights, mirrored, reach
from .frame import Frame, Tile, whole

_WINDOW_VALUES = 1 << 25  # sorted at a time


class DeviceFrame:
    """`frame.Frame` on a device: read at once, surveyed there.

    Parameters
    ----------
    recorded
        (Y, X) float32 on the device.
    pixels
        The same in memory, for what is done there if there are gaps.
    pixel_nm, factor, window_nm
        As of `frame.Frame`.

    Attributes
    ----------
    shape, pixel_nm, background, low, mean, high, n_finite
        As of `frame.Frame`.
    """

    def __init__(
        self,
        recorded: Tensor,
        pixels: np.ndarray,
        pixel_nm: float,
        factor: int = 1,
        window_nm: float = 12.0,
    ) -> None:
        factor = max(1, min(factor, *pixels.shape))
        self._factor = factor
        self.shape = (pixels.shape[0] // factor, pixels.shape[1] // factor)
        self.pixel_nm = pixel_nm * factor
        if bool(torch.isfinite(recorded.sum())) or bool(torch.isfinite(recorded).all()):
            self._recorded, self._edge = recorded, factor
            self._survey(window_nm)
        else:  # gaps are rare, and filled by distance
            frame = Frame(pixels, pixel_nm, factor, window_nm)
            self.background, self.n_finite = frame.background, frame.n_finite
            self.low, self.mean, self.high = frame.low, frame.mean, frame.high
            self._recorded = upload(frame.values(whole(self.shape)), recorded.device)
            self._edge = 1
        self._flat: dict[int, Tensor] = {}

    def _survey(self, window_nm: float) -> None:
        block = blocks_of_background(self.pixel_nm, window_nm)
        sums, number = _block_sums(self._recorded, block * self._factor)
        self.low, self.high = (float(x) for x in torch.aminmax(self._recorded))
        self.n_finite = self._recorded.numel()
        self.mean = float(sums.sum()) / self.n_finite
        means = (sums / torch.from_numpy(number).to(self.device)).float()
        self.background = _background_of_blocks(means, block, self.pixel_nm, window_nm)

    @property
    def device(self) -> torch.device:
        return self._recorded.device

    def flat(self, step: int = 1, margin: int = 0) -> Tensor:
        """Without its background, on means over ``step`` × ``step`` pixels, mirrored beyond."""
        if step not in self._flat:
            values = self._means(step)
            y, x = ((np.arange(n) + 0.5) * step - 0.5 for n in values.shape)
            level = grid_at(self.background, y, x, self.device)
            self._flat[step] = values - level
        return grown(self._flat[step], margin)

    def values(self, tile: Tile) -> Tensor:
        """The tile as recorded, without gaps, mirrored where it reaches beyond the frame."""
        return part(self._means(1), tile)

    def _means(self, step: int) -> Tensor:
        height, width = (n * self._edge for n in self.shape)
        return block_means(self._recorded[:height, :width], step * self._edge)

    def to_file_px(self, points: np.ndarray) -> np.ndarray:
        """Points of this grid in pixels of the file."""
        return np.asarray(points * self._factor + (self._factor - 1) / 2)


# ---- the frame on the device, once
@dataclass
class _Held:
    """What was sent last."""

    sent: tuple[object, int, torch.device, np.ndarray, Tensor] | None = None


_held: ContextVar[_Held | None] = ContextVar("_held", default=None)


@contextmanager
def sent_once() -> Iterator[None]:
    """Within, the frame that was sent last stays on its device for who asks next.

    At the end of the outermost of these, memory is given back.
    """
    if _held.get() is not None:
        yield
        return
    held = _Held()
    token = _held.set(held)
    try:
        yield
    finally:
        _held.reset(token)
        if held.sent is not None:
            device, held.sent = held.sent[2], None
            give_back(device)


def goes_whole(micrograph: Micrograph) -> bool:
    """Whether a frame is small enough to be sent, whatever the length of its stack."""
    return math.prod(micrograph.shape_px) <= LARGE_PIXELS


def send(micrograph: Micrograph, index: int, device: torch.device) -> tuple[np.ndarray, Tensor]:
    """A frame (Y, X) float32 in memory and on the device."""
    held = _held.get()
    if held is not None and held.sent is not None:
        data, at, where, pixels, recorded = held.sent
        if data is micrograph.data and at == index and where == device:
            return pixels, recorded
        held.sent = None  # its memory is needed
    pixels = np.asarray(micrograph.frame(index)[:, :], np.float32)
    recorded = upload(pixels, device)
    if held is not None:
        held.sent = micrograph.data, index, device, pixels, recorded
    return pixels, recorded


# ---- filters
def grown(image: Tensor, margin: int) -> Tensor:
    """Mirrored that far beyond its edges."""
    return part(image, whole((image.shape[0], image.shape[1])).grown(margin))


def part(image: Tensor, tile: Tile) -> Tensor:
    """A tile of an image that is mirrored at its edges."""
    for axis, (start, stop) in enumerate(((tile.top, tile.bottom), (tile.left, tile.right))):
        n = image.shape[axis]
        if start >= 0 and stop <= n:
            image = image.narrow(axis, start, stop - start)
        else:
            index = torch.from_numpy(mirrored(start, stop, n)).to(image.device)
            image = image.index_select(axis, index)
    return image


def inner(image: Tensor, margin: int) -> Tensor:
    """Without ``margin`` pixels on every side."""
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def gaussian(image: Tensor, sigma_px: float, every: int = 1) -> Tensor:
    """`detection.filters.gaussian`."""
    if reach(sigma_px) == 0:
        return image[::every, ::every]
    weights = gaussian_weights(sigma_px)
    return _symmetric(_symmetric(image, weights, 0, every), weights, 1, every)


def laplacian(image: Tensor) -> Tensor:
    """`detection.filters.laplacian`."""
    return _symmetric(image[:, 2:-2], LAPLACIAN, 0) + _symmetric(image[2:-2], LAPLACIAN, 1)


def _symmetric(image: Tensor, weights: np.ndarray, axis: int, every: int = 1) -> Tensor:
    """Correlation with weights of the middle and of one side."""
    half = len(weights) - 1
    image = image if axis == 0 else image.T
    n = image.shape[0] - half
    out = image[half:n:every] * float(weights[0])
    for k in range(1, half + 1):
        both = image[half - k : n - k : every] + image[half + k : n + k : every]
        out += both.mul_(float(weights[k]))
    return out if axis == 0 else out.T


def block_means(image: Tensor, factor: int) -> Tensor:
    """Means over factor × factor pixels; a remainder at the far edges is left out."""
    if factor == 1:
        return image
    rows, columns = (n // factor * factor for n in image.shape)
    image = image[:rows, :columns]
    total = image[::factor] + image[1::factor]
    for k in range(2, factor):
        total += image[k::factor]
    out = total[:, ::factor] + total[:, 1::factor]
    for k in range(2, factor):
        out += total[:, k::factor]
    return out.mul_(float(np.float32(1 / factor**2)))


def grid_at(grid: Grid, y: np.ndarray, x: np.ndarray, device: torch.device) -> Tensor:
    """`Grid.at`, of which the coarse grid alone goes to the device."""
    out = torch.from_numpy(np.ascontiguousarray(grid.values)).to(device)
    for axis, position in enumerate((y, x)):
        low, high, share = between(position, grid.block[axis], out.shape[axis])
        weight = torch.from_numpy(share).to(device)
        weight = weight[:, None] if axis == 0 else weight
        first, second = (
            out.index_select(axis, torch.from_numpy(i).to(device)) for i in (low, high)
        )
        out = first + (second - first).mul_(weight)
    return out


# ---- background
def _block_sums(image: Tensor, edge: int) -> tuple[Tensor, np.ndarray]:
    """Sums over blocks, a remainder at the far edges joining the last, and of how many pixels."""
    sizes = []
    for axis, n in enumerate(image.shape):
        blocks = max(1, n // edge)
        several, last = image.split([edge * (blocks - 1), n - edge * (blocks - 1)], axis)
        sums = [
            several.unflatten(axis, (blocks - 1, edge)).sum(axis + 1, dtype=torch.float64),
            last.sum(axis, keepdim=True, dtype=torch.float64),
        ]
        image = torch.cat(sums, axis)
        sizes.append(np.append(np.full(blocks - 1, edge), last.shape[axis]))
    return image, np.outer(*sizes)


def _background_of_blocks(means: Tensor, block: int, pixel_nm: float, window_nm: float) -> Grid:
    """`detection.background.background_of_blocks`."""
    size = max(3, 2 * round(window_nm / (block * pixel_nm) / 2) + 1)
    size = min(size, 2 * min(means.shape) - 1)
    half, rank = size // 2, size**2 * 40 // 100
    for axis, n in enumerate(means.shape):
        index = torch.from_numpy(np.pad(np.arange(n), half, mode="symmetric")).to(means.device)
        means = means.index_select(axis, index)
    windows = means.unfold(0, size, 1).unfold(1, size, 1)
    strip = max(1, _WINDOW_VALUES // (windows.shape[1] * size**2))
    smooth = torch.cat(
        [rows.flatten(2).kthvalue(rank + 1, dim=2).values for rows in windows.split(strip)]
    )
    return Grid(ndimage.gaussian_filter(smooth.cpu().numpy(), 0.5, mode="nearest"), (block, block))
