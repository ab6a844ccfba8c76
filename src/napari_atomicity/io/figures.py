"""Write figures as PNG, SVG or PDF."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import AtomicityError
from .files import RESULT, atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = {".png": "Picture", ".svg": "Drawing", ".pdf": "PDF"}
"""File formats of figures."""
PNG_DPI = 300
BACKEND = f"module://{__package__}.figure_canvas"
"""Backend of `matplotlib.figure.Figure.savefig` for SVG with small images."""

_DRAWING_DPI = 200  # of the images within a drawing
# Without a date, the same figure gives the same file.
_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"metadata": {"Software": RESULT}},
    ".svg": {"metadata": {"Date": None}, "dpi": _DRAWING_DPI, "backend": BACKEND},
    ".pdf": {"metadata": {"CreationDate": None}, "dpi": _DRAWING_DPI},
}
FONTS_AND_IDS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "atomicity",
}
"""Settings of matplotlib for drawings."""


def lay_out(figure: Figure) -> None:
    """Compute the layout of a figure once, for all files: it takes as long as writing one."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)  # any other one draws the figure twice


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: float = PNG_DPI) -> Path:
    """Write a figure as .png, .svg or .pdf, completely or not at all.

    Raises `AtomicityError` if the suffix is not supported, or the file can not be written.
    """
    import matplotlib as mpl

    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise AtomicityError(
            f"figures can't be {path.suffix or 'without suffix'}",
            path,
            f"Use one of {', '.join(SUFFIXES)}",
        )
    with mpl.rc_context(FONTS_AND_IDS), atomic_write(path) as temporary:
        lay_out(figure)
        figure.savefig(temporary, format=suffix[1:], **{"dpi": dpi, **_OPTIONS[suffix]})
    return path
