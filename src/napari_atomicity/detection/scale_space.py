"""Scale space by Fourier transform: the computing time does not depend on the scale."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import fft


class ScaleSpace:
    """Gaussian scale space of one frame.

    Parameters
    ----------
    frame : ndarray of shape (Y, X), float32
        Finite intensities.
    reach_px : float
        Largest sigma used; the frame is mirrored accordingly beyond its edges.
    """

    def __init__(self, frame: np.ndarray, reach_px: float) -> None:
        self._shape = frame.shape
        pad = [min(int(np.ceil(4 * reach_px)), n - 1) for n in frame.shape]
        full = [
            fft.next_fast_len(n + 2 * p, real=True) for n, p in zip(frame.shape, pad, strict=True)
        ]
        width = [(p, f - n - p) for n, p, f in zip(frame.shape, pad, full, strict=True)]
        mirrored = np.pad(
            frame.astype(np.float32), width, mode="reflect" if min(frame.shape) > 1 else "edge"
        )
        self._crop = tuple(slice(p, p + n) for n, p in zip(frame.shape, pad, strict=True))
        self._full = full
        self._workers = min(4, os.cpu_count() or 1)
        self._spectrum = fft.rfft2(mirrored, workers=self._workers)
        ky = (2 * np.pi * fft.fftfreq(full[0])).astype(np.float32)
        kx = (2 * np.pi * fft.rfftfreq(full[1])).astype(np.float32)
        self._ky2, self._kx2 = (ky**2)[:, None], (kx**2)[None]

    def _inverse(self, transfer: np.ndarray) -> np.ndarray:
        image = fft.irfft2(self._spectrum * transfer, s=self._full, workers=self._workers)
        return np.asarray(image[self._crop], dtype=np.float32)

    def _gaussian_transfer(self, sigma_px: float) -> np.ndarray:
        half = -0.5 * sigma_px**2
        transfer: np.ndarray = np.exp(half * self._ky2) * np.exp(half * self._kx2)
        return transfer

    def gaussian(self, sigma_px: float) -> np.ndarray:
        """Return the frame blurred by a Gaussian of ``sigma_px``."""
        return self._inverse(self._gaussian_transfer(sigma_px))

    def laplacian(self, sigma_px: float) -> np.ndarray:
        """Return the scale-normalised negative Laplacian of Gaussian: positive at bright blobs.

        The factor sigma² makes scales comparable (Lindeberg, Int. J. Comput. Vis. 30, 79 (1998)); a
        disc of radius r responds most strongly at sigma = r / sqrt(2).
        """
        k2 = self._ky2 + self._kx2
        return self._inverse(sigma_px**2 * k2 * self._gaussian_transfer(sigma_px))

    def laplacians(self, sigmas_px: Sequence[float]) -> Iterator[np.ndarray]:
        """Yield the `laplacian` of each scale."""
        for sigma in sigmas_px:
            yield self.laplacian(sigma)
