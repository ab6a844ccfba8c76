"""Settings that are remembered from one session to the next: of forms, never of layers."""

from __future__ import annotations

import math

from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox

ANNOTATOR = "annotator"
"""Under this name lies who corrects."""


def settings() -> QSettings:
    """Where they lie: a file of the user."""
    return QSettings(
        QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-atomicity", "window"
    )


def remember(name: str, widget: QComboBox | QDoubleSpinBox | QCheckBox) -> None:
    """Set a widget to what it was when it was last changed, and note every change.

    What makes no sense any more (a model that is gone, a number out of range) is passed over.
    """
    stored = settings().value(name)
    if isinstance(widget, QComboBox):
        index = -1 if stored is None else widget.findData(str(stored))
        if index >= 0:
            widget.setCurrentIndex(index)
        widget.currentIndexChanged.connect(lambda _: _note(name, widget.currentData()))
    elif isinstance(widget, QDoubleSpinBox):
        number = _number(stored)
        if widget.minimum() <= number <= widget.maximum():
            widget.setValue(number)
        widget.valueChanged.connect(lambda value: _note(name, value))
    else:
        if str(stored) in ("true", "false"):
            widget.setChecked(str(stored) == "true")
        widget.toggled.connect(lambda on: _note(name, "true" if on else "false"))


def _note(name: str, value: object) -> None:
    settings().setValue(name, value)


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return math.nan
