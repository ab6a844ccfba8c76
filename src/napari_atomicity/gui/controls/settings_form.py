"""A form of the settings of a dataclass."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, Generic, TypeVar

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QWidget

from ...core.settings import Setting, default_of, settings_of
from .forms import adjust_combo, adjust_number, labelled, new_form
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
        self.controls: dict[str, Any] = {}  # the Qt widgets
        self._widgets: dict[str, CheckBox | ComboBox | FloatSpinBox] = {}
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
                self._widgets[name] = widget = _new_widget(known[name], default)
                self.controls[name] = widget.native
                self._add(known[name], default, widget)

    def _add(
        self, about: Setting, default: Any, widget: CheckBox | ComboBox | FloatSpinBox
    ) -> None:
        """Add the row of a setting."""
        if isinstance(widget, CheckBox) and not about.text:
            widget.tooltip = about.tooltip(default)
            self.form.addRow(widget.native)
        else:
            labelled(self.form, about.label, widget.native, about.tooltip(default))
        if about.key:
            remember(about.key, widget.native, shared=True)
        widget.changed.connect(lambda _: self.changed.emit())

    def values(self) -> dict[str, Any]:
        """Return the values of the controls by name of the field."""
        return {name: self._value(name) for name in self._names}

    def settings(self) -> S:
        """Return the settings.

        Raises `AtomicityError` if the values do not fit together.
        """
        return self._settings(**self.values())

    def show_settings(self, settings: S) -> None:
        """Show settings, without a signal."""
        for name, widget in self._widgets.items():
            with widget.changed.blocked():
                _set_value(widget, settings_of(self._settings)[name], getattr(settings, name))

    def _value(self, name: str) -> Any:
        if name in self._nested:
            return self._nested[name].settings()
        value, default = self._widgets[name].value, default_of(self._settings, name)
        about = settings_of(self._settings)[name]
        if isinstance(default, bool) or about.choices:
            return value
        if default is None and value == self._widgets[name].native.minimum():
            return None
        is_whole = isinstance(default, int) or (default is None and not about.decimals)
        return round(value / about.factor) if is_whole else value / about.factor


def form_of(settings: type[S], *names: str) -> SettingsForm[S]:
    """Make a form from a dataclass whose fields have a description.

    The values of settings with a key are saved, and the same in all forms that have them.
    """
    return SettingsForm(settings, names)


def _set_value(widget: CheckBox | ComboBox | FloatSpinBox, about: Setting, value: Any) -> None:
    """Set the value of a setting; None is the lowest number."""
    if isinstance(widget, FloatSpinBox):
        value = widget.min if value is None else about.factor * value
    widget.value = value


def _new_widget(about: Setting, default: Any) -> CheckBox | ComboBox | FloatSpinBox:
    if isinstance(default, bool):
        return CheckBox(value=default, text=about.text or about.label)
    if about.choices:
        combo = ComboBox(choices=[(text, value) for value, text in about.choices.items()])
        combo.value = default
        adjust_combo(combo.native)
        return combo
    low, high = about.form_range or (about.min or 0.0, about.max or 1e9)
    field = FloatSpinBox(min=low, max=high)
    adjust_number(field.native, about.decimals, about.suffix)
    field.native.setSpecialValueText(about.text)
    _set_value(field, about, default)
    if about.step is not None:
        field.step = about.step
    return field
