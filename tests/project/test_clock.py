"""The clock is set back while people work."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from napari_atomicity.core import progress
from napari_atomicity.pipeline.live import live
from napari_atomicity.pipeline.live.arrivals import FileFingerprint
from napari_atomicity.project import Project, corrections
from napari_atomicity.state.window_state import WindowState


@pytest.fixture
def falling_clock(monkeypatch):
    """Each time that a correction is made, the clock has been set back by a day."""
    days = itertools.count()

    class Falling(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 11, 22, tzinfo=UTC) - timedelta(days=next(days))

    monkeypatch.setattr(corrections, "datetime", Falling)


def open_state(project: Project, annotator: str = "Ada") -> WindowState:
    state = WindowState()
    state.open_project(project, project.load_all())
    state.annotator = annotator
    return state


def test_the_last_correction_counts_whatever_its_time(project, falling_clock):
    state = open_state(project)
    for label in ("Pt19", "Pt30", "Pt41"):
        state.clusters.relabel([("a.tif", 1)], label)
    state.clusters.relabel([("a.tif", 2)], "Pt55")
    state.clusters.relabel([("a.tif", 2)], "Pt70")
    state.history.undo()
    state.close_project()
    with Project(project.path) as again:
        log = again.corrections()
        assert log["time"].is_monotonic_decreasing and log["time"].is_unique
        assert log["label"].tolist()[:3] == ["Pt19", "Pt30", "Pt41"]
        assert again.labels()["a.tif"] == {1: "Pt41", 2: "Pt55"}


def test_corrections_from_the_future_are_merged(project, falling_clock, folder, tmp_path):
    state = open_state(project)
    copy = project.copy(tmp_path / "copy.atomicity")
    with Project(copy) as theirs:
        open_state(theirs, "Ben").clusters.relabel([("a.tif", 3)], "Pt30")  # the later time
        state.clusters.relabel([("a.tif", 1)], "Pt19")
    report = project.merge(copy)
    assert report.n_new == 1
    assert project.labels()["a.tif"] == {1: "Pt19", 3: "Pt30"}


def test_no_time_that_is_shown_becomes_negative(monkeypatch):
    said = []
    clock = itertools.count()
    monkeypatch.setattr(progress.time, "time", lambda: -1e9)  # is not asked
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    report = progress.with_time_left(lambda done, total, message: said.append(message))
    for done in (0, 1, 2):
        report(done, 3, "Analysing")
    assert said == [
        "Analysing",
        "Analysing, 6 s of this step left",
        "Analysing, 2 s of this step left",
    ]
    monkeypatch.undo()
    assert live.compute_latency_s(FileFingerprint(10, 10**19)) == 0.0
