"""Questions to the user."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, ClassVar

from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.utils import notifications
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QThread, QTimer
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QLineEdit,
    QMainWindow,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from ...core.errors import AtomicityError, UnknownPixelSizeError
from .forms import wrapped_label

# ---- errors of what a user does, shown as messages
ENTER_PIXEL_SIZE = "Enter it in the dock Atoms or Analyse, which have a field for it"


def format_advice(error: AtomicityError) -> str:
    """Format an error with what to do in the window, not on the command line."""
    if isinstance(error, UnknownPixelSizeError):
        error = UnknownPixelSizeError(error.what, error.path, ENTER_PIXEL_SIZE)
    return str(error)


def attempt(action: Callable[[], object], on_refused: Callable[[], object] | None = None) -> bool:
    """Carry out an action and return whether it is accepted; show the error if not."""
    try:
        action()
    except AtomicityError as error:
        show_error(format_advice(error))
        if on_refused is not None:
            on_refused()
        return False
    return True


def front_window() -> QWidget | None:
    """Return the window that a question belongs to: without one it has another theme."""
    windows = (w for w in QApplication.topLevelWidgets() if isinstance(w, QMainWindow))
    return QApplication.activeWindow() or next((w for w in windows if w.isVisible()), None)


def confirm(parent: QWidget | None, title: str, text: str) -> bool:
    """Ask a question that is answered with Yes or No; No is the default."""
    buttons = QMessageBox.StandardButton
    within = parent or front_window()
    answer = QMessageBox.question(within, title, text, buttons.Yes | buttons.No, buttons.No)
    return bool(answer == buttons.Yes)


_UPDATE_MS = 200
"""Interval at which the text of an open question is updated."""


@contextmanager
def changing_text(text: Callable[[], str]) -> Iterator[str]:
    """Return the text of a question, which is kept up to date while the question is open."""
    shown = text()

    def update() -> None:
        nonlocal shown
        box, now = QApplication.activeModalWidget(), text()
        if isinstance(box, QMessageBox) and box.text() == shown != now:
            box.setText(now)
            shown = now

    timer = QTimer()
    timer.timeout.connect(update)
    timer.start(_UPDATE_MS)
    try:
        yield shown
    finally:
        timer.stop()


def choose_answer(parent: QWidget, title: str, text: str, choices: Mapping[str, str]) -> str:
    """Ask a question with a button for each answer, and Cancel."""
    cancel = QMessageBox.StandardButton.Cancel
    box = QMessageBox(QMessageBox.Icon.Question, title, text, cancel, parent)
    role = QMessageBox.ButtonRole.AcceptRole
    buttons = {box.addButton(words, role): answer for answer, words in choices.items()}
    box.setDefaultButton(next(iter(buttons)))
    box.exec()
    return buttons.get(box.clickedButton(), "")


class TextQuestion(QDialog):
    """Asks for a text; one that is refused stays, with the reason below the field."""

    def __init__(
        self, parent: QWidget, title: str, question: str, text: str, take: Callable[[str], object]
    ) -> None:
        super().__init__(parent)
        self._take = take
        self.setWindowTitle(title)
        label = QLabel(question)
        self.field = QLineEdit(text)
        label.setBuddy(self.field)
        self.reason = wrapped_label("Why the text is refused", plain=True, visible=False)
        button = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(button.Ok | button.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self.field.textEdited.connect(self.reason.hide)
        layout = QVBoxLayout(self)
        for widget in (label, self.field, self.reason, self.buttons):
            layout.addWidget(widget)
        self.field.selectAll()

    def accept(self) -> None:
        """Take the text and close, or say why it is refused."""
        try:
            self._take(self.field.text())
        except AtomicityError as error:
            self.reason.setText(f"⚠ {error}")
            self.reason.show()
            self.field.setFocus()
        else:
            super().accept()


# ---- messages that go by themselves
SHOWN_MS, WARNING_SHOWN_MS = 15_000, 60_000


def show_info(message: str) -> None:
    """Show a message for information."""
    _show(notifications.show_info, message, SHOWN_MS)


def show_warning(message: str) -> None:
    """Show a warning."""
    _show(notifications.show_warning, message, WARNING_SHOWN_MS)


def show_error(message: str) -> None:
    """Show an error."""
    _show(notifications.show_error, message, WARNING_SHOWN_MS)


def _show(show: Callable[[str], None], message: str, shown_ms: int) -> None:
    """Show a whole message, and close it after a time.

    napari cuts long messages until they are expanded. It closes its messages after some seconds,
    but not if another one follows, nor if its window is not the active one: these would stay over
    the image.
    """
    before = set(NapariQtNotification._instances)
    show(message)
    for shown in set(NapariQtNotification._instances) - before:
        if shown.sizeHint().height() > shown.height():
            shown.expand()
        QTimer.singleShot(shown_ms, partial(_close, shown, shown_ms))


@cache
def keep_focus_when_messages_close() -> None:
    """Leave the keyboard focus where it is when a message closes, of this package or of others.

    napari gives it to the canvas. Whoever was typing in a field would go on with keys that label or
    delete clusters.
    """
    notifications.notification_manager.notification_ready.connect(_on_message)


def _on_message(_: object) -> None:
    application = QApplication.instance()
    if application is not None and QThread.currentThread() is application.thread():
        QTimer.singleShot(0, _keep_focus_of_all)  # this function may be called before napari's


def _keep_focus_of_all() -> None:
    for shown in NapariQtNotification._instances:
        if "close" not in vars(shown):
            shown.close = partial(_close_in_place, weakref.ref(shown))  # or it would keep itself


def _close_in_place(reference: weakref.ref[NapariQtNotification]) -> None:
    """Close a message whose parent, the canvas, passes the focus on to where it is already."""
    shown = reference()
    if shown is None:
        return
    close = partial(type(shown).close, shown)
    canvas, focus = shown.parent(), QApplication.focusWidget()
    if canvas is None or focus in (None, canvas) or shown.isAncestorOf(focus):
        close()
    else:
        before = canvas.focusProxy()
        canvas.setFocusProxy(focus)
        close()
        canvas.setFocusProxy(before)


def _close(shown: NapariQtNotification, again_ms: int) -> None:
    """Close a message unless it is being read."""
    if not isalive(shown):
        return
    if shown.rect().contains(shown.mapFromGlobal(QCursor.pos())):
        QTimer.singleShot(again_ms, partial(_close, shown, again_ms))
    else:
        shown.close()


# ---- closing the window: one question, and the project is left before its widgets are deleted
class CloseFilter(QObject):
    """Asks a person who closes a window or quits napari; programs close without a question."""

    _of_all_windows: ClassVar[weakref.WeakSet[CloseFilter]] = weakref.WeakSet()

    def __init__(
        self,
        window: Any,
        question: Callable[[], str],
        may_close: Callable[[], bool],  # ``may_close() -> bool``: asks it
        close_down: Callable[[], None],
    ) -> None:
        super().__init__(window)
        self._window = window
        self._question, self._may_close, self._close_down = question, may_close, close_down
        self._closing = False
        self._of_all_windows.add(self)
        # The menu and its keys call this method of the window, whose close event then looks as if
        # a program closed the window.
        self._close = window.close
        window.close = self._close_by_menu

    def _close_by_menu(self, quit_app: bool = False, confirm_need: bool = False) -> Any:
        """Ask, then close the window as napari does; to quit, ask for every window."""
        asking = [self] if quit_app or confirm_need else []
        if quit_app:
            asking += [one for one in self._of_all_windows if one is not self and one._is_shown()]
        for one in asking:
            if one._question():
                if not one._may_close():
                    return None
                confirm_need = False
        return self._close(quit_app=quit_app, confirm_need=confirm_need)

    def _is_shown(self) -> bool:
        return isalive(self) and self._window.isVisible()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.Hide and self._closing and not event.spontaneous():
            self._close_down()
        elif event.type() == QEvent.Type.Close:
            self._closing = True
            if event.spontaneous() and self._question():
                # Closed by the program afterwards, the window asks no question of its own.
                event.ignore()
                self._closing = False
                if self._may_close():
                    QTimer.singleShot(0, self._close)
                return True
        return False
