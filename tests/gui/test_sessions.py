"""Acquisition sessions and known samples in Browse: shown, entered with mouse and keys, undone."""
# ruff: noqa: F401, F811  (fixtures of test_browse)

from __future__ import annotations

import pytest
from mouse import LEFT
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtGui import QContextMenuEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QInputDialog, QLabel
from test_browse import click_row, morning, opened
from waiting import updated

from napari_atomicity.core.acquisition_session import SessionEntry
from napari_atomicity.gui.controls.questions import TextQuestion
from napari_atomicity.gui.viewer.binding import binding_of

SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


def row_sessions(dock) -> dict[str, str]:
    updated(dock)
    return {row.name: row.session for row in dock.model.rows}


def click(dock, row: int, modifier) -> None:
    place = dock.list.visualRect(dock.model.index(row)).center()
    QTest.mouseClick(dock.list.viewport(), LEFT, modifier, place)


def open_menu(dock, row: int | None = None):
    """Open the menu by the right mouse button on a row, or by the menu key."""
    if row is None:
        reason, place = QContextMenuEvent.Reason.Keyboard, QPoint(5, 5)
    else:
        reason = QContextMenuEvent.Reason.Mouse
        place = dock.list.visualRect(dock.model.index(row)).center()
        QTest.mouseClick(
            dock.list.viewport(), Qt.MouseButton.RightButton, Qt.KeyboardModifier.NoModifier, place
        )
    event = QContextMenuEvent(reason, place, dock.list.viewport().mapToGlobal(place))
    QApplication.sendEvent(dock.list.viewport(), event)
    assert dock.image_menu.isVisible()
    return dock.image_menu


def choose(menu, action) -> None:
    """Click an entry of a menu that is open."""
    assert action.isEnabled(), action.text()
    QTest.mouseClick(menu, LEFT, pos=menu.actionGeometry(action).center())


def type_known(*texts: str) -> list[tuple[str, str, str]]:
    """Type texts into the next question for a known sample, press OK for each, then cancel.

    In the list: the question, the text that was there, and why it was refused.
    """
    asked: list[tuple[str, str, str]] = []
    timer = QTimer(QApplication.instance(), interval=20)

    def type_all() -> None:
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, TextQuestion):
            return  # not open yet
        timer.stop()
        for text in texts:
            refused = dialog.reason.text() if dialog.reason.isVisible() else ""
            asked.append((dialog.findChild(QLabel).text(), dialog.field.text(), refused))
            dialog.field.selectAll()
            QTest.keyClick(dialog.field, Qt.Key.Key_Delete)
            QTest.keyClicks(dialog.field, text)
            QTest.keyClick(dialog.field, Qt.Key.Key_Return)
        QTest.keyClick(dialog, Qt.Key.Key_Escape)

    timer.timeout.connect(type_all)
    timer.start()
    return asked


def answer(monkeypatch, text: str, wanted: bool = True) -> list[tuple]:
    """Answer the next questions for a text; what was asked is in the list."""
    asked: list[tuple] = []

    def get_text(*args, **options):
        asked.append((*args[1:], options.get("text")))
        return text, wanted

    monkeypatch.setattr(QInputDialog, "getText", get_text)
    return asked


def test_images_of_a_folder_are_a_session(opened):
    assert set(row_sessions(opened).values()) == {"session morning"}
    assert "session morning" in opened.model.rows[0].tooltip
    text = opened.model.data(opened.model.index(0), Qt.ItemDataRole.AccessibleTextRole)
    assert text.endswith("session morning")


def test_the_tooltip_of_an_image_has_all_lines_in_full(opened):
    """A narrow list cuts the ends of the lines."""
    opened.state.sessions.group_sample(["a.tif"], "x" * 200)
    row = updated(opened).model.rows[0]
    assert row.name and row.size and "x" * 200 in row.session
    for line in (row.name, row.size, row.session, row.words):
        assert line in row.tooltip.splitlines()


def test_after_the_menu_of_another_row_the_shown_image_is_selected(opened, viewer, settle, qtbot):
    click_row(opened, 0)
    settle(viewer)
    updated(opened)
    menu = open_menu(opened, row=1)
    assert menu.selected() == ["b.tif"]
    QTest.keyClick(menu, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: menu.selected() == ["a.tif"])
    assert opened.list.currentIndex().row() == 0 and opened.state.current == "a.tif"
    menu = open_menu(opened, row=1)
    choose(menu, menu.split_action)  # is for the row under the mouse
    assert row_sessions(opened)["b.tif"] == "session morning (2)"
    qtbot.waitUntil(lambda: menu.selected() == ["a.tif"])


