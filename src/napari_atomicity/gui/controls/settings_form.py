"""A form of the settings of a dataclass."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, Generic, TypeVar

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QWidget

from ...core.settings import Setting, default_of, settings_of
from .forms import ComboBox, SpinBox, labelled, new_form, spin_box
from .settings import remember

S = TypeVar("S")


class SettingsForm(QWidget, Generic[S]):
    """Controls for the settings of a dataclass; see `form_of`.

    Signals: ``changed()`` when a person or the program changes a value.
    """

    changed = Signal()

    def __init__(self, settings: type[S], names: tuple[str, ...]) -> None:
        super().__init__()
        self._settings, known = settings, settings_of(settings)
        self.form: QFormLayout = new_form()
        self.setLayout(self.form)
        self.controls: dict[str, Any] = {}
        self._names = names or tuple(name for name, one in known.items() if one.label)
        self._nested: dict[str, SettingsForm[Any]] = {}
        for name in self._names:
            default = default_of(settings, name)
            if is_dataclass(default):
                nested = form_of(type(default))
                nested.changed.connect(self.changed)
                self.form.addRow(nested)
                self._nested[name] = nested
                self.controls.update(nested.controls)
            else:
                self.controls[name] = self._add(known[name], default)

    def _add(self, about: Setting, default: Any) -> QWidget:
        """Add the row of a setting."""
        control = _new_control(about, default)
        if isinstance(control, QCheckBox) and not about.text:
            control.setToolTip(about.tooltip(default))
            self.form.addRow(control)
        else:
            labelled(self.form, about.label, control, about.tooltip(default))
        if about.key:
            remember(about.key, control, shared=True)
        _signal_of(control).connect(self.changed)
        return control

    def values(self) -> dict[str, Any]:
        """Return the values of the controls by name of the field."""
        return {name: self._value(name) for name in self._names}

    def settings(self) -> S:
        """Return the settings.

        Raises `AtomicityError` if the values do not fit together.
        """
        return self._settings(**self.values())

    def _value(self, name: str) -> Any:
        if name in self._nested:
            return self._nested[name].settings()
        control = self.controls[name]
        if isinstance(control, QCheckBox):
            return control.isChecked()
        if isinstance(control, QComboBox):
            return control.currentData()
        default, number = default_of(self._settings, name), control.value()
        if default is None and number == control.minimum():
            return None
        about = settings_of(self._settings)[name]
        is_whole = isinstance(default, int) or (default is None and not about.decimals)
        return round(number / about.factor) if is_whole else number / about.factor


def form_of(settings: type[S], *names: str) -> SettingsForm[S]:
    """Make a form from a dataclass whose fields have a description.

    The values of settings with a key are saved, and the same in all forms that have them.
    """
    return SettingsForm(settings, names)


def _signal_of(control: Any) -> Any:
    """Return the signal of a control for another value."""
    if isinstance(control, QCheckBox):
        return control.toggled
    return control.currentIndexChanged if isinstance(control, QComboBox) else control.valueChanged


def _new_control(about: Setting, default: Any) -> QCheckBox | ComboBox | SpinBox:
    if isinstance(default, bool):
        box = QCheckBox(about.text or about.label)
        box.setChecked(default)
        return box
    if about.choices:
        combo = ComboBox()
        for value, text in about.choices.items():
            combo.addItem(text, value)
        combo.setCurrentIndex(combo.findData(default))
        return combo
    low, high = about.form_range or (about.min or 0.0, about.max or 1e9)
    number = low if default is None else about.factor * default
    field = spin_box(low, high, number, about.decimals, about.suffix)
    field.setSpecialValueText(about.text)
    if about.step is not None:
        field.setSingleStep(about.step)
    return field
