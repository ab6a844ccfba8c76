"""What napari and vispy compute again for each viewer, kept from one test to the next.

Hundreds of viewers come and go in a test process. Each result is what napari computes.
"""

from __future__ import annotations

import functools
from ctypes import string_at
from types import FunctionType, SimpleNamespace
from typing import Any

import freetype
import numpy as np
from app_model.backends.qt import QMenuItemAction
from napari._qt.qt_viewer import QtViewer
from napari._qt.widgets.qt_viewer_buttons import QtViewerPushButton
from napari._qt.widgets.qt_welcome import QtWelcomeWidget
from napari._vispy import canvas
from napari.settings import NapariSettings
from napari.utils import theme
from napari.utils.events import EventEmitter
from npe2 import PluginManager, PluginManifest
from pytest import MonkeyPatch
from qtpy.QtWidgets import QApplication
from vispy.gloo import Program
from vispy.visuals.shaders.function import Function
from vispy.visuals.text.text import SDFRendererCPU


def add_caches(patch: MonkeyPatch) -> None:
    """Replace functions of napari and vispy by those that compute each result once."""
    discover = PluginManifest.discover
    read_manifests = functools.cache(lambda *args, **options: list(discover(*args, **options)))
    patch.setattr(PluginManifest, "discover", read_manifests)
    patch.setattr(EventEmitter, "_check_signature", staticmethod(_signature_checker()))
    patch.setattr(theme, "template", functools.cache(theme.template))
    patch.setattr(freetype.Bitmap, "buffer", property(_read_bitmap))
    patch.setattr(Program, "_parse_variables_from_code", _shader_parser())
    clean = functools.cache(functools.partial(Function._clean_code, None))
    patch.setattr(Function, "_clean_code", lambda _, code: clean(code))
    patch.setattr(SDFRendererCPU, "render_to_texture", _glyph_renderer())


def drop_needless_work(patch: MonkeyPatch) -> None:
    """Leave out what napari does at each event, although nothing has changed or is visible."""
    # All settings are written whenever one changes, several times per viewer.
    patch.setattr(NapariSettings, "_maybe_save", lambda settings: None)
    # Every shortcut that is bound updates the texts of the welcome screen.
    refresh_always = QtWelcomeWidget.refresh

    def refresh(widget: QtWelcomeWidget, _event: Any = None) -> None:
        if widget.isVisible():
            refresh_always(widget)

    patch.setattr(QtWelcomeWidget, "refresh", refresh)
    # Each selection applies the style of the buttons for new layers again.
    change = QtViewerPushButton._change_selection_state

    def change_state(button: QtViewerPushButton, state: str) -> None:
        if button.property("creation_state") != str(state):
            change(button, state)

    patch.setattr(QtViewerPushButton, "_change_selection_state", change_state)
    # For drivers of Windows, all garbage is collected whenever layers were removed.
    patch.setattr(canvas, "gc", SimpleNamespace(collect=lambda: 0))
    # The viewer gets the style sheet that its window has already passed on to it.
    patch.setattr(QtViewer, "setStyleSheet", lambda viewer, sheet: None)


def release_closed_windows(application: QApplication) -> None:
    """Remove the references by which napari keeps each closed window and thousands of objects."""
    for action in application.findChildren(QMenuItemAction):
        action.deleteLater()
    for context in PluginManager.instance()._contexts.values():
        context._disposables.clear()
    for each in theme._themes.values():
        each.events.canvas.disconnect()


def _signature_checker() -> Any:
    check = EventEmitter._check_signature
    known: dict[tuple, bool] = {}

    def check_once(callback: Any) -> bool:
        function = getattr(callback, "__func__", callback)  # of a method
        if isinstance(function, FunctionType) and not hasattr(function, "__wrapped__"):
            key = (function.__code__, function is callback)
        elif isinstance(callback, EventEmitter):
            key = (type(callback),)
        else:
            return check(callback)
        if key not in known:
            known[key] = check(callback)
        return known[key]

    return check_once


def _read_bitmap(bitmap: freetype.Bitmap) -> list[int]:
    """Return the pixels of a glyph, which freetype reads one by one."""
    return list(string_at(bitmap._FT_Bitmap.buffer, bitmap.rows * bitmap.pitch))


def _shader_parser() -> Any:
    parse = Program._parse_variables_from_code
    known: dict[tuple, dict] = {}

    def parse_once(program: Program, update_variables: bool = True) -> None:
        code = tuple(shader.code for shader in program._shaders)
        if code not in known:
            parse(program, update_variables=False)
            known[code] = program._code_variables
        program._code_variables = dict(known[code])
        if update_variables:
            program._process_pending_variables()

    return parse_once


class _Bitmap:
    """In place of a texture: keeps what is written."""

    pixels: np.ndarray

    def __setitem__(self, _region: Any, pixels: np.ndarray) -> None:
        self.pixels = pixels


def _glyph_renderer() -> Any:
    render = SDFRendererCPU.render_to_texture
    known: dict[tuple, np.ndarray] = {}

    def render_once(renderer: Any, data: np.ndarray, texture: Any, offset: Any, size: Any) -> None:
        key = (data.tobytes(), data.shape, size)
        if key not in known:
            bitmap = _Bitmap()
            render(renderer, data, bitmap, (0, 0), size)
            known[key] = bitmap.pixels
        (x, y), (width, height) = offset, size
        texture[y : y + height, x : x + width, :] = known[key]

    return render_once