def test_after_the_menu_of_another_row_the_list_stays_where_it_was(opened, viewer, settle, qtbot):
    opened.list.setFixedHeight(60)  # the rows do not all fit
    settle(viewer)
    last = opened.model.rowCount() - 1
    assert opened.state.current == opened.model.image_at(0)
    bar = opened.list.verticalScrollBar()
    bar.setValue(bar.maximum())
    place = bar.value()
    menu = open_menu(opened, row=last)
    QTest.keyClick(menu, Qt.Key.Key_Escape)
    first = opened.model.index(0)
    qtbot.waitUntil(lambda: opened.list.selectionModel().isSelected(first))
    assert place > 0 and bar.value() == place


def test_images_are_grouped_split_joined_and_derived(
    opened,
    viewer,
    settle,
    monkeypatch,
):
    state = opened.state
    click_row(opened, 0)
    click(opened, 1, CONTROL)
    settle(viewer)
    updated(opened)
    assert opened.image_menu.selected() == ["a.tif", "b.tif"]
    asked = answer(monkeypatch, "evening")
    menu = open_menu(opened, row=1)
    assert not menu.join_menu.isEnabled() and not menu.derive_action.isEnabled()
    choose(menu, menu.group_action)
    assert asked == [("Group into a session", "Name of the session", "morning (2)")]
    sessions = row_sessions(opened)
    assert [sessions[i] for i in state.images] == [
        "session evening", "session evening", "session morning", "session morning"
    ]  # fmt: skip
    assert opened.image_menu.selected() == ["a.tif", "b.tif"]  # and stays so
    # Split off, on a row that was not selected.
    menu = open_menu(opened, row=3)
    assert opened.image_menu.selected() == ["c.tif"]
    choose(menu, menu.split_action)
    assert row_sessions(opened)["c.tif"] == "session morning (2)"
    menu = open_menu(opened, row=3)
    assert not menu.split_action.isEnabled()
    join = {action.text(): action for action in menu.join_menu.actions()}
    assert set(join) == {"evening", "morning"}
    choose(menu, menu.join_menu.menuAction())
    choose(menu.join_menu, join["evening"])
    assert row_sessions(opened)["c.tif"] == "session evening"
    menu = open_menu(opened, row=3)
    choose(menu, menu.derive_action)
    assert row_sessions(opened)["c.tif"] == "session morning"
    entries = state.project.image_files.session_entries()
    assert entries == {"a.tif": SessionEntry("evening"), "b.tif": SessionEntry("evening")}
    for expected in ("evening", "morning (2)", "morning"):
        binding_of(viewer).edits.undo()
        assert row_sessions(opened)["c.tif"] == f"session {expected}"
    binding_of(viewer).edits.undo()
    assert set(row_sessions(opened).values()) == {"session morning"}
    assert state.project.image_files.session_entries() == {}
    binding_of(viewer).edits.redo()
    assert row_sessions(opened)["a.tif"] == "session evening"


def test_a_known_sample_is_entered_by_keys_checked_and_taken_back(
    opened,
    viewer,
    settle,
    errors,
):
    click_row(opened, 0)
    click(opened, 1, SHIFT)
    settle(viewer)
    menu = open_menu(opened)
    asked = type_known("Pt19:1, Pt55:1")
    QTest.keyClick(menu, Qt.Key.Key_K)
    assert "Pt55, or Pt19:1" in asked[0][0]
    rows = row_sessions(opened)
    assert rows["a.tif"] == rows["b.tif"] == "known: Pt19 50 %, Pt55 50 %, session morning"
    # What is refused stays in the open dialog, with the reason, until it is right.
    asked = type_known("Pt19,Pt55", "Pt55")
    menu = open_menu(opened, row=0)
    choose(menu, menu.known_action)
    assert row_sessions(opened)["b.tif"] == "known: Pt55, session morning"
    assert [text for _, text, _ in asked] == ["Pt19:1, Pt55:1", "Pt19,Pt55"]
    assert asked[0][2] == "" and "'Pt19,Pt55' is not a composition" in asked[1][2]
    assert errors == []
    type_known("Pt19:1,")  # and cancelled
    menu = open_menu(opened, row=0)
    choose(menu, menu.known_action)
    assert row_sessions(opened)["b.tif"] == "known: Pt55, session morning"
    type_known("a lot")
    menu = open_menu(opened, row=0)
    choose(menu, menu.known_action)
    binding_of(viewer).edits.undo()
    assert row_sessions(opened)["b.tif"] == "known: Pt55, session morning"
    asked = type_known("")
    menu = open_menu(opened, row=0)
    choose(menu, menu.known_action)
    assert asked[0][1] == "Pt55"
    assert set(row_sessions(opened).values()) == {"session morning"}


