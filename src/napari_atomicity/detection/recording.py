"""Effects of the recording on the intensities of a frame, found in its pixels and corrected.

See `detection.clipping`, `detection.outliers` and `detection.shading`. Where pixels are so large or
small that single precision does not hold what filters compute, they are divided by a power of two.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..core.micrograph import MISSING_SHARE, Micrograph
from .clipping import (
    DENSITY_SIGMA_NM,
    MIN_CLIPPED,
    Clipping,
    find_clipping,
    find_extremes,
    fraction_at_floor,
    is_nonlinear,
    restore_clipped,
)
from .filters import reach
from .outliers import NONE, OutlierPixels, RepairedFrame, find_repairs, repair
from .shading import Shading, find_shading


@dataclass(frozen=True)
class RecordingEffects:
    """Effects of the recording of a frame."""

    clipping: Clipping | None = None  # upper limit, if pixels are clipped, in ``unit``
    shading: Shading | None = None  # response, if it is not uniform
    floor: float = 0.0  # fraction of the pixels at the lower limit, if that is a spike; otherwise 0
    # whether the histogram shows that the grey levels are no linear function of the intensity
    nonlinear: bool = False
    # whether the level changes smoothly and may be shading, which the noise does not confirm
    ambiguous_shading: bool = False
    outliers: OutlierPixels = NONE  # hot and dead pixels
    # unit in which pixels are computed, relative to that of the file: a power of two
    unit: float = 1.0
    # position in the frame of the first pixel that `repair` and `restore` get
    origin: tuple[int, int] = (0, 0)

    @property
    def is_faithful(self) -> bool:
        """Whether pixels are neither clipped nor shaded."""
        return self.clipping is None and self.shading is None

    def cropped(self, top: int, left: int) -> RecordingEffects:
        """Return the recording for a part of the frame.

        Parameters
        ----------
        top, left : int
            First pixel of the part in the frame.
        """
        return replace(self, origin=(self.origin[0] + top, self.origin[1] + left))

    def repair(self, part: np.ndarray, top: int, left: int) -> np.ndarray:
        """Replace outlier pixels, and convert pixels to ``unit``.

        Parameters
        ----------
        part : ndarray of shape (Y, X)
            Recorded pixels.
        top, left : int
            Position of the first pixel.

        Returns
        -------
        ndarray of shape (Y, X), float32
        """
        y, x = self.origin
        return repair(part, self.outliers, self.unit, top + y, left + x)

    def margin_px(self, pixel_nm: float) -> int:
        """Return the margin in pixels that `restore` requires."""
        return 0 if self.clipping is None else reach(DENSITY_SIGMA_NM / pixel_nm)

    def restore(self, part: np.ndarray, top: int, left: int, pixel_nm: float) -> np.ndarray:
        """Correct pixels.

        Parameters
        ----------
        part : ndarray of shape (Y, X), float32
            Pixels from `repair` with a margin of `margin_px` where the frame has one.
        top, left : int
            Position of the first pixel.
        pixel_nm : float
            Edge length of a pixel in nm.

        Returns
        -------
        ndarray of shape (Y, X), float32
        """
        if self.clipping is not None:
            part = restore_clipped(part, self.clipping, pixel_nm)
        if self.shading is not None:
            y, x = (
                np.arange(n) + first + start
                for n, first, start in zip(part.shape, (top, left), self.origin, strict=True)
            )
            part = part / self.shading.at(y[:, None], x)
        return part

    def clipped(self, part: np.ndarray) -> np.ndarray:
        """Return which pixels from `repair` are clipped."""
        if self.clipping is None:
            return np.zeros(part.shape, bool)
        return np.asarray(part >= self.clipping.limit)

    def response(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the response at points; 1 without shading.

        Parameters
        ----------
        y, x : ndarray of shape (N,)
            Points in pixels.

        Returns
        -------
        ndarray of shape (N,)
            Relative to the mean over the frame.
        """
        if self.shading is None:
            return np.ones(len(y))
        return self.shading.at(y + self.origin[0], x + self.origin[1]).astype(float)

    def provenance(self) -> dict[str, Any]:
        """Return what was found, for the record of a run; empty for a faithful recording."""
        found: dict[str, Any] = {}
        if self.clipping is not None:
            counts = {n: getattr(self.clipping, n) * self.unit for n in ("limit", "excess")}
            found["clipping"] = asdict(self.clipping) | counts
        if self.shading is not None:
            found["shading"] = {"smallest_response": self.shading.smallest}
        if self.floor > 0:
            found["at_lower_limit"] = self.floor
        for name in ("nonlinear", "ambiguous_shading"):
            if getattr(self, name):
                found[name] = True
        if len(self.outliers):
            found[OUTLIERS] = len(self.outliers)
        return found


OUTLIERS = "outlier_pixels"
"""Key of `RecordingEffects.provenance`: number of outlier pixels, which were replaced."""
FAITHFUL = RecordingEffects()
"""No effects: the pixels need no correction."""
_known: WeakKeyDictionary[Micrograph, dict[int, RecordingEffects]] = WeakKeyDictionary()


def missing_pixels(micrograph: Micrograph) -> dict[str, Any]:
    """Return the share of an image that its file does not store; empty if it stores all."""
    missing = micrograph.metadata.get(MISSING_SHARE)
    return {MISSING_SHARE: missing} if missing else {}


def recording_of(micrograph: Micrograph, index: int = 0) -> RecordingEffects:
    """Find the effects of the recording of a frame; the result is cached with the image.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated image or stack.
    """
    found = _known.setdefault(micrograph, {})
    if index not in found:
        found[index] = _find_recording(micrograph, index)
    return found[index]


def _find_recording(micrograph: Micrograph, index: int) -> RecordingEffects:
    ends = find_extremes(micrograph, index)
    if not ends.low < ends.high:
        return FAITHFUL
    outliers, unit = find_repairs(micrograph, index, ends)
    if len(outliers) or unit != 1.0:
        repaired = RepairedFrame(micrograph.frame(index), outliers, unit)
        micrograph = Micrograph(repaired, micrograph.pixel_size_nm)
        index, ends = 0, find_extremes(micrograph, 0)
    clipping = find_clipping(micrograph, index, ends) if ends.n_high >= MIN_CLIPPED else None
    shading, ambiguous = find_shading(micrograph.frame(index))
    return RecordingEffects(
        clipping,
        shading,
        fraction_at_floor(micrograph, index, ends),
        is_nonlinear(micrograph, index, ends),
        ambiguous,
        outliers,
        unit,
    )
