"""The analysis of one image as notebooks and scripts use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..core.errors import DependencyError, TableError
from ..core.palette import colour_of
from ..core.tables.cluster_table import NON_CLASS_LABELS, classes_of
from ..models.analysis import Analysis
from .arguments import check_kind, checks_arguments
from .plots import AnalysisPlots, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.progress import Progress
    from ..pipeline.measurements import Measurement


@dataclass(frozen=True, eq=False, repr=False)
class ImageAnalysis(Analysis):
    """The analysed clusters of one image, with methods that correct, plot, save and show them.

    It has the data of `Analysis`: ``table``, ``embedding``, ``class_maps``, ``outlines`` and more.
    It never changes: `correct` returns another one.

    Examples
    --------
    >>> analysis = analyse("field.dm4")
    >>> analysis = analysis.correct(12, "Pt55")
    >>> analysis.ratios(method="em")
    >>> analysis.save("results")
    """

    @classmethod
    def of(cls, analysis: Analysis) -> Self:
        """Return an analysis with the methods of this class."""
        if isinstance(analysis, cls):
            return analysis
        return cls(**{one.name: getattr(analysis, one.name) for one in fields(Analysis)})

    @checks_arguments()
    def correct(self, cluster_id: int | Iterable[int], label: str) -> Self:
        """Return the analysis with a label of a person; predictions do not change.

        Parameters
        ----------
        cluster_id : int or iterable of int
            Clusters, by the column ``cluster_id``.
        label : str
            A class of the model, "unknown" or "aggregate"; "" removes the correction.

        Returns
        -------
        ImageAnalysis
            Corrected clusters count as certain in the ratios.

        Raises
        ------
        TableError
            If a cluster or the label does not exist.
        """
        ids = cluster_id if isinstance(cluster_id, Iterable) else [cluster_id]
        wanted = check_kind("cluster_id", ids, (int, np.integer), "a whole number, or several")
        classes = classes_of(self.table) if self.card is None else self.card.classes
        labels = [*classes, *NON_CLASS_LABELS]
        if label not in [*labels, ""]:
            raise TableError(f"{label!r} is no label", advice=f"Labels are {', '.join(labels)}")
        unknown = set(wanted) - set(self.table["cluster_id"].tolist())
        if unknown:
            raise TableError(
                f"{self.micrograph.name} has no cluster {min(unknown)}",
                advice="The column cluster_id of .table lists the clusters",
            )
        return self.with_corrections({int(i): label for i in wanted})

    def measure(self, **measurements: Measurement) -> Self:
        """Return the analysis with columns of one's own in its table.

        Parameters
        ----------
        **measurements : callable
            Column → ``function(pixels, mask, pixel_size_nm)``, which returns a number for one
            cluster: ``pixels`` are the cluster and its surroundings, ``mask`` is True inside its
            outline.

        Returns
        -------
        ImageAnalysis

        Raises
        ------
        TableError
            If a column belongs to the cluster table already.

        Examples
        --------
        >>> def peak(pixels, mask, pixel_size_nm):
        ...     return pixels[mask].max()
        >>> analysis.measure(peak=peak).table["peak"]
        """
        from ..pipeline.measurements import measure_clusters

        return measure_clusters(self, **measurements)

    @property
    def plot(self) -> AnalysisPlots:
        """Plots: ``plot()`` draws the image with its clusters, ``plot.diameter()`` and others more.

        Returns
        -------
        AnalysisPlots
            Each function takes ``axes``, by default those of a new figure, and returns them.
        """
        return AnalysisPlots(self._plot_image, [self])

    def _plot_image(self, axes: Axes | None = None) -> Axes:
        """Plot the image with the outlines and labels of its clusters."""
        from ..reporting.figures import draw_image

        axes = axes or new_axes((8.0, 6.0))
        draw_image(axes, self)
        return axes

    @checks_arguments()
    def plot_ratios(
        self, axes: Axes | None = None, method: str = "counted", **options: Any
    ) -> Axes:
        """Plot the fraction of each class with its interval.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Axes to draw into. Default: a new figure.
        method : str, optional
            "counted", "confusion" or "em"; see `ratios`.
        **options : Any
            Further arguments of `ratios`.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ModelError
            If the method needs the card of the model, which is not at hand.
        """
        from ..reporting.charts import draw_ratio_bars

        scope = {"scope": self.micrograph.name, **options}
        ratios = self.ratios(method, **scope)
        axes = axes or new_axes((5.0, 3.5))
        draw_ratio_bars(axes, ratios, classes_of(self.table))
        axes.set_title(self.micrograph.name, parse_math=False)
        return axes

    @checks_arguments()
    def save(
        self,
        folder: str | PathLike[str],
        method: str = "counted",
        *,
        reference: str | PathLike[str] | None = None,
        keep_ratios: bool = False,
        progress: Progress | bool | None = None,
    ) -> list[Path]:
        """Write the files of the command ``atomicity analyse``; replaces those of an earlier run.

        Parameters
        ----------
        folder : path-like
            Folder for ``clusters.csv``, ``clusters.parquet``, ``ratios.csv``, ``report.html`` and
            ``run.json``.
        method : str, optional
            "counted", "confusion" or "em"; see `ratios`.
        reference : path-like, optional
            Table of known class fractions to compare with.
        keep_ratios : bool, optional
            Whether fractions are given even if the image does not fit the classes of the model.
        progress : callable or bool, optional
            See `analyse`.

        Returns
        -------
        list of pathlib.Path
            The files.

        Raises
        ------
        ModelError
            If the clusters have not been classified, or the method is unavailable.
        AtomicityError
            If the folder or a file cannot be written.
        """
        from ..io.provenance import now
        from ..pipeline.runs.run_files import RunInfo
        from .saving import results_of, save_results

        results, inputs = results_of([self])
        return save_results(
            results,
            inputs,
            RunInfo(now(), results.request.device),
            folder,
            method,
            reference=reference,
            keep_ratios=keep_ratios,
            progress=progress,
        )

    def to_hyperspy(self) -> Any:
        """Return the image as a HyperSpy signal with calibrated axes and a marker per cluster.

        Returns
        -------
        hyperspy.signals.Signal2D
            ``metadata.Atomicity`` contains labels, positions, diameters and confidences.

        Raises
        ------
        DependencyError
            If HyperSpy is not installed.
        """
        return signal_of(self)

    def open_in(self, viewer: Any = None) -> Any:
        """Show the image and its clusters in napari, ready to be corrected.

        Parameters
        ----------
        viewer : napari.Viewer, optional
            The viewer. Default: a new one.

        Returns
        -------
        napari.Viewer
        """
        return open_in_viewer([self], viewer)

    def _repr_html_(self) -> str:
        """Return image, counts and ratios for notebooks."""
        from .plots import html_of_image

        return html_of_image(self)


def open_in_viewer(analyses: Iterable[Analysis], viewer: Any = None) -> Any:
    """Show analyses in a viewer, a new one by default, and return it."""
    from ..gui.workbench.window import show_analysis

    if viewer is None:
        import napari

        viewer = napari.Viewer()
    for analysis in analyses:
        show_analysis(viewer, analysis)
    return viewer


# ---- the image as a HyperSpy signal
_COLUMNS = (
    "cluster_id", "frame", "y_nm", "x_nm", "diameter_nm", "integrated_intensity", "label",
    "label_predicted", "confidence",
)  # fmt: skip
"""Columns of the cluster table in the metadata of a signal."""


def signal_of(analysis: Analysis) -> Any:
    """Return an image as a HyperSpy signal with calibrated axes and a marker per cluster.

    Returns
    -------
    hyperspy.signals.Signal2D
        Markers are those of the first frame.

    Raises
    ------
    DependencyError
        If HyperSpy is not installed.
    """
    try:
        import hyperspy.api as hs
    except ImportError as error:
        raise DependencyError(
            "HyperSpy is not installed", advice="Install it: pip install hyperspy"
        ) from error

    micrograph, table = analysis.micrograph, analysis.table
    signal = hs.signals.Signal2D(micrograph.data)
    for axis, name in zip(signal.axes_manager.signal_axes, ("x", "y"), strict=True):
        axis.name = name
        if micrograph.pixel_size_nm is not None:
            axis.scale, axis.units = micrograph.pixel_size_nm, "nm"
    signal.metadata.General.title = micrograph.name
    values = {name: table[name].tolist() for name in _COLUMNS}
    signal.metadata.add_dictionary({"Atomicity": values})
    first = table[table["frame"] == 0]
    if len(first) and not micrograph.is_stack:
        unit = micrograph.pixel_size_nm or 1.0
        classes = classes_of(table)
        markers = hs.plot.markers.Points(
            offsets=first[["x_px", "y_px"]].to_numpy(float) * unit,
            sizes=30,
            facecolors="none",
            edgecolors=[colour_of(label, classes) for label in first["label"]],
        )
        signal.add_marker(markers, permanent=True, plot_marker=False)
    return signal
