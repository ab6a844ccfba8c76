"""What a notebook or a script uses: analyses with plots, sessions, training, atoms, movies.

The public names are those of `napari_atomicity`. This folder is above the window, since
`ImageAnalysis.open_in` opens a viewer, and above `pipeline` and `reporting`, since analyses plot
and save themselves there. The data of an analysis stay in `models.analysis.Analysis`, which every
folder uses; `ImageAnalysis` adds methods and no data. Packages that are needed by one method only,
such as matplotlib, napari or hyperspy, are imported by this method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .analysing import analyse
    from .image_analysis import ImageAnalysis
    from .session import Analyses, Session
    from .tasks import adapt, analyse_batch, analyse_movie, dispersion, find_atoms, train

__all__ = [
    "Analyses",
    "ImageAnalysis",
    "Session",
    "adapt",
    "analyse",
    "analyse_batch",
    "analyse_movie",
    "dispersion",
    "find_atoms",
    "train",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Analyses": "session",
        "ImageAnalysis": "image_analysis",
        "Session": "session",
        "adapt": "tasks",
        "analyse": "analysing",
        "analyse_batch": "tasks",
        "analyse_movie": "tasks",
        "dispersion": "tasks",
        "find_atoms": "tasks",
        "train": "tasks",
    },
)
