"""Plain controls for forms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import QEvent, QLocale, QObject, QSize, Qt
from qtpy.QtGui import QKeyEvent, QMouseEvent, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QAbstractSlider,
    QBoxLayout,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)


# ---- A part of a dock that can be folded away, and whose content may grow while it is open
class CollapsibleSection(QWidget):
    """A title that shows and hides what is below it.

    The QCollapsible of superqt keeps the height that its content had when it was opened, and
    squeezes tables that are filled later.
    """

    def __init__(self, title: str, content: QWidget, *, opened: bool = False) -> None:
        super().__init__()
        self.content = content
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.button.setAccessibleName(title)
        self.button.setToolTip(f"Show or hide: {title.lower()}.")
        self.button.toggled.connect(self._on_toggled)
        fill_column(self, self.button, content)
        self.button.setChecked(opened)
        self._on_toggled(opened)

    def _on_toggled(self, open_: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if open_ else Qt.ArrowType.RightArrow
        self.button.setArrowType(arrow)
        self.content.setVisible(open_)


def in_scroll_area(content: QWidget, owner: QWidget) -> None:
    """Put the content of a dock into a scroll area, so that it fits a small screen."""
    fill_column(owner, scrolling(content))


def scrolling(content: QWidget) -> QScrollArea:
    """Return a scroll area that is as wide as its parent and scrolls vertically."""
    return _VerticalScrollArea(content)


class _VerticalScrollArea(QScrollArea):
    """A scroll area for a column of controls."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self._announced = 0  # minimum width
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # Tab goes to its controls
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return a size in which the scroll bar covers nothing."""
        bar, content = self.verticalScrollBar(), self.widget()
        width = content.minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Announce that the content has become wider, which Qt keeps from the dock."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            width = self.minimumSizeHint().width()
            if width != self._announced:
                self._announced = width
                self.updateGeometry()
        return bool(super().eventFilter(watched, event))


class LabelArea(_VerticalScrollArea):
    """A label that scrolls if its text has more than some lines, so that no dock grows with it."""

    def __init__(self, label: QLabel, lines: int) -> None:
        super().__init__(label)
        self._label, self._lines = label, lines

    def show_text(self, text: str) -> None:
        """Show a text from its beginning; nothing if it is empty."""
        if text != self._label.text():
            self._label.setText(text)
            self.verticalScrollBar().setValue(0)
        self._fit()
        self.setVisible(bool(text))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        needed = self._label.heightForWidth(self.width())  # -1 without a text
        most = self._lines * self._label.fontMetrics().lineSpacing()
        policy = Qt.ScrollBarPolicy
        # Qt would show a bar for what the label needed at another width.
        bar = policy.ScrollBarAlwaysOff if needed <= most else policy.ScrollBarAlwaysOn
        self.setVerticalScrollBarPolicy(bar)
        self.setFixedHeight(max(0, min(needed, most)))


class _MainButton(QPushButton):
    """A button for which a double click is one click: what one starts, two would end."""

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Ignore the second press."""


def main_button(text: str, owner: QWidget) -> QPushButton:
    """Make the large button for the main action of a dock."""
    button = _MainButton(text)
    font = button.font()
    font.setBold(True)
    font.setPointSizeF(font.pointSizeF() * 1.25)
    button.setFont(font)
    button.setMinimumHeight(int(2.2 * owner.fontMetrics().height()))
    return button


def folded(*contents: QWidget | QLayout, scrolls: bool = False) -> CollapsibleSection:
    """Return widgets and layouts in a closed section "Settings", which may scroll by itself."""
    inner = QWidget()
    fill_column(inner, *contents)
    return CollapsibleSection("Settings", scrolling(inner) if scrolls else inner)


def labelled(form: QFormLayout, text: str, field: QWidget, tooltip: str, row: int = -1) -> None:
    """Add a row with tooltip and accessible name to a form."""
    label = QLabel(text)
    label.setBuddy(field)
    label.setToolTip(tooltip)
    field.setToolTip(tooltip)
    field.setAccessibleName(text)
    form.insertRow(row, label, field)


