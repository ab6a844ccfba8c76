"""`detection.outlines` on a GPU: all basins at once, then all clusters in windows of one size.

Measures and polygons come back, no pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..progress import Stop, check
from .background import Grid
from .device_frame import DeviceFrame, gaussian, grid_at, inner
from .device_regions import components, flood
from .filters import reach
from .outlines import (
    _FLOOD_SIGMA_NM,
    OUTLINE_LEVEL,
    OUTLINE_SIGMA_NM,
    RING_NM,
    TAIL_NM,
    Outline,
)

_WINDOW_PIXELS = 1 << 24  # at a time
_LEAST_PIXELS = 4
_FAR = 1 << 14  # pixels; its square fits


@dataclass(frozen=True, eq=False)
class DeviceRegions:
    """`outlines.Regions` of a whole frame: (Y, X) tensors."""

    basins: Tensor
    flat: Tensor
    smooth: Tensor
    pixel_nm: float


def grow_regions(
    frame: DeviceFrame, seeds: np.ndarray, noise: Grid, reach_nm: float
) -> DeviceRegions:
    """`detection.outlines.grow_regions` of all seeds (N, 2)."""
    blurs = (OUTLINE_SIGMA_NM, np.sqrt(_FLOOD_SIGMA_NM**2 - OUTLINE_SIGMA_NM**2))
    first, second = (blur / frame.pixel_nm for blur in blurs)
    margin = reach(first) + reach(second)
    blurred = gaussian(frame.flat(margin=margin), first)
    smooth = inner(blurred, reach(second))
    rows, columns = (np.arange(n) for n in frame.shape)
    level = grid_at(noise, rows, columns, frame.device)
    mask = smooth > 2 * level
    corner = np.clip(np.round(seeds).astype(int), 0, np.array(frame.shape) - 1)
    at = torch.from_numpy(corner).to(frame.device)
    mask[at[:, 0], at[:, 1]] = True
    mask &= _near(at, round(reach_nm / frame.pixel_nm), frame.shape)
    places = at[:, 0] * frame.shape[1] + at[:, 1]
    number = torch.arange(1, len(at) + 1, device=frame.device)
    start = torch.zeros(mask.numel(), dtype=torch.int64, device=frame.device)
    start.scatter_reduce_(0, places, number, "amax")
    basins = flood(gaussian(blurred, second), mask, start.reshape(frame.shape))
    return DeviceRegions(basins.int(), frame.flat(), smooth, frame.pixel_nm)


def _near(points: Tensor, half: int, shape: tuple[int, int]) -> Tensor:
    """(Y, X) bool: at most ``half`` from one of the points (N, 2), along y and along x."""
    change = torch.zeros((shape[0] + 1, shape[1] + 1), dtype=torch.int32, device=points.device)
    y, x = points.T
    top, left = ((place - half).clamp(min=0) for place in (y, x))
    bottom, right = ((p + half + 1).clamp(max=n) for p, n in zip((y, x), shape, strict=True))
    one = torch.ones(len(points), dtype=torch.int32, device=points.device)
    for y, x, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        change.index_put_((y, x), sign * one, accumulate=True)
    covered = change.cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    return covered[:-1, :-1] > 0


def measure_regions(
    regions: DeviceRegions, n_seeds: int, stop: Stop | None = None
) -> list[Outline]:
    """`detection.outlines.measure_regions` of all basins; unordered."""
    final, cores = _cores(regions, _boxes(regions.basins, n_seeds), stop)
    margin = int(np.ceil((TAIL_NM + RING_NM) / regions.pixel_nm)) + 1
    size = _largest(cores) + 2 * margin
    ends = (margin, size, margin, size)
    images = [
        pad(image, ends, value=outside)
        for image, outside in (
            (final, 0), (regions.basins, -1), (regions.flat, 0.0), (regions.smooth, 0.0)
        )
    ]  # fmt: skip
    found: list[Outline] = []
    for some, height, width in _batches(cores, 2 * margin):
        check(stop)
        label, top, left = (torch.from_numpy(some[:, i]).to(final.device) for i in range(3))
        final_, basins, flat, smooth = (
            _windows(image, top, left, height, width) for image in images
        )
        values, inside = _measure(label, final_, basins, flat, smooth, regions.pixel_nm)
        polygons = _polygons(inside, torch.stack([top, left], dim=1) - margin)
        found += _outlines(values.cpu().numpy(), polygons, some, margin, regions)
    return found


# ---- windows
def _boxes(basins: Tensor, n: int) -> np.ndarray:
    """Rows label, top, left, bottom, right of the labels 1 to n that there are."""
    y, x = torch.nonzero(basins, as_tuple=True)
    label = basins[y, x].long() - 1
    far = max(basins.shape)
    out = [
        torch.full((n,), start, device=y.device).scatter_reduce(0, label, place, how)
        for place, start, how in (
            (y, far, "amin"),
            (x, far, "amin"),
            (y, -1, "amax"),
            (x, -1, "amax"),
        )
    ]
    boxes = torch.stack([torch.arange(1, n + 1, device=y.device), *out], dim=1).cpu().numpy()
    boxes[:, 3:] += 1
    return boxes[boxes[:, 3] > 0]


def _largest(boxes: np.ndarray) -> int:
    return int((boxes[:, 3:] - boxes[:, 1:3]).max(initial=1))


def _batches(boxes: np.ndarray, more: int = 0) -> Iterator[tuple[np.ndarray, int, int]]:
    """Boxes of similar size, with height and width of windows that hold each of them."""
    size = boxes[:, 3:] - boxes[:, 1:3]
    boxes = boxes[np.argsort(-size.max(axis=1), kind="stable")]
    while len(boxes):
        edge = _largest(boxes[:1]) + more
        some = boxes[: max(1, _WINDOW_PIXELS // edge**2)]
        height, width = (some[:, 3:] - some[:, 1:3]).max(axis=0) + more
        yield some, int(height), int(width)
        boxes = boxes[len(some) :]


def _windows(image: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    return image.unfold(0, height, 1).unfold(1, width, 1)[top, left]


def _inner_of_all(images: Tensor, margin: int) -> Tensor:
    return images[:, margin : images.shape[1] - margin, margin : images.shape[2] - margin]


# ---- cores
def _cores(
    regions: DeviceRegions, boxes: np.ndarray, stop: Stop | None
) -> tuple[Tensor, np.ndarray]:
    """The labels of the basins within the outlines only (Y, X), and the boxes of these."""
    ends = (0, _largest(boxes), 0, _largest(boxes))
    basins, smooth = pad(regions.basins, ends), pad(regions.smooth, ends)
    final = torch.zeros_like(regions.basins)
    row = regions.basins.shape[1]
    for some, height, width in _batches(boxes):
        check(stop)
        label, top, left = (torch.from_numpy(some[:, i]).to(final.device) for i in range(3))
        own = _windows(basins, top, left, height, width) == label[:, None, None]
        inside = _core(own, _windows(smooth, top, left, height, width))
        which, y, x = torch.nonzero(inside, as_tuple=True)
        place = (top[which] + y) * row + left[which] + x
        # where a cluster lies in a gap of another, the last one stays
        final.view(-1).scatter_reduce_(0, place, label[which].int(), "amax")
    return final, _boxes(final, int(boxes[:, 0].max(initial=0)))


def _core(own: Tensor, smooth: Tensor) -> Tensor:
    """Of basins (N, Y, X), the part above the outline's level that hangs together, no holes."""
    top = smooth.masked_fill(~own, -torch.inf).amax(dim=(1, 2))[:, None, None]
    plateau = _median(smooth, own & (smooth > 0.5 * top))
    level = (OUTLINE_LEVEL * plateau.double()).float()[:, None, None]
    part = components(own & (smooth > level) & (top > 0))
    size = torch.bincount(part[part > 0], minlength=1)
    # the largest, of equal ones the first
    score = ((size[part] << 32) - part).masked_fill_(part == 0, -1)
    return _without_holes((part > 0) & (score == score.amax(dim=(1, 2), keepdim=True)))


