"""Windows of an image stacked into one array, so that one operation processes many clusters."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage

MAX_WINDOWS = 64
SHEET_PIXELS = 1 << 17
"""Largest number of windows of a sheet, and its usual number of pixels, which fit into the
processor's cache."""
MIN_SHEETS = 4
"""Number of sheets of a few windows, for several threads."""


class Sheet:
    """Windows of an image, stacked vertically, so that one operation processes many clusters.

    Parameters
    ----------
    labels : ndarray of shape (N,)
        Label of each window.
    boxes : ndarray of shape (N, 4)
        Top, bottom, left and right of each window; they may extend beyond the image.
    """

    def __init__(self, labels: np.ndarray, boxes: np.ndarray) -> None:
        self.labels = labels
        self.corners, self.ends = boxes[:, ::2], boxes[:, 1::2]
        heights, widths = (self.ends - self.corners).T
        self.tops = np.cumsum(heights) - heights
        self.shape = int(heights.sum()), int(widths.max())
        self.window = np.repeat(np.arange(len(boxes)), heights)  # of each row

    def of(self, image: np.ndarray, fill: float) -> np.ndarray:
        """Return the windows of an image.

        Parameters
        ----------
        image : ndarray of shape (Y, X)
            The image.
        fill : float
            Value beyond the edges of the image.
        """
        out = np.full(self.shape, fill, image.dtype)
        first, last = np.maximum(self.corners, 0), np.minimum(self.ends, image.shape)
        places = [first, last, first - self.corners, last - self.corners]
        for top, (y, x, y_, x_, row, column, row_, column_) in zip(
            self.tops.tolist(), np.hstack(places).tolist(), strict=True
        ):
            out[top + row : top + row_, column:column_] = image[y:y_, x:x_]
        return out

    def pixels(self, mask: np.ndarray) -> SheetPixels:
        """Return the pixels of a mask, by window and from top to bottom."""
        index = np.flatnonzero(mask)
        row, column = np.divmod(index, self.shape[1])
        window = self.window[row]
        return SheetPixels(len(self.tops), index, window, row - self.tops[window], column)


class SheetPixels(NamedTuple):
    """Some pixels of a sheet of ``n`` windows, (K,) each.

    Position in the sheet, window, and row and column in the window.
    """

    n: int
    place: np.ndarray
    window: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def where(self, keep: np.ndarray) -> SheetPixels:
        """Select pixels by a mask."""
        return SheetPixels(self.n, *(one[keep] for one in self[1:]))

    def number(self) -> np.ndarray:
        """Return the number (n,) of pixels in each window."""
        return np.bincount(self.window, minlength=self.n)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum values (K,) over each window: (n,).

        In double precision and in order, so the result does not depend on the other windows.
        """
        return np.bincount(self.window, values, self.n)

    def medians(self, values: np.ndarray, min_pixels: int = 1) -> np.ndarray:
        """Compute the median over each window.

        Parameters
        ----------
        values : ndarray of shape (K,)
            Values of the pixels.
        min_pixels : int
            Minimum number of pixels of a window.

        Returns
        -------
        ndarray of shape (n,)
            NaN for windows with fewer pixels.
        """
        ends = np.cumsum(self.number()).tolist()
        return np.array(
            [
                _median(values[start:end]) if end - start >= min_pixels else np.nan
                for start, end in pairwise([0, *ends])
            ]
        )


def _median(values: np.ndarray) -> float:
    """Compute `numpy.median` in a tenth of the time, for a few hundred values."""
    half = len(values) // 2
    values = values.copy()
    values.partition(half)
    if len(values) % 2:
        return float(values[half])
    return float((values[:half].max() + values[half]) / 2)


def make_sheets(image: np.ndarray, labels: np.ndarray | None, margin: int) -> list[Sheet]:
    """Cut windows around labels of a label image.

    Parameters
    ----------
    image : ndarray of shape (Y, X), int
        Labels.
    margin : int
        Margin of each window in pixels.
    """
    boxes = ndimage.find_objects(image)
    some = range(1, len(boxes) + 1) if labels is None else [i for i in labels if i <= len(boxes)]
    own = np.array([i for i in some if boxes[i - 1] is not None])
    edges = np.array(
        [[end for s in boxes[i - 1] for end in (s.start - margin, s.stop + margin)] for i in own]
    )
    if not len(own):
        return []
    height, width = (edges[:, 1::2] - edges[:, ::2]).mean(axis=0)
    fitting = min(MAX_WINDOWS, int(SHEET_PIXELS / (height * width)), -(-len(own) // MIN_SHEETS))
    number = max(1, fitting)
    return [
        Sheet(own[start : start + number], edges[start : start + number])
        for start in range(0, len(own), number)
    ]
