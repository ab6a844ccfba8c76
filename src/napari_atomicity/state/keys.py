"""Keys of clusters or atoms, grouped by image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache

from ..core.cluster_table import Key


@lru_cache(maxsize=4)
def ids_by_image(keys: frozenset[Key]) -> Mapping[str, frozenset[int]]:
    """Return the ids of each image among some keys.

    Every view groups the selection, which may have all clusters of a project: it is grouped once.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for image, number in keys:
        found[image].append(number)
    return {image: frozenset(ids) for image, ids in found.items()}


def ids_of_image(keys: frozenset[Key], image: str | None) -> frozenset[int]:
    """Return the ids of one image among some keys."""
    return ids_by_image(keys).get(image or "", frozenset())
