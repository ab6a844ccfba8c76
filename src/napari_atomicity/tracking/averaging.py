"""Averaging of registered frames before detection: less noise, lower time resolution."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..detection.outliers import find_repairs
from .drift import StageDrift, estimate_drift
from .settings import FRAME_TIME, frame_time_of

ALL = "all"


def average_frames(
    micrograph: Micrograph,
    frames: int | str,
    drift: StageDrift | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Micrograph:
    """Average every ``frames`` successive frames, each shifted to the middle one.

    Frames are shifted by cubic splines with sub-pixel precision. Pixels outside the field of a
    frame are averaged over the other frames; NaN without any. Remaining frames at the end that are
    fewer than half a group are omitted.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated stack.
    frames : int or str
        Number of frames, or "all".
    drift : StageDrift, optional
        Drift of the stage; estimated from the images if None.
    progress, stop : callable, optional
        Called for every averaged frame.

    Returns
    -------
    Micrograph
        A stack of fewer frames, or a single image if all are averaged. Its metadata contain
        ``averaged_frames``, and the longer frame time if it was known.

    Raises
    ------
    AtomicityError
        If ``frames`` is not a number of frames.
    CalibrationError
        If the pixel size is unknown.
    Cancelled
        If ``stop()`` returns True.
    """
    n = micrograph.n_frames
    size = n if frames == ALL else frames
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise AtomicityError(f"frames must be an integer of at least 1 or {ALL!r}, not {frames!r}")
    size = min(size, n)
    if size == 1:
        return micrograph
    if drift is None:
        drift = estimate_drift(micrograph, method="image", progress=progress, stop=stop)
    shift_px = drift.shift_nm / micrograph.calibrated()
    starts = [s for s in range(0, n, size) if 2 * (min(s + size, n) - s) >= size]
    out = np.empty((len(starts), *micrograph.shape_px), np.float32)
    for number, start in enumerate(starts):
        check(stop)
        report(progress, number, len(starts), "Averaging frames")
        out[number] = _average_group(micrograph, range(start, min(start + size, n)), shift_px)
    return _averaged_micrograph(micrograph, out, size)


def _average_group(micrograph: Micrograph, members: range, shift_px: np.ndarray) -> np.ndarray:
    """Return the mean (Y, X) of frames, shifted to the middle one; NaN outside all fields."""
    middle = members[len(members) // 2]
    total = np.zeros(micrograph.shape_px, np.float64)
    weight = np.zeros(micrograph.shape_px, np.float64)
    for t in members:
        frame = find_repairs(micrograph, t)[0].replace(np.asarray(micrograph.data[t]))
        shifted, valid = _shift_frame(frame, shift_px[middle] - shift_px[t])
        total += shifted
        weight += valid
    return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)


def _averaged_micrograph(micrograph: Micrograph, frames: np.ndarray, size: int) -> Micrograph:
    """Return the averaged frames with the metadata of the stack."""
    time_s = frame_time_of(micrograph)
    frame_time = {} if time_s is None else {FRAME_TIME: time_s * size}
    counts = {"averaged_frames": size, "of_frames": micrograph.n_frames}
    return Micrograph(
        frames[0] if len(frames) == 1 else frames,
        micrograph.pixel_size_nm,
        micrograph.name,
        micrograph.path,
        micrograph.sha256,
        {**micrograph.metadata, **frame_time, **counts},
    )


def _shift_frame(frame: np.ndarray, shift_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift a frame by (y, x); return it and where it is valid (0 or 1), zero elsewhere."""
    frame = np.asarray(frame, np.float32)
    finite = np.isfinite(frame)
    filled = np.where(finite, frame, np.median(frame[finite]) if finite.any() else 0.0)
    if not np.any(shift_px):
        return np.where(finite, filled, 0.0), finite.astype(np.float64)
    shifted = ndimage.shift(filled, shift_px, order=3, mode="nearest")
    # half a pixel beyond the edge is extrapolated from the edge
    valid = ndimage.shift(finite.astype(np.float32), shift_px, order=1, mode="constant", cval=0.0)
    inside = valid > 0.99
    return np.where(inside, shifted, 0.0), inside.astype(np.float64)
