"""User settings of forms that persist between windows."""

from __future__ import annotations

import math

from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox

ANNOTATOR = "annotator"
"""Key of the name of the annotator."""


def settings() -> QSettings:
    """Return the settings file of the user."""
    return QSettings(
        QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-atomicity", "window"
    )


def remember(name: str, widget: QComboBox | QDoubleSpinBox | QCheckBox) -> None:
    """Restore the value of a widget and save every change of it.

    Values that are no longer valid (a deleted model, a number out of range) are ignored.
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
