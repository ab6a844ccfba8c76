"""`detection.summits` on a GPU: the frame as a whole, of which only the summits come back."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..progress import Stop, check
from .background import _MAD_TO_SIGMA, Grid, _even, noise_step
from .device_frame import DeviceFrame, gaussian, grown, inner, laplacian
from .filters import reach
from .summits import _EDGE, _HARDLY_LESS, _LEAST_PX, FINEST_PX, Summits, coarsening


def find_summits(
    frame: DeviceFrame,
    sigmas_px: np.ndarray,
    threshold: float,
    block_px: float,
    stop: Stop | None = None,
) -> Summits:
    """`detection.summits.find_summits`, octave by octave on the same grids."""
    step = coarsening(frame, sigmas_px[0])  # type: ignore[arg-type]
    image, below = frame.flat(step), None
    blur = np.sqrt((step**2 - 1) / 12) / step  # of the means over step × step pixels
    found: list[np.ndarray] = []
    first, scale = 0, 1
    while first < len(sigmas_px):
        check(stop)
        own = sigmas_px[first:] / step / scale
        count = max(1, int((own < 2 * FINEST_PX).sum()))
        if min(image.shape) < _LEAST_PX:
            count = len(own)
        more = count < len(own)  # the last scale then for comparison only
        sigmas = own[: count + 1] if more else own
        responses, image = _responses(image, sigmas, blur)
        for i, response in enumerate(responses[:count]):
            above = responses[i + 1] if i + 1 < len(responses) else None
            noise = noise_of(response, int(np.ceil(block_px / step / scale)))
            y, x, height = _maxima(below, response, above, sigmas[i], noise, threshold)
            place = [(axis * scale + 0.5) * step - 0.5 for axis in (y, x)]
            radius = np.full(len(y), sigmas_px[first + i] * np.sqrt(2))
            found.append(np.stack([*place, height, radius], axis=1))
            below = response
        if more:
            assert below is not None
            image, below, blur = image[::2, ::2], below[::2, ::2], own[count] / 2
        first, scale = first + count, 2 * scale
    rows = np.vstack(found)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0], -rows[:, 2]))]
    return Summits(rows[:, :2], rows[:, 2], rows[:, 3])


def _responses(image: Tensor, sigmas: np.ndarray, blur: float) -> tuple[list[Tensor], Tensor]:
    """Normalised negative Laplacian of each scale, and the image blurred as the last of them."""
    steps = np.sqrt(np.maximum(np.diff(np.append(blur, sigmas) ** 2), 0))
    margin = sum(reach(s) for s in steps) + 2
    image = grown(image, margin)
    responses = []
    for sigma, by in zip(sigmas, steps, strict=True):
        image = gaussian(image, by)
        margin -= reach(by)
        response = laplacian(inner(image, margin - 2))
        responses.append(response.mul_(float(np.float32(-(sigma**2)))))
    return responses, inner(image, margin)


def _maxima(
    below: Tensor | None,
    response: Tensor,
    above: Tensor | None,
    sigma_px: float,
    noise: Grid,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places y and x, and responses, of the maxima of a scale that stand out from its noise."""
    step = max(1, round(sigma_px / 2))
    wide = grown(response, step)
    near = inner(wide, step - 1)
    highest = torch.maximum(torch.maximum(near[:-2], near[1:-1]), near[2:])
    highest = torch.maximum(torch.maximum(highest[:, :-2], highest[:, 1:-1]), highest[:, 2:])
    least = max(0.0, 0.999 * threshold * float(noise.values.min()))  # what is less can't count
    keep = (response == highest) & (response > least)
    for other in (below, above):
        if other is not None:
            keep &= response >= other * float(_HARDLY_LESS)
    y, x = torch.nonzero(keep, as_tuple=True)
    value = response[y, x]

    def beside(down: int, across: int) -> Tensor:
        return wide[y + step + down, x + step + across]

    height, width = response.shape
    at_edge = (y < step) | (y >= height - step) | (x < step) | (x >= width - step)
    yy = beside(step, 0) + beside(-step, 0) - 2 * value
    xx = beside(0, step) + beside(0, -step) - 2 * value
    xy = (beside(step, step) + beside(-step, -step) - beside(step, -step) - beside(-step, step)) / 4
    trace, determinant = yy + xx, yy * xx - xy**2
    curved = determinant * (_EDGE + 1) ** 2 > trace**2 * _EDGE
    offsets = [
        _offset(beside(*before), value, beside(*after))
        for before, after in (((-1, 0), (1, 0)), ((0, -1), (0, 1)))
    ]
    found = torch.stack([y + offsets[0], x + offsets[1], value.double()])
    out = found[:, curved | at_edge].cpu().numpy()
    out = out[:, out[2] > threshold * noise.at_points(out[0], out[1])]
    return out[0], out[1], out[2]


def _offset(before: Tensor, value: Tensor, after: Tensor) -> Tensor:
    """Where the parabola through a maximum and its neighbours is highest, from its pixel."""
    curvature = (before + after - 2 * value).double()
    slope = (before - after).double()
    offset = torch.where(curvature < 0, slope / (2 * curvature), torch.zeros_like(slope))
    return offset.clamp_(-0.5, 0.5)


# ---- noise
def noise_under(frame: DeviceFrame, sigma_px: float, block_px: int) -> Grid:
    """`detection.summits.noise_under`."""
    step = noise_step(block_px)
    sample = gaussian(frame.flat(margin=reach(sigma_px)), sigma_px, every=step)
    return _noise_of_sample(sample, block_px, frame.shape, float(sample.abs().max()))


def noise_of(response: Tensor, block_px: int) -> Grid:
    """`detection.background.local_noise`, on its grid."""
    step = noise_step(block_px)
    low, high = torch.aminmax(response)
    largest = max(float(high), -float(low))
    shape = (response.shape[0], response.shape[1])
    return _noise_of_sample(response[::step, ::step], block_px, shape, largest)


def _noise_of_sample(sample: Tensor, block_px: int, shape: tuple[int, int], largest: float) -> Grid:
    """`detection.background.noise_of_sample`, all blocks at a time."""
    size = max(4, block_px // noise_step(block_px))
    inside = []
    for axis, n in enumerate(sample.shape):
        start, stop = np.array(_even(n, max(1, round(n / size)))).T
        index = start[:, None] + np.arange((stop - start).max())
        inside.append(torch.from_numpy(index < stop[:, None]).to(sample.device))
        index = torch.from_numpy(np.minimum(index, n - 1)).to(sample.device)
        sample = sample.index_select(axis, index.flatten()).unflatten(axis, index.shape)
        if axis == 0:
            sample = sample.flatten(0, 1)
    rows, columns = inside
    blocks = sample.unflatten(0, rows.shape).transpose(1, 2)
    blocks = blocks.masked_fill(~(rows[:, None, :, None] & columns[:, None]), torch.nan)
    deviation = _upper_median((blocks - _upper_median(blocks)[..., None, None]).abs())
    grid = ndimage.median_filter(deviation.cpu().numpy(), 3, mode="nearest") * _MAD_TO_SIGMA
    grid = np.maximum(grid, 1e-3 * float(largest) + np.finfo(np.float32).tiny)
    return Grid(grid, (shape[0] / grid.shape[0], shape[1] / grid.shape[1]))


def _upper_median(blocks: Tensor) -> Tensor:
    """Over the last two axes, without NaN; the upper one of two middles."""
    return -(-blocks.flatten(2)).nanmedian(dim=2).values
