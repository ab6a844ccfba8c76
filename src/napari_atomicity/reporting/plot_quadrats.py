"""Plot of the numbers of atoms in quadrats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.text import pluralise
from ..statistics.dispersion import DispersionStatistics
from .plot_base import Look, format_p_value, message_if_empty, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def quadrat_data(
    table: pd.DataFrame, dispersion: DispersionStatistics | None = None, **_: Any
) -> pd.DataFrame:
    """Count atoms in each quadrat of one image; empty for several images."""
    columns = ["y_from_nm", "y_to_nm", "x_from_nm", "x_to_nm", "support_nm2", "count", "expected",
               "density_per_nm2", "used", "index", "p"]  # fmt: skip
    if dispersion is None or dispersion.quadrats is None:
        return pd.DataFrame(columns=columns)
    q = dispersion.quadrats
    rows, cols = (i.ravel() for i in np.indices(q.count.shape))
    area, count, used = q.area_nm2.ravel(), q.count.ravel(), q.used.ravel()
    density = count[used].sum() / area[used].sum() if used.any() else np.nan
    out = pd.DataFrame(
        {
            "y_from_nm": q.edges_y_nm[rows],
            "y_to_nm": q.edges_y_nm[rows + 1],
            "x_from_nm": q.edges_x_nm[cols],
            "x_to_nm": q.edges_x_nm[cols + 1],
            "support_nm2": area,
            "count": count.astype(int),
            "expected": area * density,
            "density_per_nm2": count / np.where(area > 0, area, np.nan),
            "used": used,
            "index": dispersion.quadrat_index,
            "p": dispersion.quadrat_p,
        }
    )
    return out[out["support_nm2"] > 0].reset_index(drop=True)[columns]


def quadrat_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    """Return the quadrat of each atom, -1 for none."""
    member = np.full(len(table), -1)
    y, x = table["y_nm"].to_numpy(float), table["x_nm"].to_numpy(float)
    for i, (low_y, high_y, low_x, high_x) in enumerate(data.iloc[:, :4].to_numpy(float)):
        member[(y >= low_y) & (y < high_y) & (x >= low_x) & (x < high_x)] = i
    return member


def quadrat_places(data: pd.DataFrame) -> np.ndarray:
    """Return the extents of the quadrats as x from, x to, y from, y to in nm."""
    return data[["x_from_nm", "x_to_nm", "y_from_nm", "y_to_nm"]].to_numpy(float)


@message_if_empty("Quadrats are available for single images")
def draw_quadrats(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw the density in each quadrat; quadrats with too little support are hatched."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    boxes, used = quadrat_places(data), data["used"].to_numpy(bool)
    patches = [Rectangle((a, c), b - a, d - c) for a, b, c, d in boxes]
    shown = PatchCollection(
        [p for p, use in zip(patches, used, strict=True) if use], cmap="viridis",
        edgecolors=look.paper, linewidths=0.8,
    )  # fmt: skip
    shown.set_array(data["density_per_nm2"].to_numpy(float)[used])
    shown.set_clim(0, max(1e-9, float(data["density_per_nm2"][used].max()) if used.any() else 1.0))
    axes.add_collection(shown)
    axes.add_collection(
        PatchCollection(
            [p for p, use in zip(patches, used, strict=True) if not use], facecolors="none",
            edgecolors=look.ink, hatch="////", alpha=0.3, linewidths=0.5,
        )
    )  # fmt: skip
    for (a, b, c, d), n in zip(boxes, data["count"], strict=True):
        axes.text(
            (a + b) / 2, (c + d) / 2, str(n), ha="center", va="center", color="#ffffff",
            fontsize=0.9 * look.font_pt, path_effects=_outlined(), in_layout=False,
        )  # fmt: skip
    axes.set(
        xlim=(boxes[:, 0].min(), boxes[:, 1].max()), ylim=(boxes[:, 3].max(), boxes[:, 2].min()),
        xlabel="x / nm", ylabel="y / nm", aspect="equal",
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    _draw_colour_bar(axes, look, shown)
    index, p = float(data["index"].iloc[0]), float(data["p"].iloc[0])
    if np.isfinite(index):
        style_axes(
            axes, look, f"Index of dispersion {index:.2f} (1 is random), {format_p_value(p)}."
        )
    else:
        style_axes(axes, look)


def _draw_colour_bar(axes: Axes, look: Look, shown: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    figure = axes.get_figure(root=True)
    if figure is not None:
        # A child of the axes, removed when these are cleared.
        bar = figure.colorbar(shown, cax=axes.inset_axes((1.03, 0.0, 0.04, 1.0)))
        bar.ax.yaxis.set_major_locator(MaxNLocator(4))
        bar.set_label("Atoms / nm² of support", color=look.ink, fontsize=look.font_pt)
        bar.ax.tick_params(colors=look.ink, labelsize=0.9 * look.font_pt)


def _outlined() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2, foreground="#1d2433")]


def describe_quadrat(row: Any) -> str:
    """Describe one quadrat as text."""
    n = int(row["count"])
    return (
        f"{pluralise(n, 'atom')} on {row['support_nm2']:.3g} nm² of support, "
        f"{row['expected']:.1f} expected"
    )
