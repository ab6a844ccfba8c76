"""Mixtures of clusters of size-selected images, for calibration under the conditions of use.

In a field of one size there are no intensity ratios from which the scale can be found. In a
mixture there are, and the calibration of a model must include the errors of mixtures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .data import PatchSet

CLUSTERS_PER_IMAGE = 25
SHARES = 2.0
"""Concentration of the Dirichlet distribution of the shares."""


def shuffle_into_mixtures(part: PatchSet, classes: Sequence[str], seed: int) -> PatchSet:
    """Shuffle clusters of images of known scale into mixtures of random shares with one scale.

    Every cluster occurs one time. Its intensity and its raw patch are divided by the scale of its
    image; its scatter about the median of the image stays.

    Parameters
    ----------
    part : PatchSet
        With ``known_intensity_per_atom``, else it is returned unchanged. Raw channel in counts.
    classes : sequence of str
        In order.
    seed : int
        Seed of the shuffling.

    Returns
    -------
    PatchSet
        The mixtures.
    """
    table = part.table
    if "known_intensity_per_atom" not in table:
        return part
    rng = np.random.default_rng(seed)
    scale = table["known_intensity_per_atom"].to_numpy(float)
    left = {
        c: list(rng.permutation(np.flatnonzero((table["truth"] == c).to_numpy()))) for c in classes
    }
    image = np.full(len(table), "", object)
    number = 0
    while any(left.values()):
        there = [c for c in classes if left[c]]
        shares = rng.dirichlet([SHARES] * len(there))
        wanted = rng.multinomial(CLUSTERS_PER_IMAGE, shares)
        for name, n in zip(there, wanted, strict=True):
            taken, left[name] = left[name][:n], left[name][n:]
            image[taken] = f"mixture {number}"
        number += 1
    mixed = table.assign(
        image=image,
        origin=table["image"],
        integrated_intensity=table["integrated_intensity"] / scale,
    ).drop(columns="known_intensity_per_atom")
    patches = dict(part.patches)
    if "raw" in patches:
        patches["raw"] = (patches["raw"] / scale[:, None, None]).astype(np.float32)
    return replace(part, table=mixed, patches=patches).take(image != "")
