"""The dialogs for what is written: suffixes, and files that are there already."""

from pathlib import Path

import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_atomicity.gui.controls.save_dialogs import choose_file, default_folder
from napari_atomicity.gui.panels.table_files import OUTLINE_FILE_TYPES, RATIO_FILE_TYPES
from napari_atomicity.simulation.example_data import example_path
from napari_atomicity.state.window_state import WindowState

PROJECTS = "Projects (*.atomicity)"


def test_nothing_is_written_beside_the_bundled_examples(tmp_path):
    assert default_folder(example_path()) == Path.home()
    assert default_folder(tmp_path / "a.tif") == tmp_path


@pytest.fixture
def choose(monkeypatch, tmp_path, qapp):
    """Return the path that a dialog gives if a person types a name and chooses a type."""

    def choose(name, kind, types):
        chosen = str(tmp_path / name) if name else "", kind
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: chosen)
        return choose_file(WindowState(), None, "Save", "a", types)

    return choose


@pytest.mark.parametrize(
    ("name", "kind", "types", "expected"),
    [
        ("a", "Excel workbook (*.xlsx)", RATIO_FILE_TYPES, "a.xlsx"),
        ("a.csv", "Excel workbook (*.xlsx)", RATIO_FILE_TYPES, "a.csv"),
        ("run 1.5 nm", "Parquet (*.parquet)", RATIO_FILE_TYPES, "run 1.5 nm.parquet"),
        ("a", "", RATIO_FILE_TYPES, "a.csv"),
        ("a.TEX", "CSV (*.csv)", RATIO_FILE_TYPES, "a.tex"),
        ("a.tiff", "ImageJ ROIs (*.zip)", OUTLINE_FILE_TYPES, "a.tiff"),
        ("a.tif", "", PROJECTS, "a.tif.atomicity"),
        ("run 1.5", "", "Folder (*)", "run 1.5"),
    ],
)
def test_a_file_gets_the_suffix_of_its_type(choose, tmp_path, name, kind, types, expected):
    assert choose(name, kind, types) == tmp_path / expected


@pytest.mark.parametrize("replaces", [False, True])
def test_a_file_whose_suffix_was_not_typed_is_replaced_only_after_a_question(
    choose, tmp_path, monkeypatch, replaces
):
    kept, asked = tmp_path / "day.atomicity", []
    kept.touch()
    buttons = QMessageBox.StandardButton

    def answer(parent, title, text, *buttons_shown):
        asked.append(text)
        return buttons.Yes if replaces else buttons.No

    monkeypatch.setattr(QMessageBox, "question", answer)
    assert choose("day", "", PROJECTS) == (kept if replaces else None)
    assert len(asked) == 1 and str(kept) in asked[0]
    assert choose("day.atomicity", "", PROJECTS) == kept  # the dialog of the system has asked
    assert choose("", "", PROJECTS) is None
    assert len(asked) == 1
