"""Patches, class maps and embeddings that are read from a project when they are used."""

from __future__ import annotations

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench import analysed, write_image

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.project import EditKind, ImageEdit, Project, cached_arrays, open_any
from napari_atomicity.project.opening import survey
from napari_atomicity.state.window_state import WindowState

NAME = "a.tif"


def arrays_of(analysis: Analysis) -> list[np.ndarray]:
    return [*analysis.patches.values(), analysis.embedding, *analysis.class_maps.values()]


def values_of(analysis: Analysis) -> list[np.ndarray]:
    return [np.asarray(array) for array in arrays_of(analysis)]


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_image(tmp_path / NAME, 0)
    state = WindowState()
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths([tmp_path])
        state.open_project(project, project.load_all())
        state.clusters.set_analysis(analysed(tmp_path / NAME))
        project.flush()
        state.close_project()
    return tmp_path / "p.atomicity"


@pytest.fixture
def stored(path: Path) -> list[np.ndarray]:
    """The arrays as they are in the file."""
    with Project(path) as project:
        return values_of(project.load(NAME).analysis)


@pytest.fixture
def state(path: Path, stored: list[np.ndarray]) -> WindowState:
    """A window with the project, none of whose arrays is read."""
    opened = open_any(path, lazy=True)
    state = WindowState()
    state.open_project(opened.project, opened.stored, opened.catalogue)
    yield state
    state.close_project()


def test_values_and_rows_are_those_of_the_file(state, stored):
    analysis = state.analysis(NAME)
    for array, whole in zip(arrays_of(analysis), stored, strict=True):
        assert array.shape == whole.shape
        assert array.dtype == whole.dtype
        assert array.nbytes == whole.nbytes
        # Rows first: they are read alone as long as the image is not read as a whole.
        assert np.array_equal(array[1], whole[1])
        assert np.array_equal(array[1:3], whole[1:3])
        assert np.array_equal(array[-1], whole[-1])
    for array, whole in zip(arrays_of(analysis), stored, strict=True):
        assert np.array_equal(array[np.array([2, 0])], whole[[2, 0]])
        assert np.array_equal(array + 1, whole + 1)


@pytest.mark.parametrize(
    ("factor", "offset"), [(1.0, 0.0), (1e5, 0.0), (1e-9, 0.0), (1.0, 6e4)], ids=str
)
def test_patches_of_any_values_are_stored(tmp_path, factor, offset):
    """Values of 10^5 and more are infinite in half precision, those of 10^-9 zero."""
    write_image(tmp_path / NAME, 0)
    analysis = analysed(tmp_path / NAME)
    patches = {c: factor * p + np.float32(offset) for c, p in analysis.patches.items()}
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths([tmp_path])
        state = WindowState()
        state.open_project(project, project.load_all())
        state.clusters.set_analysis(replace(analysis, patches=patches))
        project.flush()
        for lazy in (False, True):
            loaded = project.load(NAME, lazy=lazy)
            assert loaded.damage == ""
            for channel, patch in patches.items():
                read = loaded.analysis.patches[channel]
                one = np.asarray(read[1])
                error = np.abs(np.asarray(read) - patch).max(axis=(1, 2))
                assert (error <= 0.02 * patch.std(axis=(1, 2))).all()
                assert np.array_equal(one, np.asarray(read)[1])
        state.close_project()


def test_infinite_patches_of_an_older_version_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(cached_arrays, "_MAX_ERROR", np.inf)  # all in half precision, as then
    write_image(tmp_path / NAME, 0)
    analysis = analysed(tmp_path / NAME)
    channel = next(iter(analysis.patches))
    bright = analysis.patches[channel].copy()
    bright[0] *= 1e6
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths([tmp_path])
        state = WindowState()
        state.open_project(project, project.load_all())
        patches = {**analysis.patches, channel: bright}
        state.clusters.set_analysis(replace(analysis, patches=patches))
        project.flush()
        for lazy in (False, True):
            read = np.asarray(project.load(NAME, lazy=lazy).analysis.patches[channel])
            assert np.isnan(read[0]).all() and np.isfinite(read[1:]).all()
        state.close_project()