STRETCH = None
"""Place in a row that takes the width that is left."""


Part = QWidget | QLayout | tuple[QWidget | QLayout, int] | None
"""What is laid out: a widget or layout, alone or with its stretch, or `STRETCH`."""


def new_row(*parts: Part) -> QHBoxLayout:
    """Return a row of widgets and layouts, each with its stretch unless this is 0."""
    row = QHBoxLayout()
    _add_parts(row, parts)
    return row


def fill_row(owner: QWidget, *parts: Part) -> None:
    """Lay out a widget as a row without margins."""
    row = QHBoxLayout(owner)
    row.setContentsMargins(0, 0, 0, 0)
    _add_parts(row, parts)


def fill_column(owner: QWidget, *parts: Part) -> None:
    """Lay out a widget as a column without margins."""
    column = QVBoxLayout(owner)
    column.setContentsMargins(0, 0, 0, 0)
    _add_parts(column, parts)


def _add_parts(layout: QBoxLayout, parts: Iterable[Part]) -> None:
    for part in parts:
        item, stretch = part if isinstance(part, tuple) else (part, 0)
        if item is STRETCH:
            layout.addStretch(1)
        elif isinstance(item, QLayout):
            layout.addLayout(item, stretch)
        else:
            layout.addWidget(item, stretch)


def new_form() -> QFormLayout:
    """Return an empty form without margins."""
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
    return form