def _without_holes(inside: Tensor) -> Tensor:
    """Masks (N, Y, X), each of one part, with what they surround."""
    wide = pad(inside, (1, 1, 1, 1))
    around = wide.to(torch.int8)
    corners = around[:, :-1, :-1], around[:, 1:, 1:], around[:, :-1, 1:], around[:, 1:, :-1]
    number = sum(corners[1:], corners[0])
    across = (corners[0] == corners[1]) & (number == 2)
    one, three, two = (x.sum(dim=(1, 2)) for x in (number == 1, number == 3, across))
    # Euler's number by Gray, IEEE Trans. Computers C-20, 551 (1971): 1 if there is no hole
    holed = torch.nonzero((one - three - 2 * two != 4) & inside.any(dim=2).any(dim=1))[:, 0]
    if len(holed):
        outside = components(~wide[holed])
        inside[holed] = _inner_of_all(outside != outside[:, :1, :1], 1)
    return inside


def _median(values: Tensor, of: Tensor) -> Tensor:
    """`numpy.median` of those values (N, Y, X) of each window; NaN if there are none."""
    some = values.masked_fill(~of, torch.nan).flatten(1)
    return (some.nanmedian(dim=1).values - (-some).nanmedian(dim=1).values) / 2


# ---- measures
def _measure(
    label: Tensor, final: Tensor, basins: Tensor, flat: Tensor, smooth: Tensor, pixel_nm: float
) -> tuple[Tensor, Tensor]:
    """Of windows (N, Y, X): rows of what `_outlines` reads, and the masks."""
    label_ = label[:, None, None]
    inside = final == label_
    others = (final > 0) & ~inside
    unclaimed = basins == 0
    near, reached = _within(
        inside, [((end / pixel_nm) ** 2 + 1e-9) for end in (TAIL_NM, TAIL_NM + RING_NM)]
    )
    own = near & ~others & (unclaimed | (basins == label_))
    ring = unclaimed & reached & ~near
    level = torch.where(
        ring.sum(dim=(1, 2)) >= 12, _median(flat, ring), flat.new_zeros(())
    ).double()
    intensity = _sum(flat, own) - level * own.sum(dim=(1, 2))

    y, x = (torch.arange(n, dtype=torch.float64, device=flat.device) for n in inside.shape[1:])
    rows, columns = (inside.sum(dim=i).double() for i in (2, 1))
    area = rows.sum(dim=1)
    weight = torch.where(inside, smooth.clamp(min=0), 0)
    down, across = (weight.sum(dim=i, dtype=torch.float64) for i in (2, 1))
    total = down.sum(dim=1)
    centre = [
        torch.where(total > 0, one @ at / total, many @ at / area)
        for one, many, at in ((down, rows, y), (across, columns, x))
    ]
    mean_y, mean_x = rows @ y / area, columns @ x / area
    yy, xx = rows @ y**2 / area - mean_y**2, columns @ x**2 / area - mean_x**2
    yx = (inside * x.to(torch.int32)).sum(dim=2).double() @ y / area - mean_y * mean_x
    middle, apart = (yy + xx) / 2 + 1 / 12, torch.hypot((yy - xx) / 2, yx)
    eccentricity = (1 - (middle - apart) / (middle + apart)).clamp(min=0).sqrt()
    isolation = _isolation(
        _sum(flat, inside) / area - level, flat, level, ring & (final == 0),
        y - mean_y[:, None], x - mean_x[:, None],
    )  # fmt: skip
    touches = (others & near).any(dim=2).any(dim=1).double()
    values = [*centre, area, intensity, eccentricity, isolation, touches]
    return torch.stack(values, dim=1), inside


