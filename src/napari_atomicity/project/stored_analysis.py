"""The analysis of an image as it is stored in a project."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from ..core.micrograph import Micrograph
from ..core.table_cache import Columns, table_of
from ..models.analysis import Analysis

_NO_TABLE = pd.DataFrame()


class StoredAnalysis(Analysis):
    """An analysis whose table is made of its columns when it is used.

    A project has many images, most of which are not looked at. Of a changed analysis
    (`dataclasses.replace`) the table is at hand.
    """

    columns: Columns

    @classmethod
    def of(
        cls, columns: Columns, micrograph: Micrograph, outlines: list[Any], *others: Any
    ) -> Self:
        """Return an analysis without its table."""
        analysis = cls(micrograph, _NO_TABLE, outlines, *others)
        del analysis.__dict__["table"]  # the property makes it
        analysis.__dict__["columns"] = columns
        return analysis

    def column(self, name: str) -> np.ndarray:
        """Return a column of the table; it must not be written to."""
        known = vars(self).get("columns")
        return super().column(name) if known is None else known[name]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Cluster table."""
        return table_of(self.columns)
