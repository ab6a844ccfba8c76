"""Plots of class ratios: over images, and against reference ratios (parity)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.progress import Stop
from ...core.tables.cluster_table import NON_CLASS_LABELS
from ...core.text import printable
from ...statistics.ratios.ratio_notes import ImageLimits
from ...statistics.ratios.ratios import class_ratios, counted
from .base import (
    Look,
    Plot,
    legend,
    marker_scale,
    matching_row,
    message_if_empty,
    size_em,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDERS = {
    "name": "by name",
    "time": "by recording time",
    "opened": "as opened",
}
"""Possible orders of the images."""

_COLUMNS = ["image", "position", "recorded", "minutes", "class", "count", "fraction",
            "fraction_low", "fraction_high"]  # fmt: skip
_NAMES_UP_TO = 12
_HEIGHT_FOR_NAMES_EM = 22
"""Height of a figure, in font sizes, from which slanted names leave room for the axes."""
_BANDS_FROM = 30
"""Number of images along time from which intervals are drawn as bands instead of bars."""
_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%m/%d/%Y %H:%M:%S")


def recording_time(metadata: Mapping[str, Any]) -> datetime | None:
    """Return the recording time from the metadata ``date`` and ``time``, None if it is unknown.

    Times without a time zone are treated as UTC: images of one microscope have the same zone.
    """
    text = " ".join(str(metadata[key]) for key in ("date", "time") if metadata.get(key))
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        for form in _FORMATS:
            try:
                when = datetime.strptime(text, form)
            except ValueError:
                continue
            break
        else:
            return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts image 10 after image 9."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def order_images(
    images: Sequence[str], order: str = "name", times: Mapping[str, datetime | None] | None = None
) -> list[str]:
    """Return the images in an order of `ORDERS`."""
    if order == "opened":
        return list(images)
    by_name = sorted(images, key=natural_key)
    if order == "name":
        return by_name
    never = datetime.max.replace(tzinfo=UTC)
    return sorted(by_name, key=lambda name: (times or {}).get(name) or never)


def ratios_data(
    table: pd.DataFrame,
    classes: Sequence[str] = (),
    images: Sequence[str] | None = None,  # open images in order; by default those of the table
    order: str = "name",
    times: Mapping[str, datetime | None] | None = None,
    n_bootstrap: int | None = None,
    stop: Stop | None = None,
    limits: Mapping[str, ImageLimits] | None = None,
    **_: Any,
) -> pd.DataFrame:
    """Compute the fractions of the classes in each image with 95 % intervals."""
    names = list(dict.fromkeys([*(images or []), *table["image"].astype(str)]))
    if not len(table):
        return pd.DataFrame(columns=_COLUMNS)
    found = class_ratios(
        table,
        list(classes) or None,
        n_bootstrap=n_bootstrap,
        images=names,
        stop=stop,
        limits=limits,
    )
    # The rows of all images together are last, as many as for each image.
    found = found.iloc[: len(found) * len(names) // (len(names) + 1)]
    found = found[~found["class"].isin(NON_CLASS_LABELS) & found["fraction"].notna()]
    return _with_positions(found, names, order, times or {})


def _with_positions(
    found: pd.DataFrame, names: Sequence[str], order: str, times: Mapping[str, datetime | None]
) -> pd.DataFrame:
    """Return ratios of images with their positions and times along the axis."""
    shown = order_images([n for n in names if n in set(found["scope"])], order, times)
    position = {name: i + 1 for i, name in enumerate(shown)}
    known = {name: when for name, when in times.items() if when and name in position}
    first = min(known.values(), default=None)
    out = found.rename(columns={"scope": "image"}).assign(
        position=found["scope"].map(position),
        recorded=[when.isoformat() if (when := known.get(n)) else "" for n in found["scope"]],
        minutes=[
            (when - first).total_seconds() / 60 if first and (when := known.get(n)) else np.nan
            for n in found["scope"]
        ],
    )
    return out.sort_values("position", kind="stable")[_COLUMNS].reset_index(drop=True)


def _along(data: pd.DataFrame) -> tuple[np.ndarray, bool]:
    """Return the position of each row along the axis, and whether the axis is time."""
    minutes = data["minutes"].to_numpy(float)
    ordered = data.sort_values("position")["minutes"].to_numpy(float)
    # Only if the images are in the order of their times.
    timed = bool(len(minutes)) and bool(
        np.isfinite(minutes).all() and (np.diff(ordered) >= 0).all()
    )
    timed = timed and float(np.ptp(minutes)) > 0
    return (minutes if timed else data["position"].to_numpy(float)), timed


def _ratio_places(data: pd.DataFrame) -> np.ndarray:
    x, _ = _along(data)
    names = list(dict.fromkeys(data["class"]))
    steps = np.diff(np.unique(x))
    step = float(np.median(steps)) if len(steps) else 1.0
    if _has_bands(data):
        step = 0.0
    # Shifted, so that intervals of one image do not overlap.
    aside = data["class"].map({n: i for i, n in enumerate(names)}).to_numpy(float)
    x = x + 0.5 * step * (aside - (len(names) - 1) / 2) / max(len(names), 1)
    y = 100 * data["fraction"].to_numpy(float)
    return np.stack([x, x, y, y], axis=1)


def _has_bands(data: pd.DataFrame) -> bool:
    return _along(data)[1] and data["image"].nunique() >= _BANDS_FROM


@message_if_empty("No image has counted clusters")
def draw_ratios(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw a point per class and image with its interval; lines only join images along time."""
    places = _ratio_places(data)
    (_, timed), bands = _along(data), _has_bands(data)
    for name in dict.fromkeys(data["class"]):
        own = (data["class"] == name).to_numpy()
        x, y, colour = places[own, 0], places[own, 2], look.colour(name)
        low, high = (100 * data[f"fraction_{end}"][own] for end in ("low", "high"))
        if bands:
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        else:
            axes.vlines(x, low, high, color=colour, linewidth=1.0, alpha=0.75)
        axes.plot(
            x, y, color=colour, linestyle="-" if timed else "", linewidth=0.8, label=name,
            marker=look.marker(name), markersize=4.5 if own.sum() < 80 else 3.0,
            markeredgecolor=(0, 0, 0, 0.6), markeredgewidth=0.4,
        )  # fmt: skip
    top = 100 * float(np.nanmax(data[["fraction", "fraction_high"]].to_numpy(float)))
    axes.set(ylim=(0, min(1.08 * top, 102)), ylabel="Fraction / %")
    if timed:
        axes.set_xlabel("Time since the first image / min")
    else:
        _name_images(axes, look, data.drop_duplicates("image"))
    beside = () if bands else ("Classes of an image side by side.",)
    style_axes(axes, look, "95 % intervals.", *beside)
    legend(axes, look, beside=True)


