"""Fixtures of the window's tests."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from brightness import PIXEL_NM, BrightnessClassifier, blobs, offer
from napari._qt.qt_main_window import _QtMainWindow
from napari._vispy.utils.gl import get_gl_extensions
from napari.utils.notifications import NotificationSeverity, notification_manager
from napari_caches import add_caches, drop_needless_work, release_closed_windows
from qtpy import PYSIDE6
from qtpy.QtCore import QSettings, Qt
from qtpy.QtWidgets import QApplication

MAX_LEFT = 1_000_000
"""Number of objects that tests may leave until they are collected."""
_n_collected = 0


@pytest.fixture(scope="session")
def qapp_cls(pytestconfig):
    """With ``--event-loop``, every turn of the event loop is timed, which takes a tenth of a test.

    Not with PySide6, which passes widgets that are already deleted to a method in Python.
    """
    from slow_turns import Watched

    return Watched if pytestconfig.getoption("event_loop") and not PYSIDE6 else QApplication


@pytest.fixture(autouse=True, scope="session")
def napari_caches():
    """Hundreds of viewers come and go in this process."""
    with pytest.MonkeyPatch.context() as patch:
        add_caches(patch)
        drop_needless_work(patch)
        yield


@pytest.fixture(autouse=True, scope="session")
def menu_bar_not_toggled():
    """napari passes every event through Python, for a menu bar that hides itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(_QtMainWindow, "eventFilter")
        yield


@pytest.fixture(autouse=True, scope="module")
def earlier_modules_collected():
    """Free what the tests of other files have left, once it is much: a search takes a second."""
    global _n_collected
    if gc.get_freeze_count() > _n_collected + MAX_LEFT:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        _n_collected = gc.get_freeze_count()


@pytest.fixture(autouse=True)
def earlier_objects_frozen(earlier_modules_collected):
    """Let the collector pass over what earlier tests have left, such as imported modules."""
    gc.freeze()


@pytest.fixture(autouse=True)
def closed_windows_released(qapp):
    """The collector would take seconds for what napari keeps of the windows of all tests."""
    yield
    release_closed_windows(qapp)


@pytest.fixture(autouse=True, scope="session")
def graphics_known(qapp):
    """napari asks the graphics card once, at the first image: here, before there is any window.

    In windows that are not painted, the context of the present canvas may not be made yet.
    """
    get_gl_extensions()


@pytest.fixture(autouse=True)
def no_settings(tmp_path):
    """Forms start with their defaults, and nobody's settings change."""
    kind, scope = QSettings.Format.IniFormat, QSettings.Scope.UserScope
    before = Path(QSettings(kind, scope, "napari-atomicity", "window").fileName()).parents[1]
    QSettings.setPath(kind, scope, str(tmp_path))
    yield
    QSettings.setPath(kind, scope, str(before))


@pytest.fixture
def model(monkeypatch):
    """Every model that is asked for is the one that needs no weights."""
    return offer(monkeypatch, BrightnessClassifier())


@pytest.fixture
def errors(monkeypatch):
    """Messages that are shown as errors, in a list instead of on the screen."""
    shown = []
    show = notification_manager.dispatch

    def dispatch(notification):
        if notification.severity == NotificationSeverity.ERROR:
            shown.append(notification.message)
        else:
            show(notification)

    monkeypatch.setattr(notification_manager, "dispatch", dispatch)
    return shown


@pytest.fixture
def viewer(make_napari_viewer):
    """A real viewer, which must not leak; its docks are visible, but nothing is drawn on a screen.

    Docks follow changes only while they are visible.
    """
    viewer = make_napari_viewer()
    window = viewer.window._qt_window
    window.setAttribute(Qt.WidgetAttribute.WA_DontShowOnScreen)
    window.setUpdatesEnabled(False)
    window.show()
    return viewer


@pytest.fixture
def image_layer(viewer):
    """A calibrated image in the viewer."""
    return viewer.add_image(blobs(), name="field", scale=(PIXEL_NM, PIXEL_NM), units=("nm", "nm"))


@pytest.fixture
def settle(qtbot):
    """Wait until no task of a viewer's session is under way and all is shown."""
    from napari_atomicity.gui.viewer.binding import binding_of

    def wait(viewer, timeout_ms: int = 20_000) -> None:
        binding = binding_of(viewer)
        qtbot.waitUntil(lambda: binding.settled, timeout=timeout_ms)

    return wait


@pytest.fixture
def browse(viewer, model):
    """The dock Browse in the window; its project is left at the end."""
    from napari_atomicity.gui.docks.browse.dock import Browse

    dock = Browse(viewer)
    viewer.window.add_dock_widget(dock, name="Browse", area="left")
    yield dock
    dock.projects.leave(stops_work=True)
