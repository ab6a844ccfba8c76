"""Qt model of the gallery: rows, order and style, without an object per cluster."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractListModel, QModelIndex, QObject, QSize, Qt
from qtpy.QtGui import QImage, QPixmap

from ...core import palette
from ...core.tables import cluster_table as tables
from ...models.analysis import Analysis
from ...reporting.patch_pictures import STRETCH, compose, quantiles
from ...state.window_state import WindowState
from ..controls.cluster_rows import SelectableRows, kept_order
from ..viewer.layers import point_style as marks
from .order import Arrangement, GalleryOrder, arrange, moved, regrouped


# ---- pictures of many patches at once, and a store of those that were painted last
@dataclass(frozen=True)
class Overlay:
    """Content of a tile."""

    channel: str
    with_map: bool
    same_scale: bool  # whether all tiles share one grey scale
    tooltip: str


OVERLAYS: dict[str, Overlay] = {
    "raw": Overlay("raw", False, False, "Each patch with its own grey scale, for its shape."),
    "raw, same scale": Overlay(
        "raw",
        False,
        True,
        "All patches with one grey scale in units of the intensity of one atom: clusters of "
        "more atoms are brighter.",
    ),
    "LCN": Overlay("LCN", False, False, "The patch after local contrast normalisation."),
    "class map raw": Overlay("raw", True, False, "Class map of the raw patch."),
    "class map LCN": Overlay("LCN", True, False, "Class map of the normalised patch."),
}
"""Contents of tiles by name."""

STORE_BYTES = 64 * 2**20
"""Pictures that are kept, some thousands of small ones; others are made again in 0.1 ms each."""

_SAMPLE = 200


def common_limits(stacks: Sequence[np.ndarray]) -> tuple[float, float]:
    """Black and white for patches (N, P, P) of several images, from some hundred of them all."""
    n = sum(len(stack) for stack in stacks)
    every = max(1, n // _SAMPLE)
    some = [stack[::every].ravel() for stack in stacks]
    pixels = np.concatenate(some) if some else np.zeros(0, np.float32)
    pixels = pixels[np.isfinite(pixels)]
    if not len(pixels):
        return 0.0, 1.0
    low, high = quantiles(pixels[None], STRETCH)
    return float(low[0, 0]), float(high[0, 0])


def picture(pixels: np.ndarray, side: int, ratio: float) -> QPixmap:
    """Return a composed patch as a pixmap with a side in logical pixels."""
    pixels = np.ascontiguousarray(pixels)
    h, w = pixels.shape[:2]
    grey = pixels.ndim == 2
    kind = QImage.Format.Format_Grayscale8 if grey else QImage.Format.Format_RGB888
    image = QImage(pixels.data, w, h, w if grey else 3 * w, kind)
    device = max(1, round(side * ratio))
    scaled = image.scaled(
        QSize(device, device),
        Qt.AspectRatioMode.IgnoreAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
    out = QPixmap.fromImage(scaled)  # a copy: Qt does not keep the array alive
    out.setDevicePixelRatio(ratio)
    return out


class PictureCache:
    """Pictures by key; those that were asked for longest ago go when it is full."""

    def __init__(self, limit_bytes: int = STORE_BYTES) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, QPixmap] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> QPixmap | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, pixmap: QPixmap) -> None:
        self._kept[key] = pixmap
        self._bytes += _bytes(pixmap)
        while self._bytes > self._limit and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _bytes(gone)

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0


def _bytes(pixmap: QPixmap) -> int:
    return pixmap.width() * pixmap.height() * pixmap.depth() // 8


_AT_ONCE = 16


class GalleryModel(QAbstractListModel):
    """Clusters of the gallery; item i is the cluster at position i of the order."""

    def __init__(self, state: WindowState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.overlay = "raw"
        self._store = PictureCache()
        self._arrays: dict[str, tuple[Analysis, int]] = {}
        self._limits: dict[str, tuple[float, float]] = {}
        self.forget()

    @property
    def order(self) -> np.ndarray:
        """Rows that are shown, in order."""
        return self.arrangement.order

    def forget(self) -> None:
        """Release all data of the state."""
        self.beginResetModel()
        self.rows = SelectableRows()
        self.arrangement = Arrangement(np.zeros(0, int), np.zeros(0, int), ())
        self.sorting = GalleryOrder()
        self.classes: list[str] = []
        self._analyses: list[Analysis | None] = []
        self._first = np.zeros(0, int)
        self._arrays.clear()
        self._limits.clear()
        self._generation = 0
        self._selected_then: frozenset = frozenset()
        self._store.clear()
        self.endResetModel()

    # ---- changes of the state
    def refresh(self) -> bool:
        """Update the tables; return whether rows were added, removed or moved.

        Remaining rows keep their positions.
        """
        before = self.rows.table
        was = self.rows.take(self.state.table(), self.state.selection)
        self._take_arrays()
        n_kept = int((was >= 0).sum())
        self.classes = self.state.classes()
        if n_kept == len(before) == len(self.rows):
            self._changed()
            return False
        now = np.full(len(before), -1)
        now[was[was >= 0]] = np.flatnonzero(was >= 0)
        fresh = self._fresh()
        stay = regrouped(fresh, self.arrangement, was)
        order_then = now[self.arrangement.order]
        order = kept_order(fresh.order, order_then[order_then >= 0], was < 0, stay.group)
        self._show(Arrangement(order, stay.group, stay.names))
        return True

    def sort(self, *_: Any) -> None:
        """Sort and filter as set in `sorting`."""
        self._selected_then = self.state.selection
        self._show(self._fresh())

    def _fresh(self) -> Arrangement:
        # The selection at the time of sorting, so that clicks do not change the order.
        chosen = self.rows.mask_of(self._selected_then)
        return arrange(self.rows.table, self.classes, self.sorting, chosen)

    def still_fit(self) -> np.ndarray:
        """Return which tiles still belong to the group in which they are shown, by position."""
        return ~np.isin(self.arrangement.order, moved(self._fresh(), self.arrangement))

    def count_outdated(self) -> tuple[int, np.ndarray]:
        """Count the differences between the shown and a fresh arrangement."""
        fresh, now = self._fresh(), self.arrangement
        strays = moved(fresh, now)
        comes_or_goes = np.zeros(len(self.rows), bool)
        comes_or_goes[fresh.order] = True
        comes_or_goes[now.order] ^= True
        other = int(comes_or_goes.sum())
        if not other:
            other = max(int((fresh.order != now.order).sum()), len(strays))
        if self.sorting.sort == "similarity" and self.state.selection != self._selected_then:
            other = len(now.order)
        return other, np.bincount(now.group[strays], minlength=len(now.names))

    def count_unclassified(self) -> int:
        """Count the clusters that are not classified: they have no patch yet."""
        analyses = (known for known, _ in self._arrays.values())
        return sum(len(a.table) for a in analyses if not (a.model_id or a.patches))

    def _show(self, arrangement: Arrangement) -> None:
        self.beginResetModel()
        self.arrangement = arrangement
        self.endResetModel()

    def _changed(self) -> None:
        if self.rowCount():
            self.dataChanged.emit(self.index(0), self.index(self.rowCount() - 1))

    def _take_arrays(self) -> None:
        """Update the patches; pictures are made again only for changed arrays."""
        blocks, arrays = self.rows.blocks(), {}
        for image in blocks:
            analysis = self.state.analysis(image)
            known = self._arrays.get(image)
            if analysis is None:
                continue
            if known is None or not _same_arrays(known[0], analysis):
                self._generation += 1
                arrays[image] = (analysis, self._generation)
            else:
                arrays[image] = (analysis, known[1])
        if arrays.keys() != self._arrays.keys() or any(
            arrays[image][1] != self._arrays[image][1] for image in arrays
        ):
            self._limits.clear()
        self._arrays = arrays
        # By first row: the image of a row is found by bisection.
        images = sorted(blocks, key=lambda image: blocks[image])
        self._first = np.array([blocks[image] for image in images], int)
        self._of_image = [arrays.get(image) for image in images]

    # ---- pictures
    def pixmaps(
        self, positions: np.ndarray, side: int, ratio: float, enough: Any
    ) -> tuple[dict[int, QPixmap | None], bool]:
        """Return the pictures of some positions; make missing ones while there is time."""
        overlay = OVERLAYS[self.overlay]
        channel = overlay.channel
        limits = self._limits_of(channel) if overlay.same_scale else None
        found: dict[int, QPixmap | None] = {}
        missing: list[tuple[int, tuple, np.ndarray, np.ndarray | None]] = []
        order = self.arrangement.order[positions]
        block = np.searchsorted(self._first, order, side="right") - 1
        for position, row, b in zip(
            positions.tolist(), order.tolist(), block.tolist(), strict=True
        ):
            known = self._of_image[b]
            local = row - int(self._first[b])
            patches = None if known is None else known[0].patches.get(channel)
            if known is None or patches is None or local >= len(patches):
                found[position] = None
                continue
            key = (known[1], local, self.overlay, limits, side, ratio)
            kept = self._store.get(key)
            if kept is not None:
                found[position] = kept
                continue
            patch = patches[local]
            if not np.isfinite(patch[0, 0]) and not np.isfinite(patch).any():
                found[position] = None
                continue
            maps = known[0].class_maps.get(channel) if overlay.with_map else None
            missing.append((position, key, *_without_padding(known[0], local, patch, maps)))
        for start in range(0, len(missing), _AT_ONCE):
            if start and enough():
                return found, False
            some = missing[start : start + _AT_ONCE]
            for (position, key, _, _), pixels in zip(some, _composed(some, limits), strict=True):
                found[position] = picture(pixels, side, ratio)
                self._store.put(key, found[position])
        return found, True

    def _limits_of(self, channel: str) -> tuple[float, float]:
        """Return the limits of the common grey scale of a channel."""
        if channel not in self._limits:
            found = [analysis.patches.get(channel) for analysis, _ in self._arrays.values()]
            self._limits[channel] = common_limits([p for p in found if p is not None and len(p)])
        return self._limits[channel]

    # ---- looks
    def texts(self, positions: np.ndarray) -> list[str]:
        """Return the captions of some tiles, as next to the clusters in the image."""
        columns = ["label", "label_corrected", "confidence"]
        part = self.rows.table[columns].iloc[self.arrangement.order[positions]]
        return marks.texts(part)

    def labels(self, positions: np.ndarray) -> list[str]:
        return self.rows.table["label"].to_numpy()[self.arrangement.order[positions]].tolist()

    def dimmed(self, positions: np.ndarray) -> np.ndarray:
        """Return whether the clusters at some positions are in an excluded region."""
        return tables.is_excluded(self.rows.table)[self.arrangement.order[positions]]

    def looks_of(self, label: str) -> tuple[str, str]:
        """Return the colour and the symbol of a label."""
        return palette.colour_of(label, self.classes), palette.symbol_of(label, self.classes)

    # ---- Qt model
    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self.arrangement.order)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid() or index.row() >= self.rowCount():
            return None
        position = np.array([index.row()])
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return self.texts(position)[0] or "no label"
        if role == Qt.ItemDataRole.ToolTipRole:
            return format_tooltip(self.rows.table.iloc[int(self.arrangement.order[index.row()])])
        return None


def format_tooltip(row: pd.Series) -> str:
    """Format a cluster for the tooltip of its tile."""
    known = tables.conform(row.to_frame().T)
    count, otherwise = (texts[0] for texts in tables.format_rows(known))
    lines = [marks.texts(known)[0] or "no label"]
    if row["label_corrected"] and row["label_predicted"]:
        prediction = known.assign(label=known["label_predicted"], label_corrected="")
        lines.append(f"predicted: {marks.texts(prediction)[0]}")
    if "|" in str(row["prediction_set"]):
        lines.append(f"prediction set: {str(row['prediction_set']).replace('|', ', ')}")
    if np.isfinite(row["diameter_nm"]):
        lines.append(f"{row['diameter_nm']:.2f} nm" + (f", {count}" if count else ""))
    lines += [otherwise] if otherwise else []
    lines += ["in an excluded region: not counted"] if row.get("excluded", False) else []
    return "\n".join([*lines, f"{row['image']}, cluster {row['cluster_id']}"])


def _same_arrays(a: Analysis, b: Analysis) -> bool:
    return all(
        one.keys() == other.keys() and all(one[k] is other[k] for k in one)
        for one, other in ((a.patches, b.patches), (a.class_maps, b.class_maps))
    )


def _without_padding(
    analysis: Analysis, row: int, patch: np.ndarray, maps: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the patch of a cluster and its class map, if there is one, as they are shown."""
    shown = None if maps is None or row >= len(maps) else analysis.map_within_image(maps[row], row)
    return analysis.without_padding(patch, row), shown


def _composed(
    some: Sequence[tuple[int, tuple, np.ndarray, np.ndarray | None]],
    limits: tuple[float, float] | None,
) -> list:
    """Compose the pixels of some tiles, those of the same shape together."""
    out: list[Any] = [None] * len(some)
    kinds: dict[tuple, list[int]] = {}
    for i, (_, _, patch, map_) in enumerate(some):
        kinds.setdefault((patch.shape, None if map_ is None else map_.shape), []).append(i)
    for (_, map_shape), members in kinds.items():
        patches = np.stack([some[i][2] for i in members])
        maps = None if map_shape is None else np.stack([some[i][3] for i in members])
        for i, pixels in zip(members, compose(patches, maps, limits), strict=True):
            out[i] = pixels
    return out
