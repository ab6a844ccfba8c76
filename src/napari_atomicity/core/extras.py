"""Extras: packages that only some tasks need, installed as ``napari-atomicity[extra]``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

from .errors import DependencyError


def install_command(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "napari-atomicity[{extra}]"'


@contextmanager
def require_extra(
    extra: str, purpose: str, path: str | PathLike[str] | None = None
) -> Iterator[None]:
    """Name the extra to install if an import in the block fails.

    Parameters
    ----------
    purpose : str
        What requires it, as the beginning of a sentence.

    Raises
    ------
    DependencyError
        Instead of an ImportError.

    Examples
    --------
    >>> with require_extra("simulation", "Building cluster structures"):
    ...     import ase
    """
    try:
        yield
    except ImportError as error:
        module = (error.name or "").partition(".")[0]
        missing = f"{module}, which is not installed" if module else f"a package ({error})"
        raise DependencyError(
            f"{purpose} requires {missing}", path, f"Install it with: {install_command(extra)}"
        ) from error
