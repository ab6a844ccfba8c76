"""Functions in workers: what happens to their results."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.gui import tasks
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.state.window_state import TaskState


def test_a_newer_task_drops_the_result_of_the_older(viewer, qtbot, settle):
    state = binding_of(viewer).state
    release, got = threading.Event(), []

    def wait_for(value, progress=None, stop=None):
        release.wait(10)
        return value

    tasks.start(state, wait_for, "old", message="old", on_result=got.append, key="analysis")
    tasks.start(state, wait_for, "new", message="new", on_result=got.append, key="analysis")
    release.set()
    settle(viewer)
    qtbot.waitUntil(lambda: not tasks._alive)
    assert got == ["new"]


def test_the_end_of_a_task_leaves_the_status_of_one_that_is_still_running(viewer, settle):
    state = binding_of(viewer).state
    release = threading.Event()

    def wait(progress=None):
        progress(2, 5, "epoch 2")
        release.wait(10)

    long = tasks.start(state, wait, message="Training", on_result=lambda _: None, key="train")
    quick = tasks.start(state, int, message="Writing", on_result=lambda _: None, key="write")
    while quick.running:
        QApplication.processEvents()
    assert long.running and state.status.state is TaskState.RUNNING
    assert state.status.message in ("Training", "epoch 2")
    release.set()
    settle(viewer)
    assert state.status.state is TaskState.DONE


@pytest.mark.parametrize("of_images", [True, False])
def test_a_task_that_began_before_blind_mode_ends(viewer, settle, of_images):
    """What does not depend on the images is kept, as a new model; the window is free again."""
    state = binding_of(viewer).state
    began, release, got = threading.Event(), threading.Event(), []

    def train(progress=None):
        progress(2, 5, "epoch 2")
        began.set()
        release.wait(10)
        return "a model"

    task = tasks.start(
        state, train, message="Training", on_result=got.append, key="train", of_images=of_images
    )
    while not began.is_set() or state.status.message != "epoch 2":
        QApplication.processEvents()
    state.epoch += 1  # as blind mode does
    release.set()
    while task.running:
        QApplication.processEvents()
    settle(viewer)
    assert got == ([] if of_images else ["a model"])
    assert state.status.state is not TaskState.RUNNING


def test_nothing_keeps_the_arguments_and_the_result_of_a_task(viewer, qtbot, settle):
    given, results, alive = np.zeros(4), [], []

    def compute(values):
        return values + 1

    def on_result(value):
        results.append(value.sum())
        alive.append(weakref.ref(value))

    alive.append(weakref.ref(given))
    tasks.start(binding_of(viewer).state, compute, given, on_result=on_result, key="analysis")
    del given
    qtbot.waitUntil(lambda: not tasks._alive)
    settle(viewer)
    gc.collect()
    assert results == [4.0]
    assert [reference() for reference in alive] == [None, None]


@pytest.mark.parametrize(
    ("error", "is_logged"), [(AtomicityError("the disk is full"), False), (ValueError("x"), True)]
)
def test_only_the_traceback_of_a_bug_is_printed(viewer, errors, settle, caplog, error, is_logged):
    def refuse():
        raise error

    tasks.start(
        binding_of(viewer).state, refuse, message="Writing", on_result=print, key="analysis"
    )
    settle(viewer)
    assert len(errors) == 1 and str(error) in errors[0]
    assert ("Traceback" in caplog.text) == is_logged