def _sum(values: Tensor, of: Tensor) -> Tensor:
    return values.masked_fill(~of, 0).sum(dim=(1, 2), dtype=torch.float64)


def _within(inside: Tensor, limits: list[float]) -> list[Tensor]:
    """Which pixels of windows (N, Y, X) have at most these squared distances to one inside."""
    furthest = int(np.ceil(np.sqrt(max(limits))))
    y = torch.arange(inside.shape[1], dtype=torch.int32, device=inside.device)[:, None]
    before = torch.where(inside, y, -_FAR).cummax(dim=1).values
    after = torch.where(inside, y, _FAR).flip(1).cummin(dim=1).values.flip(1)
    along = torch.minimum(y - before, after - y).clamp_(max=_FAR) ** 2
    distance2 = along.clone()
    for step in range(1, min(furthest, inside.shape[2] - 1) + 1):
        beside = along + step**2
        left, right = distance2[..., step:], distance2[..., :-step]
        torch.minimum(left, beside[..., :-step], out=left)
        torch.minimum(right, beside[..., step:], out=right)
    return [distance2 <= limit for limit in limits]


def _isolation(
    height: Tensor, flat: Tensor, level: Tensor, around: Tensor, y: Tensor, x: Tensor
) -> Tensor:
    """`detection.outlines._isolation` of windows; y (N, Y) and x (N, X) from their middles."""
    y, x = y[:, :, None], x[:, None]
    steep = y.abs() < x.abs()
    worst = torch.full_like(height, -torch.inf)
    for above in (True, False):
        for left in (True, False):
            quarter = around & ((y < 0) == above) & ((x < 0) == left)
            for sector in (quarter & steep, quarter & ~steep):
                count = sector.sum(dim=(1, 2))
                mean = _sum(flat, sector) / count - level
                worst = torch.where(count >= 12, torch.maximum(worst, mean), worst)
    falls = torch.where(torch.isinf(worst), torch.ones_like(height), 1 - worst / height)
    return torch.where(height > 0, falls, 0)


