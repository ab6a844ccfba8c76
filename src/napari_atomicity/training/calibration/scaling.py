"""Scale of labelled images: the intensity of one atom, known or estimated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression
from scipy.special import logit, softmax

from ...core.scale_reference import ScaleReference
from ...models.diameter_density import BROAD_SCATTER, RESIDUALS
from ...models.scale.intensity_scale import (
    ConstrainedMixture,
    fit_image,
    intensity_per_atom,
    usable,
)
from ...statistics.scores import atoms_of
from ..data import KNOWN_SCALE, PatchSet

# ---- densities of the diameters of the classes

BANDWIDTHS = (0.02, 0.03, 0.045, 0.07, 0.1)
"""Candidates of the bandwidth of the kernels, in log diameter."""
BROAD_SHARE = 0.02
"""Share of a broad normal density that is added to each class, for rare shapes."""
POOLED_CLUSTERS = 10.0
"""Weight, in clusters, of the density of all classes together in the density of a class."""
STEP = float(RESIDUALS[1] - RESIDUALS[0])
MIN_SHARE = 1e-6


def fit_diameter_density(
    diameter_nm: np.ndarray, label: np.ndarray, reference: ScaleReference
) -> tuple[tuple[float, ...], ...]:
    """Estimate the density of the log diameter in each class.

    The estimate is a Gaussian kernel density; its bandwidth maximises the likelihood of each
    cluster by the others [1]_. The ratios of the densities of neighbouring classes are made
    monotone by isotonic regression [2]_: how many isomers are flat is different in every sample,
    but the larger of two diameters never speaks for the smaller class.

    Parameters
    ----------
    diameter_nm : ndarray of shape (N,)
        Diameters of complete, isolated clusters in nm.
    label : ndarray of shape (N,)
        Class indices.
    reference : ScaleReference
        Mean log diameters of the classes.

    Returns
    -------
    tuple of tuple of float, shape (n_classes, n_residuals)
        Densities at `RESIDUALS`.

    References
    ----------
    .. [1] B. W. Silverman, "Density Estimation for Statistics and Data Analysis",
       Chapman and Hall (1986), section 3.4.4.
    .. [2] R. E. Barlow, D. J. Bartholomew, J. M. Bremner and H. D. Brunk, "Statistical Inference
       under Order Restrictions", Wiley (1972).
    """
    good = diameter_nm > 0
    mean = np.array(reference.log_diameter)
    residual = np.log(diameter_nm[good]) - mean[label[good]]
    pooled = _kernel_density(residual)
    x = np.arange(mean.min() + RESIDUALS[0], mean.max() + RESIDUALS[-1], STEP / 2)
    densities = []
    for i in range(len(mean)):
        own = residual[label[good] == i]
        weight = len(own) / (len(own) + POOLED_CLUSTERS)
        density = weight * _kernel_density(own) + (1 - weight) * pooled
        on_grid = np.interp(x - mean[i], RESIDUALS, density, left=0, right=0)
        densities.append(_add_broad(on_grid, x - mean[i]))
    monotone = _with_monotone_ratios(np.array(densities), mean)
    out = [np.interp(mean[i] + RESIDUALS, x, monotone[i]) for i in range(len(mean))]
    return tuple(tuple(float(f"{v:.4g}") for v in d / (d.sum() * STEP)) for d in out)


def _with_monotone_ratios(density: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return densities (C, G) of which the ratios of neighbouring classes are monotone."""
    ratios = [np.zeros(density.shape[1])]
    for i in range(len(density) - 1):
        both = density[i] + density[i + 1]
        share = isotonic_regression(
            density[i + 1] / both, weights=both, increasing=bool(mean[i + 1] >= mean[i])
        ).x
        ratios.append(logit(np.clip(share, MIN_SHARE, 1 - MIN_SHARE)))
    return np.asarray(softmax(np.cumsum(ratios, axis=0), axis=0) * density.sum(axis=0))


def _kernel_density(residual: np.ndarray) -> np.ndarray:
    """Return the Gaussian kernel density at `RESIDUALS`; zeros without values."""
    nearest = np.round((residual - RESIDUALS[0]) / STEP).astype(int)
    nearest = nearest[(nearest >= 0) & (nearest < len(RESIDUALS))]
    number = np.bincount(nearest, minlength=len(RESIDUALS))
    n = number.sum()
    best, most = np.zeros(len(RESIDUALS)), -np.inf
    for bandwidth in BANDWIDTHS if n else ():
        kernel = _normal(RESIDUALS[:, None] - RESIDUALS, bandwidth)
        others = (kernel @ number - kernel[0, 0]) / max(n - 1, 1)
        log_likelihood = number @ np.log(np.maximum(_add_broad(others, RESIDUALS), 1e-12))
        if log_likelihood > most:
            best, most = kernel @ number / n, log_likelihood
    return best


def _add_broad(density: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Add a broad density, so that no class is excluded."""
    return (1 - BROAD_SHARE) * density + BROAD_SHARE * _normal(residual, BROAD_SCATTER)


def _normal(x: np.ndarray, scatter: float) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * (x / scatter) ** 2) / (scatter * np.sqrt(2 * np.pi)))


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
    part: PatchSet,
    classes: Sequence[str],  # classes in order of size
    reference: ScaleReference,
) -> PatchSet:
    """Correct `KNOWN_SCALE` for classes that are brighter or fainter than their number of atoms.

    An analysis compares intensities with those of the reference, which contain what an outline does
    not catch. The known scale must be the one that the analysis would find.
    """
    excess = np.array([np.log(atoms_of(c) or 1) for c in classes]) - reference.log_intensity
    of_cluster = part.table["truth"].map(dict(zip(classes, excess, strict=True))).astype(float)
    of_image = of_cluster.groupby(part.table["image"]).transform("median").fillna(0.0)
    known = part.table[KNOWN_SCALE] * np.exp(of_image)
    return replace(part, table=part.table.assign(**{KNOWN_SCALE: known}))


def scale_patches(part: PatchSet, reference: ScaleReference) -> tuple[PatchSet, np.ndarray]:
    """Divide the raw channel of every image by its intensity per atom (`find_scale`).

    The results are the set in atoms per nm², and the intensity per atom (N,).
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
    train: PatchSet,
    classes: Sequence[str],  # classes in order of size
    reference: ScaleReference,
) -> tuple[tuple[float, ...], ...]:  # (n_classes, n_residuals): for `ModelCard.diameter_density`
    """Fit the densities of the diameters of the classes to complete, isolated clusters."""
    table = train.table[usable(train.table) & train.table["truth"].isin(list(classes))]
    label = table["truth"].map(list(classes).index).to_numpy(int)
    return fit_diameter_density(table["diameter_nm"].to_numpy(float), label, reference)


def select_classes(part: PatchSet, classes: Sequence[str]) -> PatchSet:
    """Select the clusters of the classes that are not cut by the border."""
    keep = part.table["truth"].isin(list(classes)) & ~part.table["touches_border"]
    return part.take(keep.to_numpy(bool))
