"""What was undone has no effect on the next analysis."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from itertools import count

import numpy as np
import pandas as pd
import pytest
from bench import analysed, write_image
from hypothesis import Phase, given, settings, strategies as st

from napari_atomicity.project import Project
from napari_atomicity.state.window_state import WindowState

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["label", "remove", "add", "move", "split", "merge", "undo", "redo", "analyse"]
        ),
        st.integers(0, 11),
        st.sampled_from(["Pt19", "Pt70", "unknown", ""]),
    ),
    min_size=1,
    max_size=8,
)
RING = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])


def shifted(table: pd.DataFrame, by_px: float) -> pd.DataFrame:
    """Return clusters a few pixels lower, as measured by hand."""
    pixel_nm = 0.1
    return table.assign(
        y_px=table["y_px"] + by_px,
        y_nm=table["y_nm"] + pixel_nm * by_px,
        label="", label_predicted="", label_corrected="",
    )  # fmt: skip


def act(state: WindowState, again, action: str, number: int, label: str) -> None:
    """Do what a person does to an image."""
    clusters, table = state.clusters, state.table("a.tif")
    n = len(table)
    one = table.iloc[[number % n]] if n else table
    ids = one["cluster_id"].tolist()
    if action == "undo":
        state.history.undo()
    elif action == "redo":
        state.history.redo()
    elif action == "analyse":
        clusters.set_analysis(again)
    elif not n:
        return
    elif action == "label":
        clusters.relabel([("a.tif", i) for i in ids], label)
    elif action == "remove":
        clusters.remove_ids("a.tif", ids)
    elif action == "add":
        clusters.add("a.tif", shifted(one, 2), [RING])
    elif action == "move":
        clusters.move("a.tif", shifted(one, 3), [RING])
    elif action == "split":
        halves = pd.concat([shifted(one, -2), shifted(one, 2)], ignore_index=True)
        clusters.replace("a.tif", ids, halves, [RING, RING], "split")
    elif action == "merge" and n > 1:
        both = [*ids, *table.iloc[[(number + 1) % n]]["cluster_id"]]
        clusters.replace("a.tif", both, shifted(one, 1), [RING], "merge")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with an image, its first analysis and the next one, which finds other clusters."""
    folder = tmp_path_factory.mktemp("undone")
    write_image(folder / "a.tif", 0)
    first = analysed(folder / "a.tif")
    table = first.table.assign(y_px=first.table["y_px"] + 0.2)
    return lambda: (folder, first, replace(first, table=table))  # its repr is short


def started(folder, first, name: str) -> tuple[WindowState, Project]:
    """Return a window with a project in which the image is analysed."""
    state, project = WindowState(), Project(folder / f"{name}.atomicity")
    project.add_paths([folder])
    state.annotator = "Ada"
    state.open_project(project, project.load_all())
    state.clusters.set_analysis(first, undoable=False)
    return state, project


NUMBERS = count()


@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(ACTIONS)
def test_any_edits_all_undone_then_analysed_again_is_analysed_again_at_once(results, actions):
    folder, first, again = results()
    state, project = started(folder, first, f"edited {next(NUMBERS)}")
    plain = WindowState()
    plain.clusters.set_analysis(first, undoable=False)
    plain.clusters.set_analysis(again)
    with project:
        for action in actions:
            act(state, again, *action)
        state.history.go_to(0)
        state.clusters.set_analysis(again)
        pd.testing.assert_frame_equal(state.table("a.tif"), plain.table("a.tif"))
        stored = project.load("a.tif").analysis.table
        pd.testing.assert_frame_equal(stored, plain.table("a.tif"))


@pytest.mark.parametrize("action", ["split", "merge", "add", "move"])
def test_an_edit_undone_twice_does_not_hide_a_cluster(results, action):
    folder, first, again = results()
    state, project = started(folder, first, f"twice {action}")
    with project:
        act(state, again, action, 4, "")
        state.history.undo()
        state.history.redo()
        state.history.undo()
        act(state, again, "remove", 7, "")
        state.clusters.set_analysis(again)
        assert set(state.table("a.tif")["cluster_id"]) == set(first.table["cluster_id"]) - {8}


def test_an_undo_of_a_split_that_names_no_entries_does_not_hide_the_cluster(results):
    """An undo that finds no entry of its author does not say which entries it takes back."""
    folder, first, again = results()
    state, project = started(folder, first, "earlier")
    act(state, again, "split", 4, "")
    state.history.undo()
    project.flush()
    with sqlite3.connect(project.path) as db:
        db.execute("DROP TRIGGER corrections_are_final")
        db.execute("UPDATE corrections SET undoes = NULL")
    with project:
        state.clusters.set_analysis(again)
        assert set(state.table("a.tif")["cluster_id"]) == set(first.table["cluster_id"])
