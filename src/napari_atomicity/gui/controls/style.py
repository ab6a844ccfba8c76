"""Colours that napari's themes leave too faint to read."""

from __future__ import annotations

from napari.utils.theme import get_theme
from qtpy.QtGui import QColor

from .drawing import faint


def style_of(theme: str) -> str:
    """Return a style sheet for docks and the bar: disabled text and hints in a readable colour."""
    colours = get_theme(theme)
    # Of all backgrounds of controls this is the one nearest to the text.
    text = faint(_qt(colours.text), _qt(colours.primary)).name()
    kinds = ("QWidget", "QPushButton", "QComboBox", "QAbstractSpinBox", "QLineEdit", "QLabel")
    disabled = ", ".join(f"{kind}:disabled" for kind in kinds)
    return (
        f"{disabled} {{ color: {text}; }} QLineEdit {{ placeholder-text-color: {text}; }} "
        # The border of napari would make a disabled button larger, and move what is beside it.
        "QPushButton:disabled { border: 0px; }"
    )


def _qt(colour: object) -> QColor:
    return QColor(*colour.as_rgb_tuple()[:3])  # type: ignore[attr-defined]
