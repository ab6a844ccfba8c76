"""Quantities of single images, from which samples are compared: values, weights and errors.

The value of a sample is the mean over its images, weighted by the number of clusters or atoms, or
by the area of the support. Of each image are known

- the variance of its value by chance, as if all images of the sample were alike;
- errors of the labels: their variance, and the systematic difference between the labels and the
  calibrated probabilities of the model, which samples recorded alike have in common;
- draws of the error that comes from the intensity scale of its session. The k-th draws of all
  images of a session belong together, so that a common error cancels in differences within a
  session and does not between sessions.

The error of the scale has two parts: other solutions of the scale
(`statistics.ratios.prevalence`), and a small error of ln scale around the best one. The latter
multiplies the number of atoms of each cluster; a cluster changes its class where its number of
atoms crosses the geometric mean of two neighbouring sizes.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import ndtri

from ...core.tables.cluster_table import NON_CLASS_LABELS, classes_of, probability_columns
from ..points.atom_groups import KINDS
from ..ratios.prevalence import N_DRAWS, Evidence, ScaleSolutions, solutions_by_image
from ..ratios.ratio_notes import ImageLimits
from ..ratios.ratios import classification_sums, counted
from ..ratios.track_counts import merge_tracks, stacks_without_tracks
from ..scores import atoms_of

COMMON_SCALE_ERROR = 0.02
"""Standard deviation of ln scale of a session even if its classes tell the scale: class means under
other conditions deviate from those of the training. Assumed, of the order of what simulated
sessions show (docs/explanation/comparison.md)."""
MEAN_RANGE = 2.0
"""Largest possible mean number of atoms of a cluster, relative to the largest cluster that was
found: errors of the scale are smaller. It bounds intervals of samples with about one image."""
SHARE, MEAN_ATOMS, DENSITY = "share", "mean_atoms", "density"


@dataclass(frozen=True)
class Quantity:
    """A quantity of a sample."""

    name: str  # in tables of results
    label: str = ""  # class of a share
    unit: str = ""
    is_share: bool = False
    # number of clusters or atoms that are one trial: atoms of a pair come together
    per_trial: int = 1
    most: float = np.inf  # largest possible value of what is no share; the smallest is 0

    @property
    def limit(self) -> float:
        """The largest possible value."""
        return 1.0 if self.is_share else self.most

    @property
    def is_of_clusters(self) -> bool:
        """Whether it is a quantity of clusters, and not of single atoms."""
        return self.name in (SHARE, MEAN_ATOMS)


@dataclass(frozen=True, eq=False)
class ImageValues:
    """A quantity in each image, and its errors."""

    quantity: Quantity
    images: tuple[str, ...]
    value: np.ndarray  # (images,); NaN where nothing was counted
    weight: np.ndarray  # (images,): number of clusters or atoms, or area of the support in nm²
    variance: np.ndarray  # (images,): of the value by chance; of shares it follows from the weight
    label_variance: np.ndarray  # (images,): of the value by errors of single labels
    bias: np.ndarray  # (images,): expected error of the value: labels minus probabilities
    shared: np.ndarray  # (images, N_DRAWS): errors of the value by the scale of the session


def cluster_values(
    table: pd.DataFrame,
    session_of: Mapping[str, str],
    limits: Mapping[str, ImageLimits] | None = None,
    scale_sd: Mapping[str, float] | None = None,
) -> list[ImageValues]:
    """Return the share of each class, and the mean number of atoms, of the counted clusters.

    Parameters
    ----------
    table : pandas.DataFrame
        A cluster table. Clusters count as in `ratios.class_ratios`.
    session_of : mapping of str to str
        Image → its session; images of a session have the error of the scale in common.
    limits : mapping of str to ImageLimits, optional
        Image → properties, of which the possible scales are used.
    scale_sd : mapping of str to float, optional
        Image → standard deviation of ln scale of its session, if its classes do not tell it.

    Returns
    -------
    list of ImageValues
        Shares of the classes in order; then the mean number of atoms, if it is known.
    """
    merged = merge_tracks(table)
    rows = merged[counted(merged)]
    model_classes = classes_of(rows)
    labels = sorted(set(rows["label"].astype(str)) - {"", *NON_CLASS_LABELS})
    classes = list(dict.fromkeys([*model_classes, *labels]))
    names = sorted(set(rows["image"].astype(str)))
    evidence = Evidence.from_table(rows, classes, model_classes)
    solutions = {name: limit.solutions for name, limit in (limits or {}).items()}
    solutions_of = solutions_by_image(rows, model_classes, solutions)
    is_own = rows[probability_columns(model_classes)].notna()
    by_image = dict(list(rows.groupby(rows["image"].astype(str))))
    stacks = stacks_without_tracks(rows)
    images = [
        _ImageClusters(
            _with_solutions(evidence.of_image(number), solutions_of.get(name)),
            by_image[name],
            np.flatnonzero(is_own.loc[by_image[name].index].any()),
            by_image[name]["frame"].nunique() if name in stacks else 1,
            classes,
            _draw_log_scale(session_of.get(name) or name, (scale_sd or {}).get(name, 0.0)),
        )
        for number, name in enumerate(names)
    ]
    found = [_share_values(c, label, names, images) for c, label in enumerate(classes)]
    return found + _mean_atoms(names, images)


def _with_solutions(evidence: Evidence, solutions: ScaleSolutions | None) -> Evidence:
    """Return the evidence of an image with the possible scales, if there are several."""
    return evidence if solutions is None else replace(evidence, solutions={0: solutions})


def _draw_log_scale(session: str, sd: float) -> np.ndarray:
    """Draw the error of ln scale of a session, (N_DRAWS,); the same for all of its images."""
    steps = np.random.default_rng(zlib.crc32(session.encode())).permutation(N_DRAWS)
    return np.asarray(np.hypot(sd, COMMON_SCALE_ERROR) * ndtri((steps + 0.5) / N_DRAWS))


class _ImageClusters:
    """What the counted clusters of one image say."""

    def __init__(
        self,
        evidence: Evidence,
        rows: pd.DataFrame,
        own: np.ndarray,  # indices of the classes of its model
        n_frames: int,  # that show the same clusters, without tracks
        classes: Sequence[str],
        log_scale: np.ndarray,  # (N_DRAWS,): errors of ln scale
    ) -> None:
        n, n_classes = len(rows), len(classes)
        self.n = n / n_frames  # a stack counts as its mean frame
        counts = evidence.counts().reshape(2, n_classes)
        self.share = counts.sum(axis=0) / n
        variance, difference = classification_sums(evidence)
        self.label_variance, self.bias = n_frames * variance / n**2, -difference / n
        atoms = rows["n_atoms"] if "n_atoms" in rows else pd.Series(np.nan, rows.index)
        sizes = [atoms_of(name) for name in classes]
        known = rows["label"].map(dict(zip(classes, sizes, strict=True)))
        uncertain = (rows["label_corrected"] == "").to_numpy(bool)
        # A label by hand tells the number of atoms too, unless it is no class.
        by_hand = known.astype(float).mask(uncertain)
        self.atoms = by_hand.fillna(atoms.astype(float)).fillna(known.astype(float)).to_numpy()
        other = np.zeros((N_DRAWS, n_classes))
        for solutions in evidence.solutions.values():
            seed = zlib.crc32(str(rows["image"].iloc[0]).encode())  # of an image without a session
            other[:, evidence.known] = solutions.shifts(seed) * uncertain.mean()
        # Labels that are no class of the model, as those by a person, do not shift with the scale.
        own = own if len(own) else np.arange(n_classes)
        share = np.zeros((N_DRAWS, n_classes))
        share[:, own] = _shift_classes(self.atoms[uncertain], [sizes[i] for i in own], log_scale)
        self.shared = other + share * uncertain.mean()
        of_sizes = other @ np.array([size or 0 for size in sizes], float)
        changed = np.expm1(log_scale) * np.nansum(self.atoms[uncertain]) / n
        self.shared_atoms = changed + of_sizes


def _shift_classes(
    atoms: np.ndarray, sizes: Sequence[int | None], log_scale: np.ndarray
) -> np.ndarray:
    """Return the changes of the shares (N_DRAWS, classes) if numbers of atoms are multiplied."""
    changes = np.zeros((len(log_scale), len(sizes)))
    log_atoms = np.sort(np.log(atoms[np.isfinite(atoms) & (atoms > 0)]))
    if None in sizes or len(set(sizes)) < len(sizes) or not len(log_atoms):
        return changes
    order = np.argsort(np.array(sizes, float))
    log_sizes = np.log(np.array(sizes, float)[order])
    ends = (log_sizes[1:] + log_sizes[:-1]) / 2
    below = np.searchsorted(log_atoms, ends - log_scale[:, None]) / len(log_atoms)
    below = below - np.searchsorted(log_atoms, ends) / len(log_atoms)
    nothing = np.zeros((len(log_scale), 1))
    changes[:, order] = np.diff(np.hstack([nothing, below, nothing]), axis=1)
    return changes


def _share_values(
    c: int, label: str, names: Sequence[str], images: Sequence[_ImageClusters]
) -> ImageValues:
    return ImageValues(
        Quantity(SHARE, label, is_share=True),
        tuple(names),
        np.array([image.share[c] for image in images]),
        np.array([image.n for image in images], float),
        np.full(len(images), np.nan),
        np.array([image.label_variance[c] for image in images]),
        np.array([image.bias[c] for image in images]),
        np.array([image.shared[:, c] for image in images]).reshape(-1, N_DRAWS),
    )


def _mean_atoms(names: Sequence[str], images: Sequence[_ImageClusters]) -> list[ImageValues]:
    """Return the mean number of atoms of a cluster; nothing if some have no number."""
    if not images or any(not np.isfinite(image.atoms).all() for image in images):
        return []
    n = np.array([image.n for image in images], float)
    scatter = np.array([image.atoms.std() for image in images])
    # The scatter of all clusters, where an image has too few to know it.
    scatter = np.maximum(scatter, np.sqrt((n * scatter**2).sum() / n.sum()) * (n < 2))
    nothing = np.zeros(len(images))
    largest = max(image.atoms.max() for image in images)
    return [
        ImageValues(
            Quantity(MEAN_ATOMS, unit="atoms", most=MEAN_RANGE * largest),
            tuple(names),
            np.array([image.atoms.mean() for image in images]),
            n,
            scatter**2 / n,
            nothing,
            nothing,
            np.array([image.shared_atoms for image in images]),
        )
    ]


# ---- single atoms
_OF_ATOMS = (
    (Quantity(DENSITY, unit="1/nm²"), "density{}_per_nm2"),
    (
        Quantity("neighbour_mean", unit="nm"),
        "nearest_neighbour_mean{}_nm",
    ),
    (
        Quantity("neighbour_median", unit="nm"),
        "nearest_neighbour_median{}_nm",
    ),
)
"""Quantities and their columns in ``dispersion.csv``; the braces stand for the end of an
interval."""
LARGER = ("multimer", "cluster")
"""Kinds of groups with more than two atoms."""


def atom_values(rows: pd.DataFrame) -> list[ImageValues]:
    """Return density, neighbour distances and shares of atoms in groups, of single images.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of single images of ``dispersion.csv``; those without support are omitted.
    """
    if "density_per_nm2" not in rows:
        return []
    rows = rows[rows["density_per_nm2"].notna() & (rows["support_nm2"] > 0)]
    frames = rows.get("frames", pd.Series(1, rows.index))  # a stack counts as its mean frame
    area, n = rows[["support_nm2", "n_atoms_expected"]].div(frames, axis=0).to_numpy(float).T
    found = []
    for quantity, column in _OF_ATOMS:
        value, low, high = (rows[column.format(e)].to_numpy(float) for e in ("", "_low", "_high"))
        sd = (high - low) / (2 * ndtri(0.5 + rows["level"].to_numpy(float) / 2))
        weight = area if quantity.name == DENSITY else n
        found.append(_plain(quantity, rows, value, weight, sd**2))
    shares = {kind: rows[f"share_{kind}"].to_numpy(float) for kind in KINDS}
    for name, kinds in (("share_dimer", ("dimer",)), ("share_larger", LARGER)):
        value = np.sum([shares[kind] for kind in kinds], axis=0)
        quantity = Quantity(name, is_share=True, per_trial=KINDS[kinds[0]])
        found.append(_plain(quantity, rows, value, n, np.full(len(rows), np.nan)))
    return found


def _plain(
    quantity: Quantity,
    rows: pd.DataFrame,
    value: np.ndarray,
    weight: np.ndarray,
    variance: np.ndarray,
) -> ImageValues:
    """Return values without errors of labels and scale."""
    nothing = np.zeros(len(rows))
    images = tuple(rows["image"].astype(str))
    shared = np.zeros((len(rows), N_DRAWS))
    return ImageValues(quantity, images, value, weight, variance, nothing, nothing, shared)