@pytest.mark.parametrize("lazy", [False, True])
def test_an_image_without_class_maps_is_read_as_it_was_written(tmp_path, lazy):
    write_image(tmp_path / NAME, 0)
    before = replace(analysed(tmp_path / NAME), class_maps={})
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths([tmp_path])
        state = WindowState()
        state.open_project(project, project.load_all())
        state.clusters.set_analysis(before)
        project.flush()
        found = project.load(NAME, lazy=lazy)
        assert found.damage == "" and found.analysis.class_maps == {}
        for channel, patches in before.patches.items():
            read = found.analysis.patches[channel]
            np.testing.assert_allclose(np.asarray(read), patches, rtol=2e-3, atol=2e-3)
            assert np.array_equal(read[1], np.asarray(read)[1])
        state.close_project()


def test_an_image_whose_file_is_read_again_does_not_read_its_arrays(state, stored):
    found = survey(state.project, [NAME])[NAME].analysis
    assert all(array.kept is None for array in arrays_of(found))
    assert equal(values_of(found), stored)


def test_a_new_analysis_leaves_the_arrays_of_the_one_before(state, stored):
    before = state.analysis(NAME)
    other = replace(
        before,
        patches={c: np.asarray(p) + 1 for c, p in before.patches.items()},
        class_maps={c: np.asarray(m) + 2 for c, m in before.class_maps.items()},
        embedding=np.asarray(before.embedding) + 3,
    )
    state.clusters.set_analysis(other)
    state.project.flush()
    assert not equal(values_of(state.project.load(NAME).analysis), stored)
    assert equal(values_of(before), stored)
    state.history.undo()
    state.project.flush()
    assert equal(values_of(state.analysis(NAME)), stored)
    assert equal(values_of(state.project.load(NAME).analysis), stored)


def test_patches_that_are_not_replaced_are_not_read(state, stored):
    before = state.analysis(NAME)
    embedding = np.asarray(before.embedding) + 3
    state.clusters.set_analysis(replace(before, embedding=embedding))
    state.project.flush()
    assert all(patches.kept is None for patches in before.patches.values())
    assert equal(values_of(before), stored)
    assert np.array_equal(state.project.load(NAME).analysis.embedding, embedding)


def test_other_predictions_leave_the_patches_where_they_are(state, stored):
    before = state.analysis(NAME)
    table = before.table.assign(confidence=0.5)
    result = replace(before, table=table, embedding=np.asarray(before.embedding) + 3)
    state.clusters.replace_predictions(result, "adapt")
    after = state.analysis(NAME)
    assert all(after.patches[channel] is array for channel, array in before.patches.items())
    assert after.embedding is result.embedding


def test_a_removed_cluster_comes_back_with_its_arrays(state, stored):
    state.clusters.remove([(NAME, 2)])
    state.history.undo()
    state.project.flush()
    assert equal(values_of(state.analysis(NAME)), stored)
    assert equal(values_of(state.project.load(NAME).analysis), stored)


def test_a_copy_of_the_project_gives_the_arrays(state, stored, path):
    copy = path.with_name("copy.atomicity")
    state.project.copy(copy)
    state.attach_project(Project(copy))
    path.unlink()
    assert equal(values_of(state.analysis(NAME)), stored)


def test_a_project_saved_from_memory_holds_the_arrays(state, stored, path):
    other = path.with_name("other.atomicity")
    state.attach_project(Project(other))
    state.project.flush()
    assert equal(values_of(state.project.load(NAME).analysis), stored)


def test_rows_of_a_closed_project_are_missing(state, stored):
    analysis = state.analysis(NAME)
    state.project.close()
    assert np.isnan(analysis.embedding[0]).all()


