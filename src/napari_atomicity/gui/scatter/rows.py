"""Index of the rows of a table by the keys of their clusters or atoms."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np
import pandas as pd

from ...core.cluster_table import Key
from ...state.keys import ids_by_image


class RowIndex:
    """Index of the rows of each image in a table."""

    def __init__(self, table: pd.DataFrame, id_column: str = "cluster_id") -> None:
        self._id_column = id_column
        self._images = table["image"].to_numpy()
        self._ids = table[id_column].to_numpy()
        self._of_image: dict[str, np.ndarray] = (
            dict(table.groupby("image", sort=False).indices) if len(table) else {}
        )
        self._code_of = {image: code for code, image in enumerate(self._of_image)}
        self._codes = np.empty(len(table), np.int64)  # of the image of each row
        for code, rows in enumerate(self._of_image.values()):
            self._codes[rows] = code
        self._known_ids, ids = np.unique(self._ids, return_inverse=True)
        # An image and an id as one number.
        self._numbers = self._codes * len(self._known_ids) + ids

    def __len__(self) -> int:
        return len(self._ids)

    def fits(self, table: pd.DataFrame) -> bool:
        """Return whether a table has the same clusters in the same order."""
        return _equal(self._ids, table[self._id_column]) and _equal(self._images, table["image"])

    def of_image(self, image: str) -> np.ndarray:
        """Return the rows of an image."""
        return self._of_image.get(image, np.empty(0, np.int64))

    def of(self, keys: Iterable[Key]) -> np.ndarray:
        """Return the rows of clusters; skip those that are not in the table."""
        by_image = ids_by_image(frozenset(keys))
        known = [(self._code_of[n], ids) for n, ids in by_image.items() if n in self._code_of]
        if not known:
            return np.empty(0, np.int64)
        wanted = np.fromiter(chain.from_iterable(ids for _, ids in known), np.int64)
        codes = np.repeat([code for code, _ in known], [len(ids) for _, ids in known])
        n = len(self._known_ids)
        place = np.clip(np.searchsorted(self._known_ids, wanted), 0, n - 1)
        numbers = (codes * n + place)[self._known_ids[place] == wanted]
        rows = np.flatnonzero(np.isin(self._numbers, numbers))
        return rows[np.argsort(self._codes[rows], kind="stable")]

    def keys(self, rows: np.ndarray) -> set[Key]:
        """Return the keys of the clusters in some rows."""
        return set(zip(self._images[rows].tolist(), self._ids[rows].tolist(), strict=True))


def _equal(known: np.ndarray, values: pd.Series) -> bool:
    """Return whether a column has these values; at once if it is in the same memory."""
    now = values.to_numpy()
    same = known.shape == now.shape and known.ctypes.data == now.ctypes.data
    return same or np.array_equal(known, now)
