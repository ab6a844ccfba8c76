"""The Ratios dock: counts at once, and files that say the same."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pandas as pd
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPointF, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog
from synthetic import CLASSES, made_up
from waiting import draw_now, updated

from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.palette import colour_of
from napari_atomicity.core.tables.cluster_table import ALL
from napari_atomicity.gui.controls.bars import ALL_IMAGES, THIS_IMAGE, Bar, BarChart
from napari_atomicity.gui.docks.ratios import dock as docks
from napari_atomicity.gui.docks.ratios.dock import Ratios
from napari_atomicity.gui.docks.ratios.table import summary
from napari_atomicity.gui.docks.report import Report
from napari_atomicity.gui.viewer.binding import binding_of, state_of
from napari_atomicity.io.clipboard import html_table, latex_table
from napari_atomicity.io.files import write_json
from napari_atomicity.io.reference_ratios import parse_reference
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.project import Project
from napari_atomicity.state.export import Choices, export
from napari_atomicity.statistics.ratios.ratio_notes import CONDITIONS_DIFFER
from napari_atomicity.statistics.ratios.ratios import COLUMNS, class_ratios, count_excluded
from napari_atomicity.statistics.ratios.reference import compare

FITS, RESTS, DOUBT, MISFIT = "#009e73", "#56b4e9", "#e69f00", "#d55e00"


@pytest.fixture
def state(viewer):
    state = state_of(viewer)
    state.clusters.set_analysis(made_up(40))
    state.clusters.set_analysis(made_up(15, "second", seed=1))
    return state


@pytest.fixture
def dock(viewer, state, qtbot):
    dock = Ratios(viewer)
    qtbot.addWidget(dock)
    dock.show()
    dock.scope_combo.setCurrentText(THIS_IMAGE)
    return dock


def counts(dock) -> dict[str, int]:
    """What a person reads in the table."""
    model = dock.view.model()
    return {
        model.index(row, 0).data(): int(model.index(row, 1).data())
        for row in range(model.rowCount())
    }


def test_it_opens_on_what_is_analysed(viewer, state, qtbot):
    dock = Ratios(viewer)
    qtbot.addWidget(dock)
    dock.show()
    assert dock.scope_combo.currentText() == ALL_IMAGES
    dock.scope_combo.setCurrentText(THIS_IMAGE)
    dock.hide()
    dock.show()
    assert dock.scope_combo.currentText() == THIS_IMAGE
    state.remove_image("second")
    alone = Ratios(viewer)
    qtbot.addWidget(alone)
    alone.show()
    assert alone.scope_combo.currentText() == THIS_IMAGE


def test_this_image_and_all_images(dock, state):
    assert counts(dock) == dict.fromkeys(CLASSES, 8)
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    assert counts(dock) == dict.fromkeys(CLASSES, 11)
    dock.scope_combo.setCurrentText(THIS_IMAGE)
    state.current = "second"
    assert counts(dock) == dict.fromkeys(CLASSES, 3)


def test_the_bars_show_what_the_statistics_say(dock, state):
    expected = class_ratios(state.table("field"), CLASSES, scope="field")
    for bar, (_, row) in zip(dock.chart.bars, expected.iterrows(), strict=True):
        assert bar.label == row["class"]
        assert (bar.value, bar.low, bar.high) == pytest.approx(
            (row["fraction"], row["fraction_low"], row["fraction_high"])
        )
        assert bar.low < bar.value < bar.high


def test_bars_include_that_labels_may_be_shifted_together(dock, state, qtbot):
    shares = [[0.4, 0.3, 0.2, 0.1, 0.0], [0.0, 0.4, 0.3, 0.2, 0.1]]
    known = {"scale_solutions": {"weights": [0.7, 0.3], "shares": shares}}
    before = [bar.high - bar.low for bar in dock.chart.bars]
    analysis = state.analysis("field")
    state.clusters.set_analysis(replace(analysis, parameters={**analysis.parameters, **known}))
    qtbot.waitUntil(lambda: dock.chart.bars[0].high - dock.chart.bars[0].low > 1.3 * before[0])


def test_corrections_count_at_once_and_undo_counts_back(dock, state, qtbot):
    state.clusters.relabel([("field", 1), ("field", 6)], "Pt70")
    state.clusters.relabel([("field", 11)], "unknown")
    qtbot.waitUntil(lambda: counts(dock)["Pt70"] == 10)
    assert counts(dock)["Pt19"] == 5 and counts(dock)["unknown"] == 1
    assert "39 clusters counted" in dock.note.text() and "1 labelled unknown" in dock.note.text()
    for _ in range(2):
        state.history.undo()
    qtbot.waitUntil(lambda: counts(dock) == dict.fromkeys(CLASSES, 8))


def test_an_export_counts_unknown_clusters_as_the_window_does(dock, state, qtbot, tmp_path):
    analysis = state.analysis("field")
    table = analysis.table.assign(touches_border=analysis.table["cluster_id"] == 11)
    state.clusters.set_analysis(replace(analysis, table=table))
    state.clusters.relabel([("field", i) for i in (1, 6, 11)], "unknown")
    qtbot.waitUntil(lambda: counts(dock).get("unknown") == 2)
    assert "2 labelled unknown" in dock.note.text()
    export(state, tmp_path, Choices(False, False, False, False))
    ratios = read_table(tmp_path / "ratios.csv")
    ratios = ratios[ratios["scope"] == "field"]
    assert dict(zip(ratios["class"], ratios["count"], strict=True)) == counts(dock)


def test_a_burst_of_changes_is_counted_once(dock, state, qtbot, monkeypatch):
    calls = []
    monkeypatch.setattr(docks, "class_ratios", lambda *a, **_: calls.append(1) or class_ratios(*a))
    for i in range(1, 9):
        state.clusters.relabel([("field", i)], "Pt30")
    qtbot.waitUntil(lambda: counts(dock)["Pt30"] > 8)
    assert len(calls) == 1


@pytest.mark.parametrize(("limit", "value"), [("WORKER_FROM_ROWS", 10), ("WORKER_FROM_IMAGES", 1)])
def test_many_clusters_are_counted_in_a_worker(
    dock, state, settle, viewer, monkeypatch, limit, value
):
    monkeypatch.setattr(docks, limit, value)
    started = []
    monkeypatch.setattr(dock, "start", _noting(dock.start, started))
    state.clusters.relabel([("field", 1)], "Pt70")
    dock.refresh_now()
    settle(viewer)
    assert started and counts(dock)["Pt70"] == 9


def test_the_current_image_is_counted_before_the_worker_is_done(dock, state, monkeypatch):
    monkeypatch.setattr(docks, "WORKER_FROM_ROWS", 10)
    monkeypatch.setattr(dock, "start", lambda *_, **__: None)  # a worker that takes long
    state.clusters.relabel([("field", 1)], "Pt70")
    dock.refresh_now()
    assert counts(dock)["Pt70"] == 9
    shown = dock.shown()
    dock._take(class_ratios(state.table(), state.classes(), images=state.images))
    pd.testing.assert_frame_equal(dock.shown(), shown)


def test_all_images_together_are_counted_before_each_of_them(dock, state, monkeypatch):
    monkeypatch.setattr(docks, "WORKER_FROM_ROWS", 10)
    state.clusters.set_analysis(made_up(12, "second"))
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    later = []

    def start(function, *args, on_result, key, scope=None, **options):
        if scope is None:  # each of the images, which takes long
            later.append(lambda: on_result(function(*args, **options)))
        else:
            on_result(function(*args, scope=scope, **options))

    monkeypatch.setattr(dock, "start", start)
    state.clusters.relabel([("field", 1)], "Pt70")
    dock.refresh_now()
    n_labelled = (state.table()["label"] == "Pt70").sum()
    assert counts(dock)["Pt70"] == n_labelled
    shown = dock.shown()
    later.pop()()
    pd.testing.assert_frame_equal(dock.shown(), shown)
    assert set(dock.ratios["scope"]) == {"field", "second", "all"}


def _noting(function, calls):
    def noted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return noted


def choose(button, text):
    """Open the menu of a button and take an entry, as a person does."""
    menu = button.menu()
    menu.popup(button.mapToGlobal(button.rect().bottomLeft()))
    action = next(a for a in menu.actions() if a.text() == text)
    QTest.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(action).center())


def test_a_copy_pastes_as_the_table(dock, state):
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    choose(dock.copy_button, "Table (Word, Excel)")
    mime = QApplication.clipboard().mimeData()
    pasted = pd.read_csv(io.StringIO(mime.text()), sep="\t")
    expected = class_ratios(state.table(), CLASSES, scope="all")
    assert list(pasted.columns) == COLUMNS
    pd.testing.assert_frame_equal(
        pasted.fillna({"note": ""}), expected, check_dtype=False, check_column_type=False,
        rtol=1e-3,
    )  # fmt: skip
    assert mime.hasHtml() and html_table(expected) in mime.html()


def test_a_copy_pastes_into_latex(dock, state):
    choose(dock.copy_button, "LaTeX")
    expected = class_ratios(state.table("field"), CLASSES, scope="field")
    assert QApplication.clipboard().text() == latex_table(expected)
    assert expected["count"].tolist() == [8] * 5


def test_a_pasted_name_is_no_formula(dock, state, qtbot):
    state.clusters.set_analysis(made_up(5, "=1+1"))
    state.current = "=1+1"
    dock.refresh_now()
    qtbot.waitUntil(lambda: len(dock.shown()) == 5)
    choose(dock.copy_button, "Table (Word, Excel)")
    mime = QApplication.clipboard().mimeData()
    assert mime.text().splitlines()[1].startswith("'=1+1\t")
    assert ">=1+1<" not in mime.html()


@pytest.fixture
def to_file(tmp_path, monkeypatch):
    """The name that the dialog will give."""

    def name(file):
        path = tmp_path / file
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
        return path

    return name


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet"])
def test_exports_read_back_the_same(dock, state, to_file, settle, viewer, suffix):
    state.clusters.relabel([("field", 1)], "Pt70")
    dock.refresh_now()
    path = to_file(f"ratios{suffix}")
    choose(dock.export_button, "Ratios…")
    settle(viewer)
    pd.testing.assert_frame_equal(
        read_table(path),
        class_ratios(state.table(), CLASSES, groups=state.group_scopes()),
        check_dtype=False,
        check_column_type=False,
    )
    kinds = {scope.partition(":")[0] for scope in read_table(path)["scope"]}
    assert kinds == {"field", "second", "session", "sample", "all"}
    path = to_file(f"clusters{suffix}")
    choose(dock.export_button, "Clusters…")
    settle(viewer)
    read = read_clusters(path)
    assert len(read) == 55
    assert read.loc[0, ["label", "label_predicted", "label_corrected"]].tolist() == [
        "Pt70",
        "Pt19",
        "Pt70",
    ]
    of_image = read[["session", "sample"]].groupby(read["image"]).nunique()
    assert (of_image == 1).all(axis=None) and (read[["session", "sample"]] != "").all(axis=None)
    assert notification_manager.records[-1].message == f"Written: {path}"


def test_ratios_are_exported_as_latex(dock, state, to_file, settle, viewer):
    path = to_file("ratios.tex")
    dock.export_ratios()
    settle(viewer)
    ratios = class_ratios(state.table(), CLASSES, groups=state.group_scopes())
    assert path.read_text() == latex_table(ratios)


def test_a_file_that_cannot_be_written_is_reported(dock, to_file, tmp_path, settle, viewer):
    (tmp_path / "a file").touch()
    to_file("a file/ratios.csv")
    dock.export_ratios()
    settle(viewer)
    assert "ratios.csv" in notification_manager.records[-1].message
    assert "could not be written" in notification_manager.records[-1].message


def test_a_hidden_dock_counts_when_it_is_shown(dock, state, qtbot, monkeypatch):
    calls = []
    monkeypatch.setattr(docks, "class_ratios", lambda *a, **_: calls.append(1) or class_ratios(*a))
    dock.hide()
    state.clusters.relabel([("field", 1)], "Pt70")
    qtbot.wait(60)
    assert not calls
    dock.show()
    qtbot.waitUntil(lambda: counts(dock)["Pt70"] == 9)


def test_a_dialog_that_is_dismissed_writes_nothing(dock, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: ("", ""))
    monkeypatch.setattr(docks, "write_in_worker", lambda *a, **k: pytest.fail("written"))
    dock.export_ratios()
    dock.export_clusters()


def test_an_image_may_be_called_all(dock, state, qtbot):
    state.clusters.set_analysis(made_up(5, "all", seed=2))
    dock.refresh_now()
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    assert sum(counts(dock).values()) == 60
    assert len(dock.shown()) == 5
    dock.scope_combo.setCurrentText(THIS_IMAGE)
    state.current = "all"
    assert len(dock.shown()) == 5


def test_before_there_is_anything(viewer, qtbot):
    dock = Ratios(viewer)
    qtbot.addWidget(dock)
    dock.show()
    assert dock.note.text() == "No clusters yet."
    assert not dock.copy_button.isEnabled() and not dock.export_button.isEnabled()


def test_what_was_not_counted_is_said():
    table = made_up(5).table
    table["touches_border"] = [True, True, False, False, False]
    table["label"] = ["Pt19", "Pt19", "unknown", "", "Pt30"]
    words = summary(table)
    assert words.startswith("1 cluster counted")
    assert "2 cut by the border, 1 labelled unknown, 1 without a label" in words
    table["confidence"] = 0.5
    assert "1 below a confidence of 0.7" in summary(table)
    table.loc[4, "label_corrected"] = "Pt30"  # a person has confirmed it
    assert "below a confidence" not in summary(table)


def test_a_cluster_at_the_border_of_an_excluded_region_has_one_reason_everywhere():
    table = made_up(6).table.assign(
        touches_border=[True, True, False, False, False, False],
        excluded=[True, False, True, False, False, False],
    )
    reasons = count_excluded(table, table)
    assert reasons["cut by the border"] == 1
    assert reasons["in excluded regions"] == 2
    assert "1 cut by the border" in summary(table) and "2 in excluded regions" in summary(table)


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


# ---- adjusted ratios
@pytest.fixture
def card(monkeypatch, tmp_path, state):
    """A model at hand that classified the clusters; it knows its confusion, not its calibration."""
    n = len(CLASSES)
    confusion = tuple(tuple(80 if i == j else 5 * (j > i) for j in range(n)) for i in range(n))
    card = ModelCard("made-up", tuple(CLASSES), confusion=confusion, sha256="0" * 64)
    monkeypatch.setenv("ATOMICITY_MODELS", str(tmp_path))
    (tmp_path / "made-up.safetensors").touch()
    write_json(tmp_path / "made-up.json", card.to_dict())
    for name in ("field", "second"):
        analysis = state.analysis(name)
        table = analysis.table.assign(model_id=card.model_id)
        state.clusters.set_analysis(replace(analysis, table=table))
    return card


def choose_method(dock, name):
    dock.method_combo.setCurrentIndex(dock.method_combo.findData(name))


def test_adjusted_ratios_are_those_of_the_statistics(card, dock, state, settle, viewer, qtbot):
    choose_method(dock, "confusion")
    qtbot.waitUntil(lambda: "confusion" in "".join(dock.ratios["method"]))
    expected = class_ratios(
        state.table(), CLASSES, method="confusion", card=card, images=state.images
    )
    pd.testing.assert_frame_equal(dock.ratios, expected)
    assert [b.value for b in dock.chart.bars] == list(expected["fraction"][:5])
    state.clusters.relabel([("field", 1), ("field", 6)], "Pt70")
    qtbot.waitUntil(lambda: counts(dock)["Pt70"] == 10)
    choose_method(dock, "counted")
    qtbot.waitUntil(lambda: dock.chart.bars[4].value == 0.25)


def test_a_late_result_of_another_method_is_dropped(card, dock, settle, viewer):
    choose_method(dock, "confusion")
    dock.refresh_now()
    choose_method(dock, "counted")
    dock.refresh_now()
    settle(viewer)
    assert dock.ratios["method"].str.startswith("counted").all()


def test_a_method_that_can_not_be_used_says_why(card, dock):
    items = dock.method_combo.model()
    assert [items.item(i).isEnabled() for i in range(3)] == [True, True, False]
    assert "replicates of its calibration" in items.item(2).toolTip()
    assert dock.warning.isHidden()
    choose_method(dock, "em")  # as it may have been before another model classified
    dock.refresh_now()
    assert "replicates of its calibration" in dock.warning.text()
    assert not dock.chart.bars and len(dock.ratios) == 0
    assert not dock.copy_button.isEnabled() and not dock.ratios_action.isEnabled()
    assert "replicates of its calibration" in dock.ratios_action.toolTip()
    assert dock.export_button.isEnabled() and dock.clusters_action.isEnabled()
    choose_method(dock, "counted")
    dock.refresh_now()
    assert dock.copy_button.isEnabled() and dock.ratios_action.isEnabled()
    assert len(dock.chart.bars) == 5 and dock.warning.isHidden()


@pytest.mark.parametrize("n_in_turn", [0, 1000])  # above it a worker counts
def test_blind_mode_hides_the_ratios_of_before(
    card, dock, state, tmp_path, settle, viewer, monkeypatch, n_in_turn
):
    monkeypatch.setattr(docks, "WORKER_FROM_ROWS", n_in_turn)
    state.attach_project(Project(tmp_path / "monday.atomicity"))
    choose_method(dock, "confusion")
    settle(viewer)
    assert sum(counts(dock).values()) > 0 and dock.chart.bars
    monkeypatch.setattr(dock, "start", lambda *_, **__: None)  # a worker that takes long
    state.set_blind(True)
    dock.refresh_now()
    assert sum(counts(dock).values()) == 0 and not dock.chart.bars
    assert "blind mode hides" in dock.warning.text() and "Computing" not in dock.note.text()
    choose_method(dock, "counted")
    dock.refresh_now()
    assert sum(counts(dock).values()) == 0
    state.set_blind(False)
    choose_method(dock, "confusion")
    dock.refresh_now()
    assert dock.warning.isHidden()


def test_without_clusters_all_methods_count_none(card, dock, state, settle, viewer):
    for image in ("field", "second"):
        state.clusters.remove([(image, i) for i in state.table(image)["cluster_id"]])
    choose_method(dock, "confusion")
    dock.refresh_now()
    settle(viewer)
    assert sum(counts(dock).values()) == 0 and "Computing" not in dock.note.text()


def test_without_the_card_there_is_only_counting(dock):
    items = dock.method_combo.model()
    assert [items.item(i).isEnabled() for i in range(3)] == [True, False, False]
    assert "the card of the model is not available" in items.item(1).toolTip()


def test_conditions_that_differ_are_seen(dock, state, qtbot):
    analysis = state.analysis("field")
    state.clusters.set_analysis(
        replace(analysis, table=analysis.table.assign(conditions_differ=True))
    )
    qtbot.waitUntil(lambda: not dock.warning.isHidden())
    assert dock.warning.text() == f"C{CONDITIONS_DIFFER[1:]}."
    state.current = "second"
    assert dock.warning.isHidden()
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    assert not dock.warning.isHidden()


def test_fractions_of_a_session_that_does_not_fit_are_shown_if_asked_for(dock, state, qtbot):
    assert dock.keep.isHidden()
    misfit = {"misfit": "this session does not fit", "peaks_atoms": [25.2, 47.6]}
    state.clusters.set_session("field", misfit)
    qtbot.waitUntil(dock.keep.isVisible)
    assert "peaks at 25 and 48 atoms" in dock.warning.text()
    assert dock.model.index(0, 2).data() == "–" and counts(dock) == dict.fromkeys(CLASSES, 8)
    assert len(state.history) == 2  # nothing to undo
    QTest.mouseClick(dock.keep, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dock.model.index(0, 2).data() == "20.0 %")
    assert "withheld" not in dock.warning.text() and "25 and 48" in dock.warning.text()
    state.current = "second"
    assert dock.keep.isHidden() and dock.warning.isHidden()


def test_the_colour_of_all_images_is_that_of_their_sessions(dock, state, settle, viewer):
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    state.add_image(replace(made_up(1).micrograph, name="a damaged one"))  # first, of no analysis
    state.sessions.group(["a damaged one"], "other")

    def colour(**answer) -> str:
        for image in ("field", "second"):
            state.clusters.set_session(image, {"peaks_atoms": [25.2, 47.6], **answer})
        settle(viewer)
        return dock.warning.styleSheet().partition("solid ")[2][:7]

    assert colour(answer="fits") == FITS and "agree" in dock.warning.text()
    some = [("field", i) for i in range(1, 7)]
    state.clusters.relabel(some, "unknown")
    assert colour(answer="fits") == RESTS
    assert f"6 of {len(state.table())} clusters belong to no class" in dock.warning.text()
    state.clusters.relabel(some, "Pt19")
    assert colour(answer="fits") == FITS
    assert colour(answer="fits", relies_on_sizes=True) == RESTS
    assert "pixel size" in dock.warning.text()
    assert colour(answer="cannot tell") == DOUBT
    assert colour(answer="does not fit", misfit="peaks") == MISFIT
    # Of two sessions, the worse one counts.
    state.sessions.group(["second"], "evening")
    state.clusters.set_session("second", {"answer": "fits"})
    settle(viewer)
    assert dock.warning.styleSheet().count(MISFIT) == 1
    type_reference(dock, "Pt19:Pt41 = 1:1")
    assert "no fractions to compare" in dock.reference.verdict.text()


def test_what_is_said_of_all_images_names_their_sessions(dock, state, settle, viewer):
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    rests = {"answer": "fits", "peaks_atoms": [25.2, 47.6], "relies_on_sizes": True}
    fits = {**rests, "relies_on_sizes": False}
    unsure = {**fits, "answer": "cannot tell"}
    others = {**fits, "misfit": "others"}

    def said(field, second) -> str:
        state.clusters.set_session("field", field)
        state.clusters.set_session("second", second)
        settle(viewer)
        return dock.warning.text()

    state.sessions.group(["field", "second"], "day")
    assert said(rests, rests).startswith("The images of this session have few sizes each")
    state.sessions.group(["field"], "morning")
    state.sessions.group(["second"], "evening")
    assert said(fits, fits).startswith("The sizes of sessions morning and evening agree")
    assert said(fits, rests).startswith("The images of session evening have few sizes each")
    assert "concerns 1 of 2 images" in dock.warning.text() and RESTS in dock.warning.styleSheet()
    assert "is tested when watching ends" in said({"untested": True}, rests)
    assert RESTS in dock.warning.styleSheet()
    said(unsure, rests)
    assert DOUBT in dock.warning.styleSheet()
    both = "The images of sessions morning and evening have few sizes each"
    assert said(rests, rests).startswith(both) and RESTS in dock.warning.styleSheet()
    assert "session morning may not fit the classes" in said(unsure, fits).lower()
    both = "Sessions morning and evening do not fit the classes"
    assert said(others, others).startswith(both)
    dock.scope_combo.setCurrentText(THIS_IMAGE)
    assert dock.warning.text().startswith("This session does not fit")
    # An image without clusters, which has no record, does not hide the session of others.
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    state.clusters.set_analysis(made_up(5, "third"))
    state.sessions.group(["field", "second"], "day")
    state.sessions.group(["third"], "night")
    assert said({}, rests).startswith("The images of session day have few sizes each")


# ---- references
def type_reference(dock, line):
    dock.reference.line.setFocus()
    dock.reference.line.selectAll()
    QTest.keyClicks(dock.reference.line, line) if line else dock.reference.line.clear()
    QTest.keyClick(dock.reference.line, Qt.Key.Key_Return)


def test_a_typed_reference_marks_bars_and_is_judged(dock, state):
    assert dock.reference.parity.isHidden() and dock.reference.verdict.isHidden()
    type_reference(dock, "Pt19:Pt70 = 3:1")
    assert [b.reference for b in dock.chart.bars] == [0.75, 0, 0, 0, 0.25]
    expected = compare(state.table("field"), parse_reference("Pt19:Pt70 = 3:1"))
    assert dock.reference.comparison.r2 == pytest.approx(expected.r2)
    assert f"R² {expected.r2:.3f}; mean absolute error" in dock.reference.verdict.text()
    assert f"{expected.covered.sum()} of 5 in their intervals" in dock.reference.verdict.text()
    assert dock.reference.parity.data["reference"].tolist() == [0.75, 0, 0, 0, 0.25]
    assert not dock.reference.parity.isHidden()
    state.current = "second"
    assert set(dock.reference.comparison.pairs["scope"]) == {"second"}
    type_reference(dock, "")
    assert (
        dock.reference.comparison is None
        and dock.reference.parity.isHidden()
        and dock.reference.verdict.isHidden()
    )
    assert all(math.isnan(b.reference) for b in dock.chart.bars)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Pt19:Pt70", "Example: Pt19:Pt41:Pt70 = 1:1:1"),
        ("Pt19:Pt20 = 1:1", "The reference contains unknown classes: Pt20"),
        ("Pt19:Pt30 = 0.5:0.1", "sum to 0.6, not to 1"),
    ],
)
def test_a_line_that_makes_no_sense_is_told(dock, line, words):
    type_reference(dock, line)
    assert words in dock.reference.verdict.text() and dock.reference.comparison is None
    assert all(math.isnan(b.reference) for b in dock.chart.bars)


def test_a_reference_belongs_to_its_project_and_to_its_classes(dock, state, tmp_path, qtbot):
    type_reference(dock, "Pt19:Pt70 = 3:1")
    report = Report(dock.binding.viewer)
    assert report.choices().reference is None  # it is that of this image
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    assert report.choices().reference["fraction"].tolist() == [0.75, 0.25]
    again = Ratios(dock.binding.viewer)  # as after the dock was closed
    assert again.reference.line.text() == "Pt19:Pt70 = 3:1"
    assert again.reference.known(ALL) == {"Pt19": 0.75, "Pt70": 0.25}
    again.deleteLater()
    report.reference.setText("Pt19 = 1")
    assert report.choices().reference["class"].tolist() == ["Pt19"]
    report.reference.clear()
    state.attach_project(Project(tmp_path / "monday.atomicity"))  # the same images
    assert dock.reference.comparison is not None
    # Classes of another model, after its analysis.
    analysis = state.analysis("field")
    columns = {f"p_{name}": f"p_other{name}" for name in CLASSES}
    others = {name: f"other{name}" for name in CLASSES}
    table = analysis.table.rename(columns=columns).replace(others)
    for image in ("field", "second"):
        micrograph = state.micrograph(image)
        state.clusters.set_analysis(
            replace(analysis, micrograph=micrograph, table=table.assign(image=image))
        )
    dock.refresh_now()
    assert "unknown classes: Pt19, Pt70" in dock.reference.verdict.text()
    assert "The classes are otherPt19" in dock.reference.verdict.text()
    assert dock.reference.comparison is None
    assert all(math.isnan(bar.reference) for bar in dock.chart.bars)
    projects = dock.binding.projects
    projects.leave(stops_work=True)
    assert dock.reference.line.text() == "" and dock.reference.verdict.isHidden()
    assert report.choices().reference is None
    report.deleteLater()
    projects.open(tmp_path / "monday.atomicity")
    qtbot.waitUntil(lambda: dock.reference.line.text() == "Pt19:Pt70 = 3:1")


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_reference_is_in_the_project_after_the_window_was_closed(
    dock, state, load, tmp_path, make_napari_viewer, qtbot, is_loaded
):
    file = tmp_path / "monday.atomicity"
    state.attach_project(Project(file))
    if is_loaded:
        load("class,fraction\nPt19,3\nPt70,1\n")
    else:
        type_reference(dock, "Pt19:Pt70 = 3:1")
    line = dock.reference.line.text()
    dock.binding.projects.leave(stops_work=True)
    other = make_napari_viewer()
    binding_of(other).projects.open(file)
    again = Ratios(other)
    qtbot.addWidget(again)
    again.show()
    qtbot.waitUntil(lambda: again.reference.line.text() == line)
    assert again.reference.known(ALL) == {"Pt19": 0.75, "Pt70": 0.25}
    later = Ratios(other)  # opened after the project
    qtbot.addWidget(later)
    assert later.reference.line.text() == line
    type_reference(again, "")
    binding_of(other).projects.leave(stops_work=True)
    with Project(file) as project:
        assert project.setting("window")["reference"] == {"line": "", "table": None}


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_reference_is_there_again_after_blind_mode(
    dock, state, load, tmp_path, settle, viewer, is_loaded
):
    state.attach_project(Project(tmp_path / "monday.atomicity"))
    if is_loaded:
        load("class,fraction\nPt19,3\nPt70,1\n")
    else:
        type_reference(dock, "Pt19:Pt70 = 3:1")
    settle(viewer)
    line, r2 = dock.reference.line.text(), dock.reference.verdict.text()
    assert line and "R²" in r2
    stored = dock.binding.reference.to_dict()
    for on in (True, False):
        state.set_blind(on)
        settle(viewer)
        assert dock.binding.reference.to_dict() == stored
    updated(dock)
    settle(viewer)
    assert dock.reference.line.text() == line and dock.reference.verdict.text() == r2
    assert dock.reference.known(ALL) == {"Pt19": 0.75, "Pt70": 0.25}


def test_the_report_says_beforehand_that_a_reference_of_one_image_is_left_out(dock, qtbot):
    report = Report(dock.binding.viewer)
    qtbot.addWidget(report)
    report.show()
    said = "The reference in Ratios is of one image and is left out"
    assert said not in updated(report).words.text()
    type_reference(dock, "Pt19:Pt70 = 3:1")
    qtbot.waitUntil(lambda: said in report.words.text())
    report.reference.setText("Pt19 = 1")  # the report has one of its own
    qtbot.waitUntil(lambda: said not in report.words.text())
    report.reference.clear()
    qtbot.waitUntil(lambda: said in report.words.text())
    dock.scope_combo.setCurrentText(ALL_IMAGES)
    qtbot.waitUntil(lambda: said not in report.words.text())
    assert report.choices().reference["fraction"].tolist() == [0.75, 0.25]


def test_equal_references_have_no_r2(dock):
    type_reference(dock, "Pt19:Pt30:Pt41:Pt55:Pt70 = 1:1:1:1:1")
    assert dock.reference.verdict.text() == (
        "No R² (all reference fractions are equal); mean absolute error 0.0 %; "
        "5 of 5 in their intervals."
    )


@pytest.fixture
def load(dock, tmp_path, monkeypatch):
    def load_text(text):
        path = tmp_path / "known.csv"
        path.write_text(text)
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(path), ""))
        dock.reference.load_button.click()

    return load_text


def test_a_loaded_reference_pools_what_its_patterns_say(dock, state, load, settle, viewer):
    load("scope,class,fraction\n*d,Pt19,1\n*d,Pt30,1\nmissing,Pt70,1\nsecond,Pt41,1\n")
    settle(viewer)
    assert dock.reference.line.text() == "known.csv"
    pairs = dock.reference.comparison.pairs
    assert list(dict.fromkeys(pairs["scope"])) == ["*d", "second"]
    assert list(pairs["count"]) == [11] * 5 + [3] * 5
    assert [b.reference for b in dock.chart.bars] == [0.5, 0.5, 0, 0, 0]
    assert len(dock.reference.parity.data) == 10
    state.clusters.relabel([("field", 1)], "Pt70")
    dock.refresh_now()
    settle(viewer)
    assert list(dock.reference.comparison.pairs["count"])[:5] == [10, 11, 11, 11, 12]
    type_reference(dock, "Pt19 = 1")
    assert set(dock.reference.comparison.pairs["scope"]) == {"field"}


def test_a_loaded_reference_that_fits_nothing_is_told(dock, load, settle, viewer):
    load("scope,class,fraction\nmissing,Pt70,1\n")
    settle(viewer)
    assert dock.reference.verdict.text().startswith("The reference is for missing, and no image")
    load("class,fraction\nPt7,1\n")
    settle(viewer)
    assert "unknown classes: Pt7" in dock.reference.verdict.text()
    load("class,share\nPt70,1\n")
    assert "known.csv: the reference lacks" in notification_manager.records[-1].message


def test_the_mark_of_a_reference_is_to_scale(qtbot):
    chart = BarChart(axis=True)
    qtbot.addWidget(chart)
    bar = Bar("Pt19", 0.25, "25.0 %", "#56b4e9", "disc", 0.2, 0.35, reference=0.4)
    chart.bars = [bar]
    chart.resize(300, chart.sizeHint().height())
    assert chart.limit == 0.4
    marked = chart.grab().toImage()
    chart.bars = [replace(bar, reference=math.nan)]
    plain = chart.grab().toImage()
    # Above the bar there is nothing but the mark, at the right end of the scale.
    y = round(2 + 0.2 * chart._row_height())
    differs = [x for x in range(300) if marked.pixelColor(x, y) != plain.pixelColor(x, y)]
    bar_end = max(
        x
        for x in range(300)
        if plain.pixelColor(x, round(2 + chart._row_height() / 2 - 3)).name() == "#56b4e9"
    )
    assert 0 < max(differs) - min(differs) < 8
    assert min(differs) > bar_end + 20
    chart.bars = [replace(bar, reference=0.5)]
    assert chart.limit == 0.6


def test_the_parity_plot_names_the_point_at_the_mouse(dock):
    dock.reference_section.button.click()
    type_reference(dock, "Pt19:Pt70 = 3:1")
    plot = dock.reference.parity
    plot.resize(300, 200)
    draw_now(plot)
    pairs = plot.data.set_index("class")
    texts = {
        name: f"{name} in field: {100 * row.fraction:.1f} %, reference {100 * row.reference:.1f} %"
        for name, row in pairs.iterrows()
    }
    assert all(text in plot.accessibleDescription() for text in texts.values())
    image = plot.grab().toImage()
    for name, (left, right, top, bottom) in zip(pairs.index, plot.boxes, strict=True):
        middle = QPointF((left + right) / 2, (top + bottom) / 2)
        assert texts[name] in plot.text_at(middle)
        if name in ("Pt19", "Pt70"):  # others may cover each other
            assert image.pixelColor(middle.toPoint()).name() == colour_of(name, CLASSES)
    assert plot.text_at(QPointF(2, 2)) == ""
    axes = plot.figure.axes[0]
    assert axes.get_xlim() == axes.get_ylim() and axes.get_xlim()[1] > 75
    # The window shows the whole caption.
    type_reference(dock, "Pt19:Pt70 = 1:1")
    for size in ((300, 190), (500, 240)):
        plot.resize(*size)
        draw_now(plot)
        figure = plot.figure
        caption = figure.axes[0]._left_title
        assert "side by side" in caption.get_text().replace("\n", " ")
        box = caption.get_window_extent(figure.canvas.get_renderer())
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(CLASSES)
