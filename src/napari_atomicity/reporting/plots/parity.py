"""Parity plot: measured class ratios against reference ratios, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.text import printable
from .base import Look, Plot, marker_scale, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _parity_data(pairs: pd.DataFrame, **_: Any) -> pd.DataFrame:
    return pairs


def parity_limit(pairs: pd.DataFrame) -> float:
    """Return the end of both axes in per cent."""
    return 100 * float(np.ceil(10 * pairs[["reference", "fraction_high"]].max().max()) / 10)


def _parity_places(pairs: pd.DataFrame) -> np.ndarray:
    # Points with the same reference are shifted sideways so that they do not overlap.
    same = pairs.groupby(pairs["reference"].round(3))["reference"]
    number, size = same.cumcount(), same.transform("size")
    aside = 0.04 * parity_limit(pairs) * (number - (size - 1) / 2) * (4 / size).clip(upper=1)
    x, y = (100 * pairs["reference"] + aside).to_numpy(), 100 * pairs["fraction"].to_numpy()
    return np.stack([x, x, y, y], axis=1)


def draw_parity(
    axes: Axes, pairs: pd.DataFrame, look: Look | None = None, top: float | None = None
) -> None:
    """Draw a point per class with its interval, and the diagonal."""
    look = look or Look()
    top = parity_limit(pairs) if top is None else top
    places = _parity_places(pairs)
    axes.plot([0, top], [0, top], color=look.ink, alpha=0.5, linewidth=1, zorder=0)
    handles = {}
    for name in dict.fromkeys(pairs["class"]):
        own = (pairs["class"] == name).to_numpy()
        x, y = places[own, 0], places[own, 2]
        low, high = (100 * pairs.loc[own, f"fraction_{end}"] for end in ("low", "high"))
        handles[name] = axes.errorbar(
            x, y, yerr=[y - low, high - y], marker=look.marker(name), linestyle="",
            markersize=6 * marker_scale(look.symbol(name)), color=look.colour(name),
            markeredgecolor=(0, 0, 0, 0.6), markeredgewidth=0.5, ecolor=look.ink, elinewidth=0.8,
        )  # fmt: skip
    ends = (-0.03 * top, 1.03 * top)
    axes.set(xlabel="Reference / %", ylabel="Found / %", xlim=ends, ylim=ends, aspect="equal")
    moved = bool((places[:, 0] != 100 * pairs["reference"]).any())
    style_axes(axes, look, *(["Points with equal references side by side."] if moved else []))
    # matplotlib omits names that begin with "_", unless they are set afterwards.
    texts = axes.legend(
        handles.values(), [str(i) for i in range(len(handles))], loc="upper left",
        bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=0.9 * look.font_pt,
        labelcolor=look.ink, borderaxespad=0,
    ).get_texts()  # fmt: skip
    for text, name in zip(texts, handles, strict=True):
        text.set_text(printable(name) or "not classified")


def _parity_row(row: Any) -> str:
    return (
        f"{row['class']} in {row['scope']}: {100 * row['fraction']:.1f} %, "
        f"reference {100 * row['reference']:.1f} %"
    )


PARITY = Plot(
    "Measured against reference fractions",
    "Measured fractions of the classes against those of a reference, with 95 % intervals.",
    _parity_data,
    draw_parity,
    None,
    _parity_places,
    _parity_row,
)