class HeldWriter:
    """Lets the background thread of a project wait until it is released, and counts its jobs."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n_jobs, self.may_write, self.is_writing = 0, threading.Event(), threading.Event()
        self._write = project._background._write
        monkeypatch.setattr(project._background, "_write", self.write)

    def write(self, job: object) -> None:
        self.n_jobs += 1
        self.is_writing.set()
        assert self.may_write.wait(60)
        self._write(job)


def adapted(analysis: Analysis, confidence: float) -> Analysis:
    embedding = np.asarray(analysis.embedding) + confidence
    return replace(
        analysis, table=analysis.table.assign(confidence=confidence), embedding=embedding
    )


def test_an_edit_that_is_undone_before_it_is_written_is_not_written(state, stored, monkeypatch):
    held = HeldWriter(state.project, monkeypatch)
    before = state.analysis(NAME)
    state.clusters.replace_predictions(adapted(before, 0.25), "first")
    assert held.is_writing.wait(60)  # the first can't be cancelled any more
    state.clusters.replace_predictions(adapted(before, 0.5), "second")
    state.history.undo()
    state.history.redo()
    state.history.undo()
    held.may_write.set()
    state.project.flush()
    assert held.n_jobs == 1
    analysis = state.project.load(NAME).analysis
    assert (analysis.table["confidence"] == 0.25).all()
    assert np.array_equal(analysis.embedding, state.analysis(NAME).embedding)
    state.history.undo()
    state.project.flush()
    assert equal(values_of(state.project.load(NAME).analysis), stored)
    assert state.project.load(NAME).analysis.table.equals(before.table)
    assert equal(values_of(before), stored)


def test_what_waits_for_a_long_step_is_written_after_it(state, monkeypatch):
    project, tries = state.project, threading.Semaphore(0)
    connect = project._background._connect

    def impatient() -> sqlite3.Connection:
        db = connect()
        db.execute("PRAGMA busy_timeout = 1")
        db.set_trace_callback(lambda text: text.startswith("BEGIN") and tries.release())
        return db

    monkeypatch.setattr(project._background, "_connect", impatient)
    after = adapted(state.analysis(NAME), 0.25)
    with project.together():  # as a step of the window that takes several turns
        project.record(ImageEdit(NAME, EditKind.PREDICTION, "Ada"), state.analysis(NAME), after)
        assert all(tries.acquire(timeout=60) for _ in range(3))
    project.flush()
    assert (project.load(NAME).analysis.table["confidence"] == 0.25).all()


def test_a_table_is_made_when_it_is_used(state):
    analysis = state.analysis(NAME)
    assert "table" not in vars(analysis)
    assert "cluster_id" in state.columns(NAME) and state.classes()
    assert "table" not in vars(state.analysis(NAME))
    assert analysis.table is analysis.table
    again = state.project.load(NAME).analysis
    assert analysis.table.equals(again.table)
    assert replace(again, outlines=[]).table is again.table


def save_from_memory(state: WindowState, path: Path) -> dict[int, str]:
    """Save a window in a new project; return the labels that are in it."""
    state.attach_project(Project(path))
    assert state.unsaved == ""
    state.project.flush()
    with Project(path, read_only=True) as saved:
        assert len(saved.load(NAME).analysis.table) == len(state.table(NAME))
        return saved.labels()[NAME]


def test_arrays_of_a_deleted_project_are_read_and_its_labels_are_not_lost(state, stored, path):
    analysis = state.analysis(NAME)
    state.clusters.relabel([(NAME, 1)], "Pt30")
    path.unlink()
    assert equal(values_of(analysis), stored)
    state.clusters.relabel([(NAME, 2)], "Pt41")
    assert "deleted" in state.unsaved and path.name in state.unsaved
    with pytest.raises(AtomicityError, match="deleted") as caught:
        state.project.check_place()
    assert caught.value.path == path
    other = path.with_name("other.atomicity")
    assert save_from_memory(state, other) == {1: "Pt30", 2: "Pt41"}
    with Project(other, read_only=True) as saved:
        assert equal(values_of(saved.load(NAME).analysis), stored)


def test_arrays_of_a_lost_project_are_an_error_that_names_it(state, path, monkeypatch):
    # SQLite waits so long for a file that is damaged like this
    monkeypatch.setattr("napari_atomicity.project.connection._BUSY_TIMEOUT_S", 0.1)
    analysis = state.analysis(NAME)
    state.clusters.relabel([(NAME, 1)], "Pt30")
    for file in (path, Path(f"{path}-wal")):
        os.truncate(file, 0)
    with ThreadPoolExecutor(1) as worker:  # the connection of this thread has read it before
        with pytest.raises(AtomicityError) as caught:
            worker.submit(np.asarray, next(iter(arrays_of(analysis)))).result()
        assert caught.value.path == path
    state.clusters.relabel([(NAME, 2)], "Pt41")
    other = path.with_name("other.atomicity")
    assert save_from_memory(state, other) == {1: "Pt30", 2: "Pt41"}
