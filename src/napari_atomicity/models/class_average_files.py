"""Files of class averages: figure, radial profiles, and centre against outline."""

from __future__ import annotations

from pathlib import Path

from ..core.text import pluralise
from ..io.figures import SUFFIXES, save_figure
from ..io.inputs import make_folder
from ..io.tables import write_table
from .class_average_figure import draw
from .class_averages import Averages

FIGURE = "class-averages"
"""Name of the figure, without suffix."""
TABLES = {"profiles": "class-profiles", "balances": "centre-outline"}
"""Method of `Averages` that returns a table → name of its file, without suffix."""


def write_averages(
    averages: Averages, folder: Path, about: str = "", *, normalised: bool = False
) -> list[Path]:
    """Write the figure as PNG, SVG and PDF, and its numbers as CSV.

    Parameters
    ----------
    folder : Path
        Folder, created if necessary.
    about : str, optional
        End of the names of the files, such as "-Pt55".
    normalised : bool, optional
        Whether each map is scaled to its own maximum.

    Raises
    ------
    AtomicityError
        If a file cannot be written.
    """
    if not averages.items:
        return []
    make_folder(folder)
    figure = draw(averages, normalised=normalised)
    names = [f"{FIGURE}{about}{suffix}" for suffix in SUFFIXES]
    files = [save_figure(figure, folder / name) for name in names]
    for method, name in TABLES.items():
        files.append(write_table(getattr(averages, method)(), folder / f"{name}{about}.csv"))
    return files


def describe_averages(averages: Averages) -> str:
    """Return how many clusters were averaged and how many were left out, as text."""
    n = sum(
        max(a.clusters for a in averages.items if a.label == label) for label in averages.labels
    )
    out = ", ".join(f"{count} {reason}" for reason, count in averages.left_out.items())
    text = f"{pluralise(n, 'cluster')} averaged" if n else "No isolated, whole cluster of a class"
    return text + (f"; left out: {out}." if out else ".")
