"""The result of an analysis: what is known of the clusters of one image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ..core.micrograph import Micrograph, counted_averages
from ..core.model_card import ModelCard
from ..core.tables.cluster_table import classes_of
from ..core.text import pluralise
from ..statistics.ratios.ratio_notes import COMBINATION, ImageLimits

if TYPE_CHECKING:
    from .scale.intensity_scale import ConstrainedMixture
    from .scaled_predictions import ScaledPrediction


@dataclass(frozen=True, eq=False, repr=False)
class Analysis:
    """What is known of the clusters of one image; row i of every array is row i of the table.

    `ImageAnalysis`, which `analyse` returns, adds the methods for notebooks and scripts.

    Parameters
    ----------
    micrograph : Micrograph
        The image.
    table : DataFrame
        The cluster table (`napari_atomicity.core.tables.cluster_table`), N rows.
    outlines : list of ndarray
        N closed polygons, each (M, 2) in pixels (y, x).
    patches : dict of str to ndarray, optional
        Channel name → (N, P, P) float32: what the network saw.
    embedding : ndarray of shape (N, D), optional
        Float32: the features before the last layer; D = 0 before classification.
    class_maps : dict of str to ndarray, optional
        Channel name → (N, h, w) float32: Grad-CAM of the predicted class.
    field_of_view_nm : float, optional
        Edge length of patches and class maps.
    scale : ConstrainedMixture, optional
        The intensity of one atom in this image, as its clusters tell it; None before
        classification, and if the model does not ask for it.
    parameters : dict of str to Any, optional
        Settings, model and device that led here.
    seconds : dict of str to float, optional
        Stage → seconds it took.
    regions : tuple[ndarray, ...], optional
        Polygons, each (M, 2) in pixels (y, x): clusters in them do not count.
    predictions : tuple of ScaledPrediction, optional
        Predictions for the solutions of the scale; see `own_predictions`.
    card : ModelCard, optional
        Card of the model that classified the clusters, if it is at hand.
    """

    micrograph: Micrograph
    table: pd.DataFrame
    outlines: list[np.ndarray]
    patches: dict[str, np.ndarray] = field(default_factory=dict)
    embedding: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    class_maps: dict[str, np.ndarray] = field(default_factory=dict)
    field_of_view_nm: float = 0.0
    scale: ConstrainedMixture | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    regions: tuple[np.ndarray, ...] = ()
    predictions: tuple[ScaledPrediction, ...] = ()
    card: ModelCard | None = None

    def __repr__(self) -> str:
        counts = self.table["label"].value_counts()
        classes = [*classes_of(self.table), *sorted(map(str, counts.index))]
        known = [f"{counts[c]} {c}" for c in dict.fromkeys(classes) if c and c in counts]
        labels = f" ({', '.join(known)})" if known else ""
        number = pluralise(len(self.table), "cluster")
        return f"<{type(self).__name__} of {self.micrograph.name}: {number}{labels}>"

    def column(self, name: str) -> np.ndarray:
        """Return a column of the table; it must not be written to."""
        return self.table[name].to_numpy()

    @property
    def model_id(self) -> str:
        """Identifier of the model that classified the clusters; "" before classification."""
        return str((self.parameters.get("model") or {}).get("model_id", ""))

    @property
    def own_parameters(self) -> dict[str, Any]:
        """Parameters without what the session of the image tells of it."""
        return {key: value for key, value in self.parameters.items() if key != "session"}

    @property
    def is_embedded(self) -> np.ndarray:
        """Which clusters (N,) have an embedding."""
        if self.embedding.size == 0:
            return np.zeros(len(self.table), bool)
        return np.asarray(np.isfinite(self.embedding).all(axis=1))

    @property
    def symmetries(self) -> bool:
        """Whether its clusters were classified as the average over the symmetries of the square."""
        return bool(self.parameters.get("symmetries", False))

    @property
    def labels_from(self) -> str:
        """Estimator of its labels: "combination", "mixture" or "network"."""
        return str(self.parameters.get("labels_from", COMBINATION))

    @property
    def own_predictions(self) -> tuple[ScaledPrediction, ...]:
        """Predictions for the clusters as they are; empty if clusters were changed since then."""
        is_current = any(x.prediction.embedding is self.embedding for x in self.predictions)
        return self.predictions if is_current else ()

    def without_padding(self, patch: np.ndarray, row: int) -> np.ndarray:
        """Return a patch with NaN beyond the image, where the network sees it mirrored.

        Parameters
        ----------
        patch : ndarray of shape (P, P)
            Of a cluster.
        row : int
            Row of the cluster in the table.

        Returns
        -------
        ndarray of shape (P, P)
            The patch itself if it is within the image.
        """
        inside = self._inside_image(patch.shape, [row])
        if all(axis.all() for axis in inside):
            return patch
        return np.where(np.outer(*(axis[0] for axis in inside)), patch, np.nan)

    def outline_in_patch(self, row: int) -> np.ndarray:
        """Return the outline of one cluster, of shape (M, 2), in edge lengths of its patch."""
        extent_px = self.field_of_view_nm / self.micrograph.calibrated()
        centre = self.table[["y_px", "x_px"]].iloc[row].to_numpy(float)
        return (self.outlines[row] - centre) / extent_px + 0.5

    def map_within_image(self, class_map: np.ndarray, row: int) -> np.ndarray:
        """Return the class map of one cluster as in `maps_within_image`.

        Parameters
        ----------
        class_map : ndarray of shape (h, w)
            Of the cluster.
        row : int
            Its row.

        Returns
        -------
        ndarray of shape (h, w)
        """
        return self.maps_within_image(class_map[np.newaxis], [row])[0]

    def maps_within_image(
        self, class_maps: np.ndarray, rows: Sequence[int] | np.ndarray
    ) -> np.ndarray:
        """Return class maps that are beyond the image as they are at the border.

        Parameters
        ----------
        class_maps : ndarray of shape (n, h, w)
            Of some clusters.
        rows : sequence of int
            Rows of these clusters in the table.

        Returns
        -------
        ndarray of shape (n, h, w)
            The class maps themselves if all are within the image.
        """
        inside = self._inside_image(class_maps.shape[1:], rows)
        if all(axis.all() for axis in inside):
            return class_maps
        y, x = (
            np.clip(
                np.arange(axis.shape[1]),
                axis.argmax(axis=1)[:, np.newaxis],
                axis.shape[1] - 1 - axis[:, ::-1].argmax(axis=1)[:, np.newaxis],
            )
            for axis in inside
        )
        n = np.arange(len(class_maps))[:, np.newaxis, np.newaxis]
        return class_maps[n, y[:, :, np.newaxis], x[:, np.newaxis, :]]

    def _inside_image(
        self, shape: tuple[int, ...], rows: Sequence[int] | np.ndarray
    ) -> list[np.ndarray]:
        """Return which rows (n, h) and which columns (n, w) of patches are within the image."""
        extent_px = self.field_of_view_nm / (self.micrograph.pixel_size_nm or np.inf)
        inside = []
        for axis, size, n in zip(("y_px", "x_px"), self.micrograph.shape_px, shape, strict=True):
            centre = self.table[axis].to_numpy(float)[rows, np.newaxis]
            at = centre + ((np.arange(n) + 0.5) / n - 0.5) * extent_px
            inside.append((at >= -0.5) & (at <= size - 0.5))
        return inside

    def with_corrections(self, labels: Mapping[int, str]) -> Self:
        """Return the analysis with labels of a person; predictions do not change.

        Parameters
        ----------
        labels : mapping of int to str
            Id of a cluster → its label; "" removes the correction. Ids of other images have no
            effect.

        Returns
        -------
        Analysis
            With the columns ``label_corrected`` and ``label``.
        """
        # As arrays: a step may concern hundreds of images.
        table = self.table
        corrected = table["label_corrected"].to_numpy(object, copy=True)
        for row, cluster_id in enumerate(table["cluster_id"].tolist()):
            if cluster_id in labels:
                corrected[row] = labels[cluster_id]
        label = np.where(corrected != "", corrected, table["label_predicted"].to_numpy(object))
        return replace(
            self,
            table=table.assign(
                label_corrected=pd.Series(corrected, table.index, dtype=object),
                label=pd.Series(label, table.index, dtype=object),
            ),
        )

    def ratios(
        self, method: str = "counted", *, keep_ratios: bool = False, **options: Any
    ) -> pd.DataFrame:
        """Class ratios of this image with intervals: see `statistics.ratios.ratios.class_ratios`.

        Parameters
        ----------
        method : str, optional
            "counted"; or adjusted for errors of the model: "confusion" or "em".
        keep_ratios : bool, optional
            Whether fractions are given even if the session does not fit the classes of the model.
        **options : Any
            Arguments of `class_ratios`.

        Returns
        -------
        DataFrame
            A row per class for the image, then for the scope "all".

        Raises
        ------
        ModelError
            If the method needs the card of the model, which is not at hand.
        """
        from ..statistics.ratios.ratios import class_ratios

        own = {
            # Named, so that an image without clusters has its rows too.
            "images": [self.micrograph.name],
            "limits": limits_of([self], keep_ratios),
            "card": self.card,
        }
        return class_ratios(self.table, method=method, **{**own, **options})


def limits_of(
    analyses: Iterable[Analysis],
    # Whether fractions are given even if a session does not fit the classes of the model
    keep_ratios: bool = False,
) -> dict[str, ImageLimits]:
    """Return what limits the use of the labels of each image, for `class_ratios`."""
    analyses = list(analyses)
    limits = {
        a.micrograph.name: ImageLimits.from_parameters(
            a.parameters, keep_ratios, a.micrograph.sha256
        )
        for a in analyses
    }
    for name in counted_averages(a.micrograph for a in analyses):
        limits[name] = replace(limits[name], is_counted_average=True)
    return limits
