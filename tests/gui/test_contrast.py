"""All text of the docks is readable in both themes: a contrast of 4.5, computed from the style."""

from __future__ import annotations

import pytest
from every_dock import all_docks
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QAbstractButton, QAbstractItemView, QComboBox, QLabel, QLineEdit, QWidget
from synthetic import made_up

from napari_atomicity.gui.controls.drawing import MIN_CONTRAST, contrast, faint, readable
from napari_atomicity.gui.panels.dock_windows import show_dock
from napari_atomicity.gui.panels.workbench_bar import workbench_bar
from napari_atomicity.gui.viewer.binding import state_of
from napari_atomicity.state.window_state import Status, TaskState

ROLES = QPalette.ColorRole
PAIRS = {
    QLabel: [(ROLES.WindowText, ROLES.Window)],
    QAbstractButton: [(ROLES.ButtonText, ROLES.Button)],
    QComboBox: [(ROLES.ButtonText, ROLES.Button)],
    QLineEdit: [(ROLES.Text, ROLES.Base), (ROLES.PlaceholderText, ROLES.Base)],
    QAbstractItemView: [(ROLES.Text, ROLES.Base), (ROLES.HighlightedText, ROLES.Highlight)],
}


def over(colour: QColor, background: QColor) -> QColor:
    """Return what a translucent colour looks like on a background."""
    a = colour.alphaF()
    pairs = zip(colour.getRgbF()[:3], background.getRgbF()[:3], strict=True)
    return QColor.fromRgbF(*(a * c + (1 - a) * b for c, b in pairs))


def poor_texts(dock: QWidget) -> list[tuple[str, str, float]]:
    found = []
    for kind, pairs in PAIRS.items():
        for widget in dock.findChildren(kind):
            palette = widget.palette()
            groups = [QPalette.ColorGroup.Active, QPalette.ColorGroup.Disabled]
            for group, (ink, paper) in ((g, p) for g in groups for p in pairs):
                window = over(palette.color(ROLES.Window), dock.palette().color(ROLES.Window))
                background = over(palette.color(group, paper), window)
                ratio = contrast(over(palette.color(group, ink), background), background)
                shown = ink != ROLES.PlaceholderText or widget.placeholderText()
                if shown and ratio < MIN_CONTRAST:
                    found.append((kind.__name__, f"{group.name} {ink.name}", round(ratio, 2)))
    return found


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_all_text_has_enough_contrast(viewer, model, settle, theme):
    viewer.theme = theme
    state_of(viewer).clusters.set_analysis(made_up(20))
    poor = set()
    state_of(viewer).status = Status(TaskState.FAILED, "The file cannot be read")
    for name in [*(kind.__name__ for kind in all_docks()), ""]:
        dock = show_dock(viewer, name) if name else workbench_bar(viewer)
        settle(viewer)
        poor.update((name, *text) for text in poor_texts(dock))
        palette = dock.palette()
        ink, paper = palette.color(ROLES.WindowText), palette.color(ROLES.Window)
        assert contrast(ink, paper) >= MIN_CONTRAST
        # Labels of axes are painted with 80 % of the ink.
        ink.setAlphaF(0.8)
        assert contrast(over(ink, paper), paper) >= MIN_CONTRAST
    assert not poor


@pytest.mark.parametrize("background", ["#2e333e", "#dddad8", "#808080", "#424a54"])
def test_colours_are_made_readable(background):
    paper = QColor(background)
    for colour in ("#d55e00", "#0072b2", "#f0e442", "#8c8c8c", background):
        assert contrast(readable(QColor(colour), paper), paper) >= min(MIN_CONTRAST, 4.5)
        assert contrast(faint(QColor(colour), paper), paper) >= MIN_CONTRAST
