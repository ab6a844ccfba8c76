"""Statistics that fail without the loss of the results from which they are computed.

A map, a dispersion, ratios or a figure come after detection and classification. If one of them
fails, the tables are written nevertheless, and its name and the error are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeVar

from .errors import Cancelled, format_error

T = TypeVar("T")

FAILED = "failed_statistics"
"""Key of the parameters of an analysis and of the record of a run: statistic → error."""


def attempt(failed: MutableMapping[str, str], name: str, compute: Callable[[], T]) -> T | None:
    """Compute a statistic; keep its error instead of raising it.

    Parameters
    ----------
    failed : mutable mapping of str to str
        Gets the error under the name of the statistic.
    name : str
        What is computed, for a message: "dispersion", "map", ...

    Raises
    ------
    Cancelled
        If the computation was stopped.
    """
    try:
        return compute()
    except Cancelled:
        raise
    except Exception as error:  # whatever it is, earlier results are valid
        failed[name] = format_error(error)
        return None


def add_failed(parameters: Mapping[str, Any], failed: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of an analysis with further failed statistics."""
    if not failed:
        return dict(parameters)
    return {**parameters, FAILED: {**parameters.get(FAILED, {}), **failed}}


def format_failed(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a sentence for each failed statistic in the parameters of an analysis."""
    failed = parameters.get(FAILED, {}).items()
    return tuple(f"Could not compute: {name} ({error.rstrip('.')})." for name, error in failed)


def count_failed(parameters: Iterable[Mapping[str, Any]]) -> int:
    """Return the number of failed statistics in the parameters of several analyses."""
    return sum(len(one.get(FAILED, {})) for one in parameters)
