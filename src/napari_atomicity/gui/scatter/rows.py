"""Index of the rows of a table by the keys of their clusters or atoms."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ...core.cluster_table import Key


class RowIndex:
    """Index of the rows of each image in a table.

    Parameters
    ----------
    table : pandas.DataFrame
        Table with the columns ``image`` and ``id_column``.
    id_column : str
        Column that identifies the rows of an image.
    """

    def __init__(self, table: pd.DataFrame, id_column: str = "cluster_id") -> None:
        self._id_column = id_column
        self._images = table["image"].to_numpy()
        self._ids = table[id_column].to_numpy()
        self._of_image: dict[str, np.ndarray] = (
            dict(table.groupby("image", sort=False).indices) if len(table) else {}
        )

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
        by_image: dict[str, list[int]] = {}
        for image, cluster_id in keys:
            by_image.setdefault(image, []).append(cluster_id)
        found = [
            rows[np.isin(self._ids[rows], by_image[image])]
            for image, rows in self._of_image.items()
            if image in by_image
        ]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def keys(self, rows: np.ndarray) -> set[Key]:
        """Return the keys of the clusters in some rows."""
        return set(zip(self._images[rows].tolist(), self._ids[rows].tolist(), strict=True))


def _equal(known: np.ndarray, values: pd.Series) -> bool:
    """Return whether a column has these values; at once if it is in the same memory."""
    now = values.to_numpy()
    same = known.shape == now.shape and known.ctypes.data == now.ctypes.data
    return same or np.array_equal(known, now)