def _name_images(axes: Axes, look: Look, images: pd.DataFrame) -> None:
    """Write the names of the images below the axes, or their numbers if names have no room."""
    names = [_short(n) for n in images["image"]]
    width, height = size_em(axes, look)
    wide = (width - 14) / len(names) > 0.6 * max(map(len, names))
    if wide or (len(names) <= _NAMES_UP_TO and height >= _HEIGHT_FOR_NAMES_EM):
        axes.set_xticks(images["position"], names)
        if not wide:
            axes.tick_params(axis="x", labelrotation=30)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
    else:
        axes.set_xlabel("Image")
        axes.locator_params(axis="x", integer=True)


def _short(name: str, max_length: int = 16) -> str:
    """Return the name without its suffix, abbreviated in the middle if it is long."""
    stem = name.rsplit(".", 1)[0] if "." in name else name
    if len(stem) <= max_length:
        return stem
    return f"{stem[: max_length // 2]}…{stem[-max_length // 2 + 1 :]}"


def _ratio_row(row: Any) -> str:
    when = f"\nrecorded {row['recorded']}" if row["recorded"] else ""
    low, high = 100 * row["fraction_low"], 100 * row["fraction_high"]
    interval = f"({low:.1f} to {high:.1f} %)" if np.isfinite(low) else "(no interval)"
    return (
        f"{row['image']}: {100 * row['fraction']:.1f} % {row['class']} {interval}, "
        f"{int(row['count'])} clusters{when}"
    )


def _ratio_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    member = np.full(len(table), -1)
    if len(data) and len(table):
        shown = np.flatnonzero(counted(table))
        member[shown] = matching_row(
            table.iloc[shown], data, **{"image": "image", "class": "label"}
        )
    return member


RATIOS = Plot(
    "Ratios over images",
    "Class ratios of each image with 95 % intervals, to detect drift during a session.",
    ratios_data,
    draw_ratios,
    _ratio_members,
    _ratio_places,
    _ratio_row,
    column="image",
    slow=True,
    nothing="No fractions: no clusters are counted, or the fractions are withheld (dock Ratios).",
)


def _parity_data(pairs: pd.DataFrame, **_: Any) -> pd.DataFrame:
    return pairs


def parity_limit(pairs: pd.DataFrame) -> float:
    """Return the end of both axes in per cent."""
    columns = ["reference", "fraction", "fraction_high"]
    return 100 * float(np.ceil(10 * pairs[columns].max().max()) / 10)


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
    axes.set_anchor("W")  # the caption, which starts at the axes, has the room at the right
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
