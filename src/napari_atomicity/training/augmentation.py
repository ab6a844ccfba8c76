"""Augmentation of patches: symmetries, errors of the scale, noise, blur and neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

BLUR_PX = 1.0
"""Largest standard deviation of the blur at strength 1, in pixels of the patch."""
GAP_PX = 6.0
"""Largest distance of the outlines of neighbours, in pixels of the patch."""


def augmented(
    batch: dict[str, Tensor],
    jitter: float,
    generator: torch.Generator,
    conditions: float = 0.0,
    neighbours: float = 0.0,
    radius_px: Tensor | None = None,
    shift_px: int = 0,
) -> dict[str, Tensor]:
    """Return patches (N, P, P) per channel as if recorded under other conditions.

    Parameters
    ----------
    jitter : float
        Standard deviation of the logarithm of an error of the scale of the raw channel.
    generator : torch.Generator
        Source of all random numbers.
    conditions : float, optional
        Strength of other conditions. At 1 a patch gets up to as much additional noise as it has, a
        blur of up to `BLUR_PX`, and an error of the background of half the noise (one standard
        deviation).
    neighbours : float, optional
        Share of the patches that get another cluster of the batch as a neighbour.
    radius_px : Tensor of shape (N,), optional
        Radius of the clusters in pixels of the patch; without it no patch gets a neighbour.
    shift_px : int, optional
        Largest shift along each axis; the edge of the patch is repeated.
    """
    n = len(next(iter(batch.values())))
    out = _turned(batch, n, generator)
    if shift_px > 0:
        out = _shifted(out, shift_px, generator)
    if neighbours > 0 and radius_px is not None:
        out = _with_neighbours(out, neighbours, radius_px, generator)
    if conditions > 0:
        out = _conditions(out, n, conditions, generator)
    if "raw" in out and jitter > 0:
        factor = torch.exp(jitter * torch.randn(n, generator=generator))
        out["raw"] = out["raw"] * factor[:, None, None]
    return out


def _turned(batch: dict[str, Tensor], n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Apply a random symmetry of the square to each patch, the same in all channels."""
    which = torch.randint(8, (n,), generator=generator)
    out = {}
    for channel, x in batch.items():
        x = x.clone()
        for k in range(1, 8):
            own = which == k
            turned = torch.rot90(x[own], k % 4, dims=(1, 2))
            x[own] = turned.flip(2) if k >= 4 else turned
        out[channel] = x
    return out


def _shifted(
    batch: dict[str, Tensor], shift_px: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Shift each patch by whole pixels, the same in all channels."""
    n, size = (next(iter(batch.values()))).shape[:2]
    shift = torch.randint(-shift_px, shift_px + 1, (2, n, 1), generator=generator)
    y, x = (torch.arange(size) + shift).clamp(0, size - 1)  # (N, P) each
    row = torch.arange(n)[:, None, None]
    return {c: patch[row, y[:, :, None], x[:, None, :]] for c, patch in batch.items()}


def _with_neighbours(
    batch: dict[str, Tensor], share: float, radius_px: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Put another cluster of the batch next to some, touching or nearly so.

    In size-selected images clusters are isolated, in mixtures some touch. A network trained on
    isolated clusters only adds the neighbour to the cluster. Intensities above the background add
    up; local contrast becomes that of the neighbour where the neighbour is.
    """
    n, size = len(radius_px), next(iter(batch.values())).shape[-1]
    partner = torch.randperm(n, generator=generator)
    chosen = torch.rand(n, generator=generator) < share
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    gap = GAP_PX * torch.rand(n, generator=generator)
    other = radius_px[partner]
    far = radius_px + other + gap
    shift = torch.stack([far * torch.cos(angle), far * torch.sin(angle)], dim=1)  # (N, 2) of x, y
    place = torch.eye(2).expand(n, 2, 2)
    grid = functional.affine_grid(
        torch.cat([place, -2 / size * shift[:, :, None]], dim=2), [n, 1, size, size], False
    )
    at = torch.arange(size) - (size - 1) / 2
    away = torch.hypot(
        at[None, None, :] - shift[:, :1, None], at[None, :, None] - shift[:, 1:, None]
    )
    mask = torch.sigmoid((other[:, None, None] + 1.5 - away) / 0.7) * chosen[:, None, None]
    out = {}
    for channel, x in batch.items():
        moved = functional.grid_sample(x[partner][:, None], grid, align_corners=False)[:, 0]
        out[channel] = (x if channel == "raw" else x * (1 - mask)) + mask * moved
    return out


def _conditions(
    batch: dict[str, Tensor], n: int, strength: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """Add noise, blur and an error of the background."""
    blur = BLUR_PX * strength * torch.rand(n, generator=generator)
    share = strength * torch.rand(n, generator=generator)
    offset = 0.5 * strength * torch.randn(n, generator=generator)
    # one realisation for all channels: they are two views of the same counts
    white = torch.randn(next(iter(batch.values())).shape, generator=generator)
    out = {}
    for channel, x in batch.items():
        noise = noise_of(x)
        changed = blurred(x, blur) + (share * noise)[:, None, None] * white
        if channel == "raw":
            changed = changed + (offset * noise)[:, None, None]
        else:  # contrast stays normalised, whatever noise and blur do
            spread = x.std(dim=(1, 2)) / changed.std(dim=(1, 2)).clamp(min=1e-12)
            changed = changed * spread[:, None, None]
        out[channel] = changed
    return out


def noise_of(x: Tensor) -> Tensor:
    """Estimate the noise (N,) of patches from differences of neighbouring pixels."""
    difference = (x[:, :, 1:] - x[:, :, :-1]).flatten(1).abs()
    return 1.4826 / math.sqrt(2) * difference.median(dim=1).values


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur each patch (N, P, P) with a Gaussian of its standard deviation (N,) in pixels."""
    radius = 3
    at = torch.arange(-radius, radius + 1, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (at / sigma.clamp(min=0.05)[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    n = len(x)
    padded = functional.pad(x[None], [radius] * 4, mode="reflect")
    along_y = functional.conv2d(padded, kernel[:, None, :, None], groups=n)
    return functional.conv2d(along_y, kernel[:, None, None, :], groups=n)[0]
