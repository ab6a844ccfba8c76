"""Plot of the map of the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .base import Look, Plot, draw_points, legend, message_if_empty, row_of_cluster, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def map_data(table: pd.DataFrame, **_: Any) -> pd.DataFrame:
    """Return the position of each cluster in the map."""
    placed = np.isfinite(table[["umap_1", "umap_2"]].to_numpy(float)).all(axis=1)
    return table.loc[placed, ["image", "cluster_id", "label", "confidence", "umap_1", "umap_2"]]


def _map_places(data: pd.DataFrame) -> np.ndarray:
    x, y = data["umap_1"].to_numpy(float), data["umap_2"].to_numpy(float)
    return np.stack([x, x, y, y], axis=1)


@message_if_empty("No cluster has a position in the map")
def draw_map(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw a point per cluster in the colour of its label."""
    face = data["colour"].to_numpy(object) if "colour" in data.columns else None
    x, y = data["umap_1"].to_numpy(float), data["umap_2"].to_numpy(float)
    draw_points(axes, look, x, y, data["label"], face)
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", aspect="equal")
    style_axes(axes, look)
    legend(axes, look, beside=True)


def _map_row(row: Any) -> str:
    return f"{row['label'] or 'no label'}\n{row['image']}, cluster {row['cluster_id']}"


EMBEDDING = Plot(
    "Map of the embedding",
    "UMAP of the features of the network, coloured by label.",
    map_data,
    draw_map,
    row_of_cluster,
    _map_places,
    _map_row,
    nothing="No cluster has a position in the map: classify, then compute the map in Embedding.",
)
