"""Patches of the training as they would look under the conditions of other images.

Blur, noise and the texture of the support change the power of the fine details of a patch. The mean
power of the patches of other images over that of the replayed ones, ring by ring in the Fourier
plane, tells by how much. Where it is less, the replayed patches are filtered; where it is more,
noise with the missing power is added. Coarse details, which depend on the sizes of the clusters,
stay. So classes without pseudo-labels are replayed as they look now, with their true labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

COARSE_PER_NM = 1.2
"""Spatial frequency up to which the power depends on the size of a cluster."""
LIMITS = (0.05, 1.0)
"""Of the factors by which amplitudes are filtered."""


def match_conditions(
    replayed: Mapping[str, np.ndarray],
    target: Mapping[str, np.ndarray],
    field_of_view_nm: float,  # edge length of a patch
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Filter replayed patches, and add noise, so that their details have the power of others."""
    return {
        channel: _match(patches.astype(np.float32), target[channel], field_of_view_nm, rng)
        for channel, patches in replayed.items()
    }


def _match(
    patches: np.ndarray, target: np.ndarray, field_of_view_nm: float, rng: np.random.Generator
) -> np.ndarray:
    size = patches.shape[-1]
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)) * size  # cycles per patch
    ring = np.rint(k).astype(int)
    coarse = ring <= COARSE_PER_NM * field_of_view_nm
    here, there = (_relative_power(p, ring, coarse) for p in (patches, target))
    ratio = there / np.maximum(here, 1e-12)
    factor = np.clip(np.sqrt(ratio), *LIMITS)
    missing = np.maximum(there - here * factor**2, 0.0)
    factor, missing = factor[ring], missing[ring]
    factor[coarse], missing[coarse] = 1.0, 0.0
    spectrum = np.fft.fft2(patches)
    filtered = np.fft.ifft2(spectrum * factor).real
    level = np.mean(np.abs(spectrum[:, coarse & (ring > 0)]) ** 2, axis=1)
    noise = np.fft.fft2(rng.standard_normal(patches.shape)) / size  # of unit power
    noise = np.fft.ifft2(noise * np.sqrt(missing * level.mean())).real
    return np.asarray(filtered + noise, np.float32)


def _relative_power(patches: np.ndarray, ring: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Mean power in each ring relative to that of the coarse details."""
    power = np.mean(np.abs(np.fft.fft2(patches)) ** 2, axis=0)
    total = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    return np.asarray(total / power[coarse & (ring > 0)].mean())