def test_the_error_of_the_pixel_size_is_of_the_session_and_taken_back(
    opened, viewer, settle, monkeypatch
):
    asked = []

    def get_double(parent, title, label, value, *limits):
        asked.append(value)
        labels.append(label)
        return 1.0, True

    labels: list[str] = []
    monkeypatch.setattr(QInputDialog, "getDouble", get_double)
    for _ in range(2):
        menu = open_menu(opened, row=0)
        choose(menu, menu.pixel_size_action)
    assert asked == [2.0, 1.0]
    (session,) = opened.state.sessions.groups()
    assert len(session.images) > 1 and session.pixel_size_error == 0.01
    assert all("pixel size ± 1 %" in text for text in row_sessions(opened).values())
    binding_of(viewer).edits.undo()
    (session,) = opened.state.sessions.groups()
    assert session.pixel_size_error == 0.02
    assert "counts unless known samples" in labels[0]


def test_images_derived_again_bring_nothing_to_the_others(opened):
    sessions = opened.state.sessions
    first, *others = opened.state.images
    (before,) = sessions.groups()
    sessions.group([first], "own")
    sessions.set_pixel_size_error([first], 0.005)
    sessions.derive([first])
    (session,) = sessions.groups()
    assert session == before and session.pixel_size_error == 0.02
    # What is stated of the session that they come back to holds for them.
    sessions.group([first], "own")
    sessions.set_pixel_size_error(others, 0.01)
    sessions.derive([first])
    assert sessions.get(first).pixel_size_error == 0.01
    sessions.group([first], "own")
    sessions.set_pixel_size_error([first], 0.05)
    sessions.derive([first])
    assert sessions.get(first).pixel_size_error == 0.05, "not more certain than any of them"
    sessions.set_pixel_size_error([first], 0.01)
    # Who has stated it of the derived session keeps it.
    sessions.derive(opened.state.images)
    assert sessions.session_of(first).pixel_size_error == 0.01


def test_a_class_that_no_model_has_is_refused(
    opened,
    viewer,
    qtbot,
    settle,
):
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    asked = type_known("Pt56", "Pt57")
    menu = open_menu(opened, row=0)
    choose(menu, menu.known_action)
    assert asked[1][1] == "Pt56" and "no class Pt56" in asked[1][2]
    assert opened.state.sessions.get("a.tif").known == {}
    (run,) = opened.state.project.runs()
    assert [session["name"] for session in run["sessions"]] == ["morning"]


def test_other_changes_leave_the_selected_rows_and_the_menu_is_under_more(
    opened,
    viewer,
    settle,
):
    click_row(opened, 0)
    click(opened, 3, CONTROL)
    settle(viewer)
    opened.state.sessions.set_known(["b.tif"], {"Pt55": 1})
    updated(opened)
    assert opened.image_menu.selected() == ["a.tif", "c.tif"]
    assert opened.image_menu.menuAction() in opened.more_button.menu().actions()
    opened.image_menu.update_actions()
    assert opened.image_menu.group_action.isEnabled()
    QTest.keyClick(viewer.window._qt_viewer.canvas.native, Qt.Key.Key_PageUp)
    settle(viewer)
    updated(opened)
    assert opened.image_menu.selected() == [opened.state.current]


def test_blind_annotators_do_not_change_sessions(opened):
    opened.state.sessions.set_known(["a.tif"], {"Pt55": 1})
    assert row_sessions(opened)["a.tif"] == "known: Pt55, session morning"
    opened.state.set_blind(True)
    assert row_sessions(opened)["a.tif"] == "session morning"
    opened.list.selectAll()
    opened.image_menu.update_actions()
    assert not any(action.isEnabled() for action in opened.image_menu.actions() if action.text())
    opened.state.set_blind(False)
    assert row_sessions(opened)["a.tif"] == "known: Pt55, session morning"


@pytest.fixture(autouse=True)
def menus_closed():
    """No menu stays open after a test."""
    yield
    menu = QApplication.activePopupWidget()
    if menu is not None:
        menu.close()


def test_the_dialog_for_a_name_is_there(opened, qtbot):
    opened.list.selectAll()

    def accept():
        dialog = QApplication.activeModalWidget()
        dialog.setTextValue("all of May")
        dialog.accept()

    QTimer.singleShot(0, accept)
    opened.image_menu.group_action.trigger()
    assert set(row_sessions(opened).values()) == {"session all of May"}
