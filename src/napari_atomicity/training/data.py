"""Sets of labelled patches, their division by image, and their matching to the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from ..models.scale.intensity_scale import usable
from ..statistics.scores import atoms_of

MATCH_NM = 0.35
HELD_OUT = 0.2
"""Share of the images of each class that ends a training, and calibrates the model."""
KNOWN_SCALE = "known_intensity_per_atom"
"""Column of the intensity of one atom in the image, if it follows from the known classes."""


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Detected clusters of known class.

    Parameters
    ----------
    table : DataFrame
        The cluster table, N rows, with ``truth`` (class, or "" for false detections) and,
        from simulation, ``true_intensity_per_atom``.
    patches : dict of str to ndarray
        Channel → (N, P, P); the raw channel in background-subtracted counts, not yet divided by
        the intensity of an atom.
    left_out : dict of str to int
        Reason → number of detections that were not used.
    """

    table: pd.DataFrame
    patches: dict[str, np.ndarray]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: np.ndarray) -> PatchSet:
        """Return some of the rows, by boolean mask or index."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            table=self.table.iloc[index].reset_index(drop=True),
            patches={c: p[index] for c, p in self.patches.items()},
        )

    @classmethod
    def join(cls, parts: Sequence[PatchSet]) -> PatchSet:
        """Join several sets."""
        left_out: dict[str, int] = {}
        for part in parts:
            for reason, n in part.left_out.items():
                left_out[reason] = left_out.get(reason, 0) + n
        return cls(
            pd.concat([p.table for p in parts], ignore_index=True),
            {c: np.concatenate([p.patches[c] for p in parts]) for c in parts[0].patches},
            left_out,
        )


def split_by_image(table: pd.DataFrame, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose whole images of every class in turn as the held-out share.

    Of every class that occurs in more than one image, some images remain for the training.

    The result, (N,), is True for held-out rows.
    """
    holds = table.groupby("truth")["image"].unique()
    held: set[str] = set()
    for name in sorted(holds.index):
        images = np.array(sorted(holds[name]))
        rng.shuffle(images)
        n = max(1, round(share * len(images))) if len(images) > 1 else 0
        for image in images:
            if len(held & set(images)) >= n:
                break
            if all(set(others) - held - {image} for others in holds if image in others):
                held.add(image)
    return table["image"].isin(held).to_numpy(bool)


def hold_out(table: pd.DataFrame, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose the held-out clusters: whole images, or clusters of a class that has a single image.

    Clusters of one image have its conditions in common. What is measured on such held-out clusters
    is not independent of the training.

    The result, (N,), is True for held-out rows.
    """
    held = split_by_image(table, share, rng).copy()  # that of pandas can be read-only
    for rows in table.groupby("truth").indices.values():
        if not held[rows].any() and len(rows) > 1:
            held[rng.choice(rows, max(1, round(share * len(rows))), replace=False)] = True
    return held


def find_split_images(train: pd.DataFrame, held_out: pd.DataFrame) -> list[str]:
    """Return the classes whose held-out clusters are of images that they are trained on, too."""
    columns = ["truth", "image"]
    shared = held_out[columns].merge(train[columns].drop_duplicates())
    return sorted(map(str, shared["truth"].unique()))


def training_and_held_out(part: PatchSet, seed: int) -> dict[str, PatchSet]:
    """Divide a set by `hold_out`."""
    held = hold_out(part.table, HELD_OUT, np.random.default_rng(seed))
    return {"train": part.take(~held), "held_out": part.take(held)}


def with_known_scale(part: PatchSet) -> PatchSet:
    """Add `KNOWN_SCALE`: per image, the median of intensity / atoms of its class.

    The number of atoms is known, and so is the scale: no mixture needs to be fitted. Clusters that
    touch others or the border count only in images that have no other.
    """
    table = part.table
    ratio = table["integrated_intensity"] / table["truth"].map(atoms_of).astype(float)
    ratio = ratio.where(ratio > 0)
    whole = ratio.where(usable(table)).groupby(table["image"]).transform("median")
    anyhow = ratio.groupby(table["image"]).transform("median")
    known = whole.fillna(anyhow).fillna(1.0)
    return replace(part, table=table.assign(**{KNOWN_SCALE: known}))


def match(
    found: pd.DataFrame, truth: pd.DataFrame, pixel_nm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Match detections to the truth within half a diameter, at least `MATCH_NM`.

    Returns
    -------
    rows, truths : ndarray of shape (n_pairs,)
        Rows of ``found`` and of ``truth`` that match.

    References
    ----------
    .. [1] D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Trans. Aerosp.
       Electron. Syst. 52, 1679 (2016), for the optimal assignment.
    """
    if len(found) == 0 or len(truth) == 0:
        return np.empty(0, int), np.empty(0, int)
    apart = pixel_nm * np.hypot(
        found["y_px"].to_numpy()[:, None] - truth["y_px"].to_numpy(),
        found["x_px"].to_numpy()[:, None] - truth["x_px"].to_numpy(),
    )
    allowed = apart <= np.maximum(truth["diameter_nm"].to_numpy() / 2, MATCH_NM)
    rows, columns = linear_sum_assignment(np.where(allowed, apart, 1e6))
    good = allowed[rows, columns]
    return rows[good], columns[good]
