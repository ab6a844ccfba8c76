"""The analyses of a window: tables, generations and ids of clusters; changed in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from ..core import cluster_table as tables
from ..core.micrograph import Micrograph
from ..core.table_cache import Columns, TableCache, columns_of
from ..models.analysis import Analysis
from .analysis_updates import mark_excluded


class AnalysisStore:
    """Analyses by image, with the columns of their tables at hand."""

    def __init__(self) -> None:
        self._analyses: dict[str, Analysis] = {}
        self._cache = TableCache()
        self._generation: dict[str, int] = {}
        self._next_id: dict[str, int] = {}
        self._classes: tuple[str, ...] | None = None

    @property
    def analyses(self) -> dict[str, Analysis]:
        """Image → analysis; change it by `install` only."""
        return self._analyses

    def get(self, image: str) -> Analysis | None:
        """Return the analysis of an image, if there is one."""
        return self._analyses.get(image)

    def generation(self, image: str) -> int:
        """Return a number that grows with every change of an image's analysis."""
        return self._generation.get(image, 0)

    def table(self, image: str) -> pd.DataFrame:
        """Return the cluster table of an image."""
        found = self._analyses.get(image)
        return tables.empty() if found is None else found.table

    def joined_table(self, images: Iterable[str]) -> pd.DataFrame:
        """Return the cluster tables of some images as one."""
        return self._cache.table(images)

    def columns(self, image: str) -> Columns | None:
        """Return the cluster table of an image as read-only arrays by name."""
        return self._cache.columns(image)

    def classes(self, hidden: Mapping[str, Analysis] | None) -> list[str]:
        """Return the classes of the analyses, or of those that blind mode hides, in order."""
        if self._classes is None:
            found: dict[str, None] = {}
            for image, analysis in (hidden or self._analyses).items():
                columns = self.columns(image) if hidden is None else None
                names = analysis.table.columns if columns is None else columns
                found.update(dict.fromkeys(tables.classes_among(names)))
            self._classes = tuple(found)
        return list(self._classes)

    # ---- ids
    def next_cluster_id(self, image: str) -> int:
        """Return an id that no cluster of this image ever had."""
        value = self._next_id.get(image, 1)
        self._next_id[image] = value + 1
        return value

    def first_free_id(self, image: str) -> int:
        """Return the id that the next new cluster gets, without using it."""
        return self._next_id.get(image, 1)

    def reserve_ids(self, next_ids: Mapping[str, int]) -> None:
        """Use no ids below these."""
        for image, number in next_ids.items():
            self._next_id[image] = max(number, self._next_id.get(image, 1))

    def set_next_ids(self, next_ids: Mapping[str, int]) -> None:
        """Forget all ids but those of these images; use no ids below these."""
        self._next_id = {n: max(i, self._next_id.get(n, 1)) for n, i in next_ids.items()}

    # ---- changes
    def install(
        self,
        image: str,
        analysis: Analysis | None,
        columns: Columns | None = None,
        only_labels: bool = False,
    ) -> None:
        """Replace the analysis of an image; the one place where an analysis changes."""
        if analysis is None:
            self._analyses.pop(image, None)
            self._cache.set(image, None)
            self._classes = None
        elif only_labels and image in self._analyses:
            self._analyses[image] = analysis
            self._cache.relabel(image, analysis.table)
        else:
            self._put(image, analysis, columns)
        self._generation[image] = self._generation.get(image, 0) + 1

    def _put(self, image: str, analysis: Analysis, columns: Columns | None) -> None:
        before = self._analyses.get(image)
        if before is None or not before.table.columns.equals(analysis.table.columns):
            self._classes = None
        self._analyses[image] = analysis
        known = columns_of(analysis.table) if columns is None else columns
        self._cache.set(image, known)
        if len(known["cluster_id"]):
            newest = int(known["cluster_id"].max())
            self._next_id[image] = max(self._next_id.get(image, 1), newest + 1)

    def replace_all(
        self, analyses: Mapping[str, Analysis], images: Iterable[str], cache: TableCache | None
    ) -> None:
        """Hold these analyses and no others."""
        self._cache = TableCache() if cache is None else cache
        self._analyses = {}
        self._classes = None
        for image, analysis in analyses.items():
            known = self._cache.columns(image)
            if known is None or analysis.regions or "excluded" in known:
                marked = mark_excluded(analysis)
                known = known if marked is analysis else None
                analysis = marked
            self._put(image, analysis, known)
        for image in {*self._generation, *images}:
            self._generation[image] = self._generation.get(image, 0) + 1

    def set_micrograph(self, image: str, micrograph: Micrograph) -> None:
        """Replace the micrograph of an analysis; its clusters stay."""
        if image in self._analyses:
            self._analyses[image] = replace(self._analyses[image], micrograph=micrograph)
