"""Registered frames averaged before clusters are looked for: less noise, less time resolution."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
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
    """The mean of every ``frames`` successive frames, each moved to where the middle one lies.

    Frames are moved by cubic splines to fractions of a pixel. Where a frame shows nothing, beyond
    the edge of its field, the mean is that of the others; NaN where none does. Frames left over at
    the end that are fewer than half a group are left out.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated stack.
    frames : int or str
        How many, or "all".
    drift : StageDrift, optional
        Of the stage; found by the images, if None.

    Returns
    -------
    Micrograph
        A stack of fewer frames, or a single image if all are averaged. Its metadata say
        ``averaged_frames``, and the longer time from frame to frame if it was known.

    Raises
    ------
    AtomicityError
        If ``frames`` is no number of frames.
    CalibrationError
        If the pixel size is not known.
    Cancelled
        If ``stop()`` says so.
    """
    n = micrograph.n_frames
    size = n if frames == ALL else frames
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise AtomicityError(f"frames to average are a number from 1 on or {ALL!r}, not {frames!r}")
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
        members = range(start, min(start + size, n))
        middle = members[len(members) // 2]
        total = np.zeros(micrograph.shape_px, np.float64)
        weight = np.zeros(micrograph.shape_px, np.float64)
        for t in members:
            moved, seen = _moved(micrograph.data[t], shift_px[middle] - shift_px[t])
            total += moved
            weight += seen
        out[number] = np.where(weight > 0, total / np.maximum(weight, 1), np.nan)
    time_s = frame_time_of(micrograph)
    told = {} if time_s is None else {FRAME_TIME: time_s * size}
    single = len(starts) == 1
    return Micrograph(
        out[0] if single else out,
        micrograph.pixel_size_nm,
        micrograph.name,
        micrograph.path,
        micrograph.sha256,
        {**micrograph.metadata, **told, "averaged_frames": size, "of_frames": n},
    )


def _moved(frame: np.ndarray, shift_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A frame moved by (y, x), zero where nothing was seen, and where something was (0 or 1)."""
    frame = np.asarray(frame, np.float32)
    finite = np.isfinite(frame)
    filled = np.where(finite, frame, np.median(frame[finite]) if finite.any() else 0.0)
    if not np.any(shift_px):
        return np.where(finite, filled, 0.0), finite.astype(np.float64)
    moved = ndimage.shift(filled, shift_px, order=3, mode="nearest")
    # half a pixel beyond the edge is the edge's own value
    seen = ndimage.shift(finite.astype(np.float32), shift_px, order=1, mode="constant", cval=0.0)
    inside = seen > 0.99
    return np.where(inside, moved, 0.0), inside.astype(np.float64)