class _WheelFilter(QObject):
    """Leaves the wheel to the form around a control: scrolling must not change a value.

    Nor must PageUp and PageDown, which show another image elsewhere, in a field or a closed list.
    """

    def eventFilter(self, control: QObject, event: QEvent) -> bool:  # noqa: N802
        pages = (
            event.type() == QEvent.Type.KeyPress
            and not isinstance(control, QAbstractSlider)
            and as_key_event(event).key() in (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
        )
        if not (pages or event.type() == QEvent.Type.Wheel):
            return False
        event.ignore()
        return True


def as_key_event(event: QEvent) -> Any:
    """Return an event of a key as a `QKeyEvent`.

    vispy keeps the last mouse event, whose address Qt may use again. PyQt then returns that
    `QMouseEvent` for the key, and the key would be lost.
    """
    if isinstance(event, QKeyEvent):
        return event
    from qtpy import sip

    address: Any = sip.unwrapinstance(event)  # type: ignore[func-returns-value]
    return sip.wrapinstance(address, QKeyEvent)


class _DecimalPoint(QObject):
    """Lets a comma and a point both be the decimal point of a field.

    Qt takes the other one as a separator of groups, so that 0,05 became 5.
    """

    def eventFilter(self, box: QObject, event: QEvent) -> bool:  # noqa: N802
        if event.type() != QEvent.Type.KeyPress or as_key_event(event).text() not in (",", "."):
            return False
        assert isinstance(box, QDoubleSpinBox)
        box.lineEdit().insert(box.locale().decimalPoint())
        return True


class _LetterFilter(QObject):
    """Ignores letters and digits, with which Qt would look for a row, so that the window acts."""

    def eventFilter(self, view: QObject, event: QEvent) -> bool:  # noqa: N802
        if event.type() != QEvent.Type.KeyPress:
            return False
        key, modifiers = as_key_event(event), Qt.KeyboardModifier
        of_text = modifiers.ShiftModifier | modifiers.KeypadModifier
        text = "" if key.modifiers() & ~of_text else key.text().strip()
        if text.isprintable() and text:
            event.ignore()
            return True
        return False


def leave_letters(view: QAbstractItemView) -> None:
    """Let a list or table leave letters and digits to the shortcuts of the window."""
    view.installEventFilter(_LetterFilter(view))


def ignore_wheel(control: QWidget) -> None:
    """Let a control ignore the wheel."""
    control.installEventFilter(_WheelFilter(control))


def adjust_combo(combo: QComboBox) -> None:
    """Let a combo box ignore the wheel, and not grow with long entries."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    combo.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    ignore_wheel(combo)


def adjust_number(box: QDoubleSpinBox, decimals: int, suffix: str) -> None:
    """Let a field for a real number ignore the wheel, and set what it shows."""
    box.setDecimals(decimals)
    locale = box.locale()
    locale.setNumberOptions(QLocale.NumberOption.RejectGroupSeparator)  # as in pasted text
    box.setLocale(locale)
    if decimals:
        box.installEventFilter(_DecimalPoint(box))
    box.setSingleStep(10.0 ** (1 - decimals))
    box.setSuffix(suffix)
    box.setKeyboardTracking(False)
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    ignore_wheel(box)


class ComboBox(QComboBox):
    """A combo box that ignores the wheel and does not grow with long entries."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        adjust_combo(self)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Leave keys such as Ctrl+Z to the window: Qt would look for an entry with Z."""
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            event.ignore()
        else:
            super().keyPressEvent(event)


class Slider(QSlider):
    """A horizontal slider that ignores the wheel."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        ignore_wheel(self)


def spin_box(low: float, high: float, value: float, decimals: int, suffix: str) -> QDoubleSpinBox:
    """Make a field for a real number."""
    box = QDoubleSpinBox()
    adjust_number(box, decimals, suffix)
    box.setRange(low, high)
    box.setValue(value)
    return box


_MAX_WORD = 24
"""Characters of the longest word that a text keeps room for."""


class _WrappedLabel(QLabel):
    """A label that is never lower than its text needs at its width: a low dock cuts no text.

    It keeps room for some lines, also without a text and while it is hidden, so that controls do
    not move under the mouse when a message appears.
    """

    def __init__(self, lines: int = 0) -> None:
        super().__init__()
        self._lines = lines
        if lines:
            keep_room(self)
            self._fit()

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        # A long word, such as the name of a file, makes no dock wider.
        hint = super().minimumSizeHint()
        return QSize(
            min(hint.width(), _MAX_WORD * self.fontMetrics().averageCharWidth()), hint.height()
        )

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._fit()

    def setText(self, text: str) -> None:  # noqa: N802
        super().setText(text)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit()

    def _fit(self) -> None:
        self.setMinimumHeight(0)  # Qt takes it as the least height for a width
        needed = self.heightForWidth(self.width()) if self.text() else 0
        padding = self.height() - self.contentsRect().height()
        # Rounded as in a text: each of its lines may be a pixel higher than the line spacing.
        kept = self.fontMetrics().size(0, "\n".join(["x"] * self._lines)).height() + padding
        self.setMinimumHeight(max(needed, kept if self._lines else 0))


def wrapped_label(
    accessible_name: str = "",  # what the text is about, for screen readers
    *,
    plain: bool = False,  # whether the text is not interpreted as markup, as for names of files
    bold: bool = False,
    visible: bool = True,
    lines: int = 0,  # lines for which the label keeps room, for messages above controls
) -> QLabel:
    """Make an empty label whose text wraps."""
    label = _WrappedLabel(lines)
    label.setWordWrap(True)
    label.setAccessibleName(accessible_name)
    if plain:
        label.setTextFormat(Qt.TextFormat.PlainText)
    if bold:
        font = label.font()
        font.setBold(True)
        label.setFont(font)
    if not visible:
        label.hide()
    return label


def keep_room(*widgets: QWidget) -> None:
    """Keep the room of widgets while they are hidden, so that others stay where they are."""
    for widget in widgets:
        policy = widget.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        widget.setSizePolicy(policy)


def selectable_label(
    accessible_name: str = "", *, plain: bool = False, bold: bool = False, lines: int = 0
) -> QLabel:
    """Make an empty label whose text can be selected and copied; see `wrapped_label`."""
    label = wrapped_label(accessible_name, plain=plain, bold=bold, lines=lines)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
