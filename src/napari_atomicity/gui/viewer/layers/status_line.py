"""The status line of napari for clusters and atoms: words and units instead of columns."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Layer, Points, Shapes
from qtpy.QtCore import QTimer

from ....core.tables.cluster_table import format_label

MESSAGE_MS = 15_000
"""How long a message stays, if nothing else takes its place."""


def show_message(viewer: Any, text: str) -> None:
    """Show a text in the status bar for some time."""
    reference = weakref.ref(viewer)

    def remove() -> None:
        now = reference()
        if now is not None and now.status == text:
            now.status = ""

    viewer.status = text
    QTimer.singleShot(MESSAGE_MS, remove)


def format_cluster(row: pd.Series) -> str:
    """Format the features of a cluster for the status line."""
    words = [f"cluster {int(row['cluster_id'])}" if row["cluster_id"] > 0 else "new cluster"]
    words.append(format_label(row))
    if math.isfinite(row["diameter_nm"]):
        words.append(f"diameter {row['diameter_nm']:.2f} nm")
    words += [row["count"], row["otherwise"]]
    words += ["cut by the border"] if row["touches_border"] else []
    words += ["touches another"] if row["touches_neighbour"] else []
    return ", ".join(w for w in words if isinstance(w, str) and w)


def format_atom(row: pd.Series) -> str:
    """Format the features of an atom for the status line."""
    words = [f"atom {int(row['number'])}" if row["atom_id"] > 0 else "new atom"]
    words += [str(row["species"] or ""), "uncertain" if row["uncertain"] else ""]
    if math.isfinite(row["confidence"]):
        words.append(f"probability {100 * row['confidence']:.0f} %")
    if math.isfinite(row["nearest_neighbour_nm"]):
        words.append(f"nearest neighbour {row['nearest_neighbour_nm']:.2f} nm")
    if row["group_size"] > 1:
        words.append(f"group of {int(row['group_size'])}")
    words.append(f"marked by {row['origin']}" if row["origin"] else "")
    return ", ".join(word for word in words if word)


def describe_layer(
    viewer: Any, layer: Points | Shapes, describe: Callable[[pd.Series], str] = lambda _: ""
) -> None:
    """Show the place of the mouse with its unit, and the point under it in words.

    napari shows bare numbers, and lists all features.
    """
    reference, viewer_reference = weakref.ref(layer), weakref.ref(viewer)
    last: dict[str, str] = {}

    def get_status(position: Any = None, **options: Any) -> dict[str, str]:
        shown = reference()
        if shown is None:
            return {}
        status = Layer.get_status(shown, position, **options)
        if position is None:
            return status
        place = np.asarray(position, float)[-2:]
        unit = str(shown.units[-1])
        unit = {"pixel": "px", "nanometer": "nm"}.get(unit, unit)
        where = f"y {place[0]:.2f} {unit}, x {place[1]:.2f} {unit}"
        row = shown.get_value(position, **options)  # of shapes a pair
        known = isinstance(row, Integral) and 0 <= row < len(shown.features)
        words = describe(shown.features.iloc[row]) if known else ""
        both = f"{where}: {words}" if words else where
        last.update(status, coords=where, value=words, coordinates=both)
        return dict(last)

    def show_again() -> None:
        viewer = viewer_reference()
        if viewer is not None and viewer.status == last:  # no message in its place
            viewer.update_status_from_cursor()

    layer.get_status = get_status
    # napari shows a new label when the mouse moves; all of the layer is written first.
    layer.events.features.connect(lambda: QTimer.singleShot(0, show_again))