def _outlines(
    values: np.ndarray,
    polygons: list[np.ndarray],
    boxes: np.ndarray,
    margin: int,
    regions: DeviceRegions,
) -> list[Outline]:
    """From rows of `_measure` and `_polygons`, and the boxes (label, top, left, bottom, right)."""
    centre, (area, intensity, eccentricity, isolation, touches) = values[:, :2], values[:, 2:].T
    cut = (boxes[:, 1:3] == 0) | (boxes[:, 3:] == np.array(regions.flat.shape))
    rows = zip(
        boxes[:, 0].tolist(),
        centre + boxes[:, 1:3] - margin,
        (2 * np.sqrt(area / np.pi) * regions.pixel_nm).tolist(),
        (intensity * regions.pixel_nm**2).tolist(),
        eccentricity.tolist(),
        cut.any(axis=1).tolist(),
        (touches > 0).tolist(),
        polygons,
        isolation.tolist(),
        strict=True,
    )
    return [Outline(*row) for row in compress(rows, (area >= _LEAST_PIXELS).tolist())]


# ---- polygons
_AROUND = np.array([(0, -1), (-1, 0), (0, 1), (1, 0)])  # left, above, right, below: clockwise


def _polygons(inside: Tensor, origin: Tensor) -> list[np.ndarray]:
    """The longest contour of each mask (N, Y, X), closed: (M, 2) from its origin (N, 2).

    By marching squares at half the height: a corner halfway between each pixel inside and each
    one beside it that is outside. No mask reaches the edge of its window.
    """
    n, height, width = inside.shape
    device = inside.device
    sides = [inside & ~inside.roll((-down, -across), (1, 2)) for down, across in _AROUND.tolist()]
    side = torch.nonzero(torch.stack(sides, dim=-1).flatten())[:, 0]
    pixel, towards = side // 4, side % 4
    step = torch.from_numpy(_AROUND @ (width, 1)).to(device)
    ahead = pixel + step[(towards + 1) % 4]
    beyond = ahead + step[towards]
    straight = inside.flatten()[ahead]
    inwards = straight & inside.flatten()[beyond]
    pixel_after = torch.where(inwards, beyond, torch.where(straight, ahead, pixel))
    turn = 1 - straight.long() - inwards.long()
    after = torch.searchsorted(side, 4 * pixel_after + (towards + turn) % 4)

    # A contour is a ring of sides, named after the first; from each, the number left to its end.
    itself = torch.arange(len(side), device=device)
    rounds = range(len(side).bit_length())
    ring, further = itself, after
    for _ in rounds:
        ring, further = torch.minimum(ring, ring[further]), further[further]
    ends = after == ring
    left, further = (~ends).long(), torch.where(ends, itself, after)
    for _ in rounds:
        left, further = left + left[further], further[further]
    length = torch.bincount(ring, minlength=len(side))[ring]
    window = pixel // (height * width)
    rank = length * len(side) - ring  # of equal ones the first
    best = rank.new_zeros(n).scatter_reduce(0, window, rank, "amax")
    own = rank == best[window]

    middle = torch.from_numpy(_AROUND / 2).to(device)[towards]
    middle += torch.stack([pixel // width % height, pixel % width], dim=1) + origin[window]
    count = torch.bincount(window[own], minlength=n)
    end = (count + 1).cumsum(0)  # the first corner is there twice
    out = middle.new_empty((len(side) + n, 2))[: int(end[-1])]
    out[(end - 1)[window[own]] - 1 - left[own]] = middle[own]
    out[end - 1] = out[end - 1 - count]
    return np.split(out.cpu().numpy(), end[:-1].cpu().numpy())
