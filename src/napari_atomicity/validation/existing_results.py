"""Error of a folder that has results of another validation."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import AtomicityError


class ExistingResultsError(AtomicityError):
    """A folder has results of other settings or data.

    Parameters
    ----------
    folder : Path
        The folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            "this folder has results of other settings or data",
            folder,
            "Choose another folder for --out, or discard them with --overwrite",
        )
