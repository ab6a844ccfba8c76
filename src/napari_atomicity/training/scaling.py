"""Scale of training images: the intensity of one atom, known or estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..core.scale_reference import ScaleReference
from ..models.intensity_scale import intensity_per_atom, usable
from .data import PatchSet
from .diameter_density import fit_diameter_density


def find_scale(image: pd.DataFrame, reference: ScaleReference) -> float:
    """Return the intensity of one atom in an image: from its known classes, else by the mixture.

    In a field of one size there are no intensity ratios to recognise, and the mixture may be one
    class off. It is not used where the classes of the clusters are known.
    """
    if "known_intensity_per_atom" in image:
        return float(image["known_intensity_per_atom"].iloc[0])
    return intensity_per_atom(image, reference)


def scale_patches(part: PatchSet, reference: ScaleReference) -> tuple[PatchSet, np.ndarray]:
    """Divide every image's raw channel by its intensity per atom (`find_scale`).

    Returns
    -------
    part : PatchSet
        With the raw channel in atoms per nm².
    scale : ndarray of shape (N,)
        Intensity per atom.
    """
    scale = np.ones(len(part))
    for _, rows in part.table.groupby("image", sort=False).indices.items():
        scale[rows] = find_scale(part.table.iloc[rows], reference)
    patches = dict(part.patches)
    if "raw" in patches:
        patches["raw"] = (patches["raw"] / scale[:, None, None]).astype(np.float32)
    return replace(part, patches=patches), scale


def fit_scale_reference(train: PatchSet, classes: Sequence[str]) -> ScaleReference:
    """Fit the intensities and diameters of the classes.

    Simulated clusters have a known intensity of an atom. On images of known classes it follows
    image by image from the number of atoms that the class names.
    """
    table = train.table[usable(train.table) & train.table["truth"].isin(list(classes))]
    known = "true_intensity_per_atom" in table
    per_atom = table["true_intensity_per_atom" if known else "known_intensity_per_atom"].to_numpy(
        float
    )
    intensity = table["integrated_intensity"].to_numpy(float) / per_atom
    return ScaleReference.fit(
        intensity, table["diameter_nm"].to_numpy(float), table["truth"].to_numpy(), classes
    )


def fit_class_diameters(
    train: PatchSet, classes: Sequence[str], reference: ScaleReference
) -> tuple[tuple[float, ...], ...]:
    """Fit the densities of the diameters of the classes to complete, isolated clusters.

    Parameters
    ----------
    train : PatchSet
        Clusters of known class.
    classes : sequence of str
        Classes in order of size.
    reference : ScaleReference
        Reference of the same classes.

    Returns
    -------
    tuple of tuple of float, shape (n_classes, n_residuals)
        For `ModelCard.diameter_density`.
    """
    table = train.table[usable(train.table) & train.table["truth"].isin(list(classes))]
    label = table["truth"].map(list(classes).index).to_numpy(int)
    return fit_diameter_density(table["diameter_nm"].to_numpy(float), label, reference)


def select_classes(part: PatchSet, classes: Sequence[str]) -> PatchSet:
    """Select the clusters of the classes that are not cut by the border."""
    keep = part.table["truth"].isin(list(classes)) & ~part.table["touches_border"]
    return part.take(keep.to_numpy(bool))
