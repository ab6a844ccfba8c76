"""The Ratios dock: counts at once, and files that say the same."""

from __future__ import annotations

import gc
import io
import weakref
from dataclasses import replace

import pandas as pd
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from synthetic import CLASSES, made_up

from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.statistics.ratios import COLUMNS, class_ratios
from napari_atomicity.widgets import ratios as docks
from napari_atomicity.widgets.bars import Bar, BarChart
from napari_atomicity.widgets.binding import session_of
from napari_atomicity.widgets.ratios import (
    ALL_IMAGES,
    THIS_IMAGE,
    Ratios,
    summary,
    with_suffix,
)


@pytest.fixture
def session(viewer):
    session = session_of(viewer)
    session.set_analysis(made_up(40))
    session.set_analysis(made_up(15, "second", seed=1))
    return session


@pytest.fixture
def dock(viewer, session, qtbot):
    dock = Ratios(viewer)
    qtbot.addWidget(dock)
    dock.show()
    return dock


def counts(dock) -> dict[str, int]:
    """What a person reads in the table."""
    model = dock.view.model()
    return {
        model.index(row, 0).data(): int(model.index(row, 1).data())
        for row in range(model.rowCount())
    }


def test_this_image_and_all_images(dock, session):
    assert counts(dock) == dict.fromkeys(CLASSES, 8)
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    assert counts(dock) == dict.fromkeys(CLASSES, 11)
    dock.scope_combo.setCurrentText(THIS_IMAGE)
    session.current = "second"
    assert counts(dock) == dict.fromkeys(CLASSES, 3)


def test_the_bars_show_what_the_statistics_say(dock, session):
    expected = class_ratios(session.table("field"), CLASSES, scope="field")
    for bar, (_, row) in zip(dock.chart.bars, expected.iterrows(), strict=True):
        assert bar.label == row["class"]
        assert (bar.value, bar.low, bar.high) == pytest.approx(
            (row["fraction"], row["fraction_low"], row["fraction_high"])
        )
        assert bar.low < bar.value < bar.high


def test_corrections_count_at_once_and_undo_counts_back(dock, session, qtbot):
    session.relabel([("field", 1), ("field", 6)], "Pt70")
    session.relabel([("field", 11)], "unknown")
    qtbot.waitUntil(lambda: counts(dock)["Pt70"] == 10)
    assert counts(dock)["Pt19"] == 5 and counts(dock)["unknown"] == 1
    assert "39 clusters counted" in dock.note.text() and "1 unknown" in dock.note.text()
    for _ in range(2):
        session.undo()
    qtbot.waitUntil(lambda: counts(dock) == dict.fromkeys(CLASSES, 8))


def test_a_burst_of_changes_is_counted_once(dock, session, qtbot, monkeypatch):
    calls = []
    monkeypatch.setattr(docks, "count", lambda *a: calls.append(1) or class_ratios(*a[:2]))
    for i in range(1, 9):
        session.relabel([("field", i)], "Pt30")
    qtbot.waitUntil(lambda: counts(dock)["Pt30"] > 8)
    assert len(calls) == 1


def test_many_clusters_are_counted_in_a_worker(dock, session, settle, viewer, monkeypatch):
    monkeypatch.setattr(docks, "WORKER_FROM_ROWS", 10)
    started = []
    monkeypatch.setattr(docks, "start", _noting(docks.start, started))
    session.relabel([("field", 1)], "Pt70")
    dock.update_now()
    settle(viewer)
    assert started and counts(dock)["Pt70"] == 9


def _noting(function, calls):
    def noted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return noted


