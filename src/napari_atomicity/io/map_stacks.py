"""Write class maps as an ImageJ stack."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .files import atomic_write
from .own_files import RESULT


def write_map_stack(
    maps: Mapping[str, np.ndarray],
    names: Sequence[str],
    pixel_size_nm: float,
    path: str | os.PathLike[str],
) -> Path:
    """Write the maps of the clusters of an image as a stack that ImageJ, Fiji and napari open.

    Parameters
    ----------
    maps : mapping of str to ndarray
        Channel → (N, h, w), at least one cluster.
    names : sequence of str
        Names of the N clusters; the label of each plane is the name and the channel.
    pixel_size_nm : float
        Pixel size of the maps in nm.

    Returns
    -------
    Path
        The file: float32, axes ZCYX, Z are the clusters and C the channels.

    Raises
    ------
    AtomicityError
        If the file can not be written.
    """
    from tifffile import imwrite

    stack = np.stack(list(maps.values()), axis=1).astype(np.float32)
    labels = [f"{name}, {channel}" for name in names for channel in maps]
    with atomic_write(path) as temporary:
        imwrite(
            temporary,
            stack,
            imagej=True,
            software=RESULT,
            resolution=(1 / pixel_size_nm, 1 / pixel_size_nm),
            metadata={"axes": "ZCYX", "unit": "nm", "mode": "grayscale", "Labels": labels},
        )
    return Path(path)
