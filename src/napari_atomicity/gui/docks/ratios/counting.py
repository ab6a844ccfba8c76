"""Class ratios and their comparison with a reference, as functions for a worker."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ....core.model_card import ModelCard
from ....core.progress import Progress, Stop
from ....statistics.ratios import class_ratios
from ....statistics.reference import Comparison, compare


def count_ratios(
    table: pd.DataFrame,
    classes: Sequence[str],
    images: Sequence[str],
    method: str = "counted",
    card: ModelCard | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> pd.DataFrame:
    """Compute the class ratios of every image and of all images together.

    Parameters
    ----------
    table : pandas.DataFrame
        The cluster table.
    classes, images : sequence of str
        The classes in order, and the images.
    method : str
        A name in `METHODS`.
    card : ModelCard, optional
        The card of the model, for methods that correct for its errors.
    progress, stop : callable, optional
        See `core.progress`.

    Returns
    -------
    pandas.DataFrame
        See `statistics.ratios.class_ratios`.
    """
    return class_ratios(table, classes, images=images, method=method, card=card, stop=stop)


def compare_with_reference(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    images: Sequence[str],
    method: str,
    card: ModelCard | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Comparison:
    """Compare the ratios in every scope of a reference with the reference.

    Parameters
    ----------
    table, reference : pandas.DataFrame
        The cluster table and the reference ratios.
    images : sequence of str
        The images.
    method : str
        A name in `METHODS`.
    card : ModelCard or None
        The card of the model.
    progress, stop : callable, optional
        See `core.progress`.

    Returns
    -------
    Comparison
    """
    return compare(table, reference, images, method=method, card=card, stop=stop)
