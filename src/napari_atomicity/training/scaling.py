"""Scale of labelled images: the intensity of one atom, known or estimated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..core.scale_reference import ScaleReference
from ..models.intensity_scale import (
    ConstrainedMixture,
    fit_image,
    intensity_per_atom,
    usable,
)
from ..statistics.scores import atoms_of
from .data import KNOWN_SCALE, PatchSet
from .diameter_density import fit_diameter_density

FindScales = Callable[[Sequence[pd.DataFrame], ScaleReference], Sequence[ConstrainedMixture]]
"""Function that finds the scale of each image from the cluster tables of all of them."""


def scales_by_image(
    tables: Sequence[pd.DataFrame], reference: ScaleReference
) -> list[ConstrainedMixture]:
    """Find the scale of each image from its own clusters."""
    return [fit_image(table, reference) for table in tables]


def known_scales(
    tables: Sequence[pd.DataFrame], reference: ScaleReference
) -> list[ConstrainedMixture]:
    """Return the true scale of each image, which an analysis does not know."""
    return [_known_scale(table, reference) for table in tables]


def right_scales(
    tables: Sequence[pd.DataFrame], reference: ScaleReference
) -> list[ConstrainedMixture]:
    """Find the scale of each image from its own clusters, or take the known one if that is wrong.

    Probabilities are calibrated for the right scale; an analysis averages them over the solutions
    of the scale if the model has an apparent size. A few mixtures with a scale that is one class
    off would determine the calibration instead.
    """
    return [
        _known_scale(table, reference) if scale_is_off(found, table) else found
        for found, table in zip(scales_by_image(tables, reference), tables, strict=True)
    ]


def scale_is_off(found: ConstrainedMixture, table: pd.DataFrame) -> bool:
    """Return whether the scale of an image differs from its known one by half a class or more.

    The limit is half the smallest distance of two classes, beyond which clusters are taken for
    another class. Without a known scale, it is not off.
    """
    if KNOWN_SCALE not in table or not len(table):
        return False
    limit = float(np.diff(np.sort(found.reference.log_intensity)).min()) / 2
    return bool(abs(found.shift[0, 0] - np.log(table[KNOWN_SCALE].iloc[0])) > limit)


def _known_scale(table: pd.DataFrame, reference: ScaleReference) -> ConstrainedMixture:
    c = len(reference.log_intensity)
    shift = np.array([[np.log(table[KNOWN_SCALE].iloc[0]), 0.0]])
    return ConstrainedMixture(reference, np.ones(1), shift, np.full((1, c), 1 / c), np.ones((1, 2)))


def find_scale(image: pd.DataFrame, reference: ScaleReference) -> float:
    """Return the intensity of one atom in an image: from its known classes, else by the mixture.

    In a field of one size there are no intensity ratios to recognise, and the mixture may be one
    class off. It is not used where the classes of the clusters are known.
    """
    if KNOWN_SCALE in image:
        return float(image[KNOWN_SCALE].iloc[0])
    return intensity_per_atom(image, reference)


def with_reference_scale(
    part: PatchSet, classes: Sequence[str], reference: ScaleReference
) -> PatchSet:
    """Correct `KNOWN_SCALE` for classes that are brighter or fainter than their number of atoms.

    An analysis compares intensities with those of the reference, which contain what an outline does
    not catch. The known scale must be the one that the analysis would find.

    Parameters
    ----------
    classes : sequence of str
        Classes in order of size.
    """
    excess = np.array([np.log(atoms_of(c) or 1) for c in classes]) - reference.log_intensity
    of_cluster = part.table["truth"].map(dict(zip(classes, excess, strict=True))).astype(float)
    of_image = of_cluster.groupby(part.table["image"]).transform("median").fillna(0.0)
    known = part.table[KNOWN_SCALE] * np.exp(of_image)
    return replace(part, table=part.table.assign(**{KNOWN_SCALE: known}))


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
    return ScaleReference.fit(
        intensity_in_atoms(table),
        table["diameter_nm"].to_numpy(float),
        table["truth"].to_numpy(),
        classes,
    )


def intensity_in_atoms(table: pd.DataFrame) -> np.ndarray:
    """Return the intensities (N,) in units of that of one atom, which is known."""
    known = "true_intensity_per_atom" in table
    per_atom = table["true_intensity_per_atom" if known else KNOWN_SCALE].to_numpy(float)
    return np.asarray(table["integrated_intensity"].to_numpy(float) / per_atom)


def fit_class_diameters(
    train: PatchSet, classes: Sequence[str], reference: ScaleReference
) -> tuple[tuple[float, ...], ...]:
    """Fit the densities of the diameters of the classes to complete, isolated clusters.

    Parameters
    ----------
    classes : sequence of str
        Classes in order of size.

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
