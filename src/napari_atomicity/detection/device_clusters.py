"""Clusters found on a GPU: the frame goes there once, and what is known of its clusters comes back.

The steps and numbers are those of `detection.clusters`, operation by operation; a sum over many
pixels is taken in another order, so that what lies within rounding of a threshold may fall on its
other side. Large images, and what the device can't do, are left to the CPU.
"""

from __future__ import annotations

import logging

import numpy as np
import torch

from ..micrograph import Micrograph
from ..model.devices import give_back, is_loss, is_lost, lacks_memory, note_loss
from ..progress import Progress, Stop, check, report
from .clusters import (
    SADDLE_SIGMA_NM,
    Detection,
    DetectionSettings,
    Found,
    close_pairs,
    detect,
    grid_of,
    noise_asked,
    outlines_of_frame,
    parted,
    paths,
    summits_asked,
    without_twins,
)
from .device_frame import DeviceFrame, gaussian, goes_whole, send, sent_once
from .device_outlines import grow_regions, measure_regions
from .device_summits import find_summits, noise_under
from .filters import cubic_weights, reach
from .outlines import Outline
from .summits import coarsening, without_overlap

_log = logging.getLogger(__name__)


def detect_for_device(
    device: torch.device,
    micrograph: Micrograph,
    settings: DetectionSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[Detection, str]:
    """`detection.clusters.detect`, on the device if that is a GPU and has the memory.

    Returns
    -------
    Detection
        As there.
    str
        Where it was found: the device, "cpu", or both if some frames had to be left to the CPU.

    Raises
    ------
    CalibrationError, UnsuitableImageError, Cancelled
        As there.
    """
    used: dict[str, None] = {}
    able = device.type == "cuda" and goes_whole(micrograph) and not is_lost(device)

    def find(
        micrograph: Micrograph,
        index: int,
        settings: DetectionSettings,
        stop: Stop | None,
        progress: Progress | None,
    ) -> Found | None:
        nonlocal able
        if able:
            try:
                found = outlines_on_device(device, micrograph, index, settings, stop, progress)
                used[str(device)] = None
                return found
            except RuntimeError as error:
                if lacks_memory(error):
                    _log.warning("out of GPU memory: the clusters are looked for by the CPU")
                elif is_loss(error, device):
                    note_loss(device, error)
                else:
                    raise
                able = False
            give_back(device)
        used["cpu"] = None
        return outlines_of_frame(micrograph, index, settings, stop, progress)

    with sent_once():
        found = detect(micrograph, settings, progress, stop, find=find)
    return found, ", ".join(used)


@torch.inference_mode()
def outlines_on_device(
    device: torch.device,
    micrograph: Micrograph,
    index: int,
    settings: DetectionSettings,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Found | None:
    """`detection.clusters.outlines_of_frame` by PyTorch, on any device.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    torch.OutOfMemoryError
        If the frame, with some twenty images of its size, does not fit.
    """
    factor, window_nm = grid_of(micrograph.calibrated(), settings)
    pixels, recorded = send(micrograph, index, device)
    check(stop)
    frame = DeviceFrame(recorded, pixels, micrograph.calibrated(), factor, window_nm)
    if frame.n_finite < 2:
        return None
    summits = find_summits(frame, *summits_asked(settings, frame.pixel_nm), stop)
    points = summits.points[without_overlap(summits.points, summits.radius)]
    points = _distinct(points, frame, settings)
    if len(points) == 0:
        return frame, []
    check(stop)
    report(progress, 0, len(points), "Outlining clusters")
    noise = noise_under(frame, *noise_asked(frame.pixel_nm))
    regions = grow_regions(frame, points, noise, settings.diameter_max_nm)
    found = measure_regions(regions, len(points), stop)
    return frame, sorted(found, key=_from_top)


def _from_top(outline: Outline) -> tuple[float, float]:
    return outline.centre_px[0], outline.centre_px[1]


def _distinct(points: np.ndarray, frame: DeviceFrame, settings: DetectionSettings) -> np.ndarray:
    """As in `detection.clusters`."""
    pairs = close_pairs(points, settings, frame.pixel_nm)
    if len(pairs) == 0:
        return points
    heights = _saddle_heights(frame, paths(points, pairs))
    return without_twins(points, pairs[~parted(heights, settings)])


def _saddle_heights(frame: DeviceFrame, points: np.ndarray) -> np.ndarray:
    """As in `detection.clusters`, but blurred as a whole."""
    sigma_px = SADDLE_SIGMA_NM / frame.pixel_nm
    step = coarsening(frame, sigma_px)  # type: ignore[arg-type]
    sigma = np.sqrt(sigma_px**2 - (step**2 - 1) / 12) / step
    image = gaussian(frame.flat(step, margin=reach(sigma) + 3), sigma)
    at = torch.from_numpy((points + 0.5) / step - 0.5 + 3).to(frame.device)
    low = at.floor().long()
    down, across = (torch.stack(cubic_weights(t)) for t in (at - low).T)  # type: ignore[arg-type]
    total = torch.zeros_like(at[:, 0])
    for i in range(4):
        for k in range(4):
            total += image[low[:, 0] + i - 1, low[:, 1] + k - 1] * down[i] * across[k]
    return total.cpu().numpy()
