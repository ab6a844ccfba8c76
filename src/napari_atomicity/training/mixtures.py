"""Mixtures of clusters of size-selected images, for calibration under the conditions of use.

In a field of one size there are no intensity ratios from which the scale can be found. In a
mixture there are, and the calibration of a model must include the errors of mixtures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .data import KNOWN_SCALE, PatchSet

CLUSTERS_PER_IMAGE = 25
"""Mean number of clusters of a mixture."""
SHARES = 2.0
"""Concentration of the Dirichlet distribution of the shares."""


def shuffle_into_mixtures(part: PatchSet, classes: Sequence[str], seed: int) -> PatchSet:
    """Shuffle clusters of images of known scale into mixtures of random shares with one scale.

    Every cluster occurs one time. Each class is divided over all mixtures, so that none is left for
    mixtures of its own, in which the scale could not be found. Intensities and raw patches are
    divided by the scale of their image, and the known scale of a mixture is 1; the scatter about
    the median of the image stays.

    Parameters
    ----------
    part : PatchSet
        With `KNOWN_SCALE`, else it is returned unchanged. Raw channel in counts.
    """
    table = part.table
    if KNOWN_SCALE not in table:
        return part
    rng = np.random.default_rng(seed)
    scale = table[KNOWN_SCALE].to_numpy(float)
    of_class = [np.flatnonzero((table["truth"] == c).to_numpy()) for c in classes]
    n_mixtures = max(1, round(sum(map(len, of_class)) / CLUSTERS_PER_IMAGE))
    image = np.full(len(table), "", object)
    for rows in of_class:
        numbers = rng.multinomial(len(rows), rng.dirichlet([SHARES] * n_mixtures))
        names = [f"mixture {i}" for i in range(n_mixtures)]
        image[rng.permutation(rows)] = np.repeat(names, numbers)
    mixed = table.assign(
        image=image,
        origin=table["image"],
        integrated_intensity=table["integrated_intensity"] / scale,
        **{KNOWN_SCALE: 1.0},
    )
    patches = dict(part.patches)
    if "raw" in patches:
        patches["raw"] = (patches["raw"] / scale[:, None, None]).astype(np.float32)
    return replace(part, table=mixed, patches=patches).take(image != "")