def test_a_copy_pastes_as_the_table(dock, session):
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    dock.copy_button.click()
    pasted = pd.read_csv(io.StringIO(QApplication.clipboard().text()), sep="\t")
    expected = class_ratios(session.table(), CLASSES, scope="all")
    assert list(pasted.columns) == COLUMNS
    pd.testing.assert_frame_equal(pasted, expected, check_dtype=False)


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet"])
def test_exports_read_back_the_same(dock, session, tmp_path, monkeypatch, suffix):
    session.relabel([("field", 1)], "Pt70")
    dock.update_now()

    def choose(name):
        path = tmp_path / f"{name}{suffix}"
        monkeypatch.setattr(docks.QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
        return path

    path = choose("ratios")
    dock.export_ratios()
    pd.testing.assert_frame_equal(
        read_table(path), class_ratios(session.table(), CLASSES), check_dtype=False
    )
    path = choose("clusters")
    dock.export_clusters()
    read = read_clusters(path)
    assert len(read) == 55
    assert read.loc[0, ["label", "label_predicted", "label_corrected"]].tolist() == [
        "Pt70",
        "Pt19",
        "Pt70",
    ]


def test_a_file_that_cannot_be_written_is_reported(dock, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    path = tmp_path / "a file" / "ratios.csv"
    monkeypatch.setattr(docks.QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    dock.export_ratios()
    assert "ratios.csv" in notification_manager.records[-1].message
    assert "could not be written" in notification_manager.records[-1].message


def test_a_dialog_that_is_dismissed_writes_nothing(dock, monkeypatch):
    monkeypatch.setattr(docks.QFileDialog, "getSaveFileName", lambda *a: ("", ""))
    monkeypatch.setattr(docks, "write_ratios", lambda *a: pytest.fail("written"))
    dock.export_ratios()


@pytest.mark.parametrize(
    ("chosen", "filter_", "expected"),
    [
        ("a", "Excel workbook (*.xlsx)", "a.xlsx"),
        ("a.csv", "Excel workbook (*.xlsx)", "a.csv"),
        ("run 1.5 nm", "Parquet (*.parquet)", "run 1.5 nm.parquet"),
        ("a", "", "a.csv"),
    ],
)
def test_a_file_gets_the_suffix_of_its_type(tmp_path, chosen, filter_, expected):
    assert with_suffix(tmp_path / chosen, filter_) == tmp_path / expected


def test_an_image_may_be_called_all(dock, session, qtbot):
    session.set_analysis(made_up(5, "all", seed=2))
    dock.update_now()
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    assert sum(counts(dock).values()) == 60
    assert len(dock.shown()) == 5
    dock.scope_combo.setCurrentText(THIS_IMAGE)
    session.current = "all"
    assert len(dock.shown()) == 5


def test_before_there_is_anything(viewer, qtbot):
    dock = Ratios(viewer)
    qtbot.addWidget(dock)
    assert dock.note.text() == "No clusters yet."
    assert not dock.copy_button.isEnabled() and not dock.export_button.isEnabled()


def test_what_was_not_counted_is_said():
    table = made_up(5).table
    table["touches_border"] = [True, True, False, False, False]
    table["label"] = ["Pt19", "Pt19", "unknown", "", "Pt30"]
    words = summary(table)
    assert words.startswith("1 cluster counted")
    assert "2 cut by the border, 1 unknown, 1 without a label" in words


def test_the_chart_says_its_numbers_to_a_screen_reader_and_at_the_mouse(qtbot):
    chart = BarChart(axis=True)
    qtbot.addWidget(chart)
    chart.bars = [Bar("Pt19", 0.25, "25.0 %", "#56b4e9", "disc", 0.2, 0.35)]
    assert "Pt19 25.0 %" in chart.accessibleDescription()
    assert chart.limit == 0.4
    chart.resize(300, chart.sizeHint().height())
    picture = chart.grab().toImage()
    y = round(2 + chart._row_height() / 2 - 3)
    blue = [x for x in range(300) if picture.pixelColor(x, y).name() == "#56b4e9"]
    right = max(blue)
    chart.bars = [replace(chart.bars[0], value=0.125)]
    picture = chart.grab().toImage()
    shorter = max(x for x in range(300) if picture.pixelColor(x, y).name() == "#56b4e9")
    left = min(x for x in blue if x > 40)
    assert (shorter - left) / (right - left) == pytest.approx(0.5, abs=0.03)


def test_a_closed_dock_hears_nothing_more_and_is_let_go(viewer, session, qtbot):
    signals = [session.analysis_changed, session.current_changed, session.images_changed]
    before = [len(s) for s in signals]
    dock = Ratios(viewer)
    viewer.window.add_dock_widget(dock, name="Ratios")
    assert [len(s) for s in signals] == [n + 1 for n in before]
    gone = weakref.ref(dock)
    viewer.window.remove_dock_widget(dock)
    del dock

    def let_go():
        gc.collect()
        return gone() is None

    qtbot.waitUntil(let_go)
    assert [len(s) for s in signals] == before


def test_the_export_button_opens_a_menu_of_both_tables(dock):
    actions = [a.text() for a in dock.export_button.menu().actions()]
    assert actions == ["Ratios…", "Clusters…"]
    QTest.keyClick(dock.export_button.menu(), Qt.Key.Key_Escape)
