"""User settings of forms that persist between windows."""

from __future__ import annotations

import math
from collections import defaultdict
from weakref import WeakSet

from qtpy.compat import isalive
from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox

ANNOTATOR = "annotator"
"""Key of the name of the annotator."""
MODEL, ATOM_MODEL = "model", "atoms/model"
"""Keys of the chosen models of clusters and of single atoms."""

RATIO_METHOD = "ratios/method"
"""Key of the method of the ratios, which window, export and report share."""


def settings() -> QSettings:
    """Return the settings file of the user."""
    return QSettings(
        QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-atomicity", "window"
    )


Control = QComboBox | QDoubleSpinBox | QCheckBox
_shared: defaultdict[str, WeakSet[Control]] = defaultdict(WeakSet)


def remember(name: str, widget: Control, *, shared: bool = False) -> None:
    """Restore the value of a widget and save every change of it.

    Values that are no longer valid (a deleted model, a number out of range) are ignored.
    """
    _set_value(widget, settings().value(name))
    if isinstance(widget, QComboBox):
        widget.currentIndexChanged.connect(lambda _: _note(name, widget, widget.currentData()))
    elif isinstance(widget, QDoubleSpinBox):
        widget.valueChanged.connect(lambda value: _note(name, widget, value))
    else:
        widget.toggled.connect(lambda on: _note(name, widget, "true" if on else "false"))
    if shared:
        _shared[name].add(widget)


def show_setting(name: str, widget: Control) -> None:
    """Show a shared setting and its later changes in a widget whose own changes are not saved."""
    _set_value(widget, settings().value(name))
    _shared[name].add(widget)


def _set_value(widget: Control, value: object) -> None:
    """Set a stored value; ignore one that the widget does not have."""
    if isinstance(widget, QComboBox):
        index = -1 if value is None else widget.findData(str(value))
        if index >= 0:
            widget.setCurrentIndex(index)
    elif isinstance(widget, QDoubleSpinBox):
        number = _number(value)
        if widget.minimum() <= number <= widget.maximum():
            widget.setValue(number)
    elif str(value) in ("true", "false"):
        widget.setChecked(str(value) == "true")


def _note(name: str, widget: Control, value: object) -> None:
    """Save a value, and show it in the other controls of this setting."""
    if widget in _shared[name]:
        choose(name, value)
    else:
        settings().setValue(name, value)


def choose(name: str, value: object) -> None:
    """Save a value, and show it in all controls that share this setting."""
    settings().setValue(name, value)
    for widget in list(_shared[name]):
        if isalive(widget):
            _set_value(widget, value)


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return math.nan
