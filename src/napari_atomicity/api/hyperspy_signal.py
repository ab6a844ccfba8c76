"""Analyses as HyperSpy signals."""

from __future__ import annotations

from typing import Any

from ..core.errors import DependencyError
from ..core.palette import colour_of
from ..core.tables.cluster_table import classes_of
from ..models.analysis import Analysis

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
