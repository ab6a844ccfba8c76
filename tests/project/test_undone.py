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
from napari_atomicity.statistics.annotators.agreement import NOT_A_CLUSTER, opinions

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
    project.image_files.update_metadata(first.micrograph)  # its hash: merges go by it
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


@pytest.mark.parametrize("has_project", [True, False])
def test_a_cluster_that_was_moved_away_stays_where_it_is(results, has_project):
    folder, first, again = results()
    if has_project:
        state, project = started(folder, first, "moved away")
    else:
        state = WindowState()
        state.clusters.set_analysis(first, undoable=False)
    row = state.table("a.tif").iloc[[4]]
    away = shifted(row, 25)
    state.clusters.move("a.tif", away, [RING])
    state.clusters.set_analysis(again)
    table = state.table("a.tif").set_index("cluster_id")
    assert table.loc[5, "y_px"] == away["y_px"].iloc[0]
    assert set(table.index) >= set(first.table["cluster_id"])
    state.history.undo()  # the analysis
    state.history.undo()
    state.clusters.set_analysis(again)
    assert set(state.table("a.tif")["cluster_id"]) == set(first.table["cluster_id"])
    if has_project:
        project.close()


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


def said(project: Project) -> dict[tuple[int, str], str]:
    """What each annotator says of each cluster, as the agreement has it."""
    return {
        (r.item[1], r.annotator): r.label
        for r in opinions(project.corrections()).labels.itertuples()
    }


def answered_blind(folder, first, name: str) -> tuple[WindowState, Project]:
    """Return a window in which Ada has labelled a cluster and removed one in blind mode."""
    state, project = started(folder, first, name)
    state.set_blind(True)
    state.clusters.relabel([("a.tif", 3)], "Pt19")
    state.clusters.remove([("a.tif", 4)])
    state.set_blind(False)
    return state, project


BLIND = {(3, "Ada"): "Pt19", (4, "Ada"): NOT_A_CLUSTER}


def test_what_was_said_blind_holds_after_an_open_edit_is_undone(results):
    folder, first, _ = results()
    state, project = answered_blind(folder, first, "blind")
    with project:
        assert said(project) == BLIND
        for label in ("Pt70", ""):
            state.clusters.relabel([("a.tif", 3)], label)
            withdrawn = {k: v for k, v in BLIND.items() if k[0] != 3}
            changed = withdrawn | ({(3, "Ada"): label} if label else {})
            assert said(project) == changed
            state.history.undo()
            assert said(project) == BLIND
            state.history.redo()
            assert said(project) == changed
            state.history.undo()
        state.clusters.remove([("a.tif", 4)])
        state.history.undo()
        state.annotator = "Bob"
        state.clusters.relabel([("a.tif", 3)], "Pt41")
        assert said(project) == BLIND | {(3, "Bob"): "Pt41"}
        state.history.undo()
        assert said(project) == BLIND
        assert opinions(project.corrections()).annotators["n_blind"].tolist() == [2]


def test_an_open_label_holds_after_a_blind_one_is_undone(results):
    folder, first, _ = results()
    state, project = started(folder, first, "open")
    with project:
        state.clusters.relabel([("a.tif", 3)], "Pt70")
        state.set_blind(True)
        state.clusters.relabel([("a.tif", 3)], "Pt19")
        state.history.undo()
        assert said(project) == {(3, "Ada"): "Pt70"}


def test_a_label_that_was_undone_is_not_merged(results):
    folder, first, _ = results()
    theirs, other = answered_blind(folder, first, "theirs")
    theirs.clusters.relabel([("a.tif", 3)], "Pt70")
    theirs.history.undo()
    theirs.clusters.relabel([("a.tif", 5)], "Pt41")
    theirs.history.undo()
    other.close()
    state, project = started(folder, first, "mine")
    with project:
        assert state.merge(other.path).n_new == 2
        assert said(project) == BLIND
        assert project.labels()["a.tif"] == {3: "Pt19"}


def test_a_blind_annotator_sees_their_own_labels_also_if_they_were_merged(results):
    folder, first, _ = results()
    _, other = answered_blind(folder, first, "their copy")
    other.close()
    state, project = started(folder, first, "with their labels")
    with project:
        state.merge(other.path)
        state.annotator = "Ada"
        state.set_blind(True)
        seen = state.table("a.tif").set_index("cluster_id")["label_corrected"]
        assert seen[3] == "Pt19" and 4 not in seen.index
        state.clusters.relabel([("a.tif", 3)], "Pt70")
        state.history.undo()
        assert said(project) == BLIND
        state.set_blind(False)
        state.annotator = "Bob"
        state.set_blind(True)
        assert (state.table("a.tif")["label_corrected"] == "").all()
        state.set_blind(False)
        state.history.undo()  # the merge
        state.annotator = "Ada"
        state.set_blind(True)
        assert (state.table("a.tif")["label_corrected"] == "").all()


@pytest.mark.parametrize("label", ["Pt70", ""])
def test_an_undo_after_a_merge_reaches_the_merged_project(results, label):
    folder, first, _ = results()
    theirs, other = answered_blind(folder, first, f"theirs later {label}")
    theirs.clusters.relabel([("a.tif", 3), ("a.tif", 5)], label)
    other.flush()
    state, project = started(folder, first, f"mine later {label}")
    with project:
        changed = {(4, "Ada"): NOT_A_CLUSTER}
        changed |= {(3, "Ada"): label, (5, "Ada"): label} if label else {}
        n = 2 if label else 1  # the fifth has no label that could be removed
        assert state.merge(other.path).n_new == 2 + n
        assert said(project) == changed
        theirs.history.undo()
        other.close()
        assert state.merge(other.path).n_new == n
        assert said(project) == BLIND
        assert project.labels()["a.tif"] == {3: "Pt19"}
        state.history.undo()
        assert said(project) == changed
        state.history.redo()
        assert said(project) == BLIND


@pytest.mark.parametrize("who", ["Ada", "Bob"])
def test_a_split_of_what_was_removed_blind_is_undone_in_the_merged_project(results, who):
    """Nothing that was said blind is lost, and who splits a cluster does not say it is none."""
    folder, first, again = results()
    theirs, other = answered_blind(folder, first, f"theirs split {who}")
    theirs.annotator = who
    act(theirs, again, "split", 3, "")
    assert set(theirs.table("a.tif")["cluster_id"]) == {*range(1, 15)} - {4}
    other.flush()
    state, project = started(folder, first, f"mine split {who}")
    with project:
        state.merge(other.path)
        assert said(project) == said(other) == BLIND
        theirs.history.undo()
        assert said(other) == BLIND
        other.close()
        state.merge(other.path)
        assert state.merge(other.path).n_new == 0
        state.clusters.set_analysis(again)
        assert set(state.table("a.tif")["cluster_id"]) == {*range(1, 13)}
        assert said(project) == BLIND
        state.history.go_to(0)
        assert said(project) == {}
        state.merge(other.path)
        assert said(project) == BLIND


def test_a_removal_blind_and_a_split_are_merged_both_ways(results):
    folder, first, again = results()
    ada, blind = answered_blind(folder, first, "both blind")
    bob, project = started(folder, first, "both open")
    bob.annotator = "Bob"
    act(bob, again, "split", 3, "")
    with project, blind:
        for _ in range(2):  # with the split, and after its undo
            blind.flush()
            bob.merge(blind.path)
            project.flush()
            ada.merge(project.path)
            assert said(blind) == said(project) == BLIND
            bob.history.go_to(0)
            assert set(bob.table("a.tif")["cluster_id"]) == {*range(1, 13)}
        assert set(ada.table("a.tif")["cluster_id"]) == {*range(1, 13)}
        ada.annotator = "Ada"
        ada.set_blind(True)
        assert set(ada.table("a.tif")["cluster_id"]) == {*range(1, 13)} - {4}


def test_an_open_removal_that_is_undone_leaves_the_blind_one_in_the_merged_project(results):
    folder, first, _ = results()
    theirs, other = answered_blind(folder, first, "theirs removed")
    theirs.clusters.remove([("a.tif", 4)])
    other.flush()
    state, project = started(folder, first, "mine removed")
    with project:
        state.merge(other.path)
        assert said(project) == BLIND
        theirs.history.undo()
        assert said(other) == BLIND
        other.close()
        state.merge(other.path)
        assert said(project) == BLIND
        state.history.undo()
        assert said(project) == BLIND
        state.history.undo()
        assert said(project) == {}
        state.history.go_to(2)
        assert said(project) == BLIND


def test_clusters_that_were_removed_and_made_again_are_the_same_ones_in_a_merge(results):
    """One is deleted and added at its place, two are merged and split: their labels come over."""
    folder, first, _ = results()
    theirs, other = started(folder, first, "made again theirs")
    theirs.annotator = "Mia"
    table = theirs.table("a.tif")
    deleted, one, two = (table[table["cluster_id"] == i] for i in (3, 6, 7))
    theirs.clusters.remove_ids("a.tif", [3])
    (added,) = theirs.clusters.add("a.tif", shifted(deleted, 0.5), [RING])
    places = ["y_px", "x_px", "y_nm", "x_nm"]
    middle = (one[places].to_numpy() + two[places].to_numpy()) / 2
    merged = one.assign(**dict(zip(places, middle[0], strict=True)))
    (whole,) = theirs.clusters.replace("a.tif", [6, 7], shifted(merged, 0), [RING], "merge")
    pieces = pd.concat([shifted(one, 0.1), shifted(two, 0.1)], ignore_index=True)
    again = theirs.clusters.replace("a.tif", [whole], pieces, [RING, RING], "split")
    theirs.clusters.relabel([("a.tif", i) for i in (added, again[0])], "Pt70")
    other.close()
    state, project = started(folder, first, "made again mine")
    with project:
        report = state.merge(other.path)
        assert report.unmatched.empty and report.n_labels == 2
        labels = state.table("a.tif").set_index("cluster_id")["label_corrected"]
        assert labels[labels != ""].to_dict() == {3: "Pt70", 6: "Pt70"}
        found = opinions(project.corrections()).labels
        assert found["item"].tolist() == [("a.tif", 3), ("a.tif", 6)]
        assert found["label"].tolist() == ["Pt70", "Pt70"]
        assert state.merge(other.path).n_new == 0


def halves(cluster: pd.DataFrame, by_px: float) -> pd.DataFrame:
    """Return the two pieces of a cluster that is split; one of them has its middle."""
    smaller = cluster.assign(diameter_nm=0.75 * cluster["diameter_nm"])
    return pd.concat([shifted(smaller, 0), shifted(smaller, by_px)], ignore_index=True)


def test_labels_of_pieces_are_not_those_of_the_whole_cluster(results):
    folder, first, _ = results()
    theirs, other = started(folder, first, "pieces theirs")
    theirs.annotator = "Mia"
    theirs.clusters.relabel([("a.tif", 3), ("a.tif", 8)], "Pt30")
    table = theirs.table("a.tif")
    one = table[table["cluster_id"] == 3]
    pieces = theirs.clusters.replace("a.tif", [3], halves(one, 2), [RING, RING], "split")
    again = theirs.table("a.tif").set_index("cluster_id", drop=False).loc[[pieces[1]]]
    last = theirs.clusters.replace("a.tif", [pieces[1]], halves(again, -2), [RING, RING], "split")
    theirs.clusters.relabel([("a.tif", pieces[0]), ("a.tif", last[1])], "Pt70")
    two = table[table["cluster_id"].isin([8, 9])]
    (whole,) = theirs.clusters.replace("a.tif", [8, 9], shifted(two[:1], 0), [RING], "merge")
    theirs.clusters.relabel([("a.tif", whole)], "aggregate")
    other.flush()
    state, project = started(folder, first, "pieces mine")
    with project, other:
        report = state.merge(other.path)
        assert report.n_labels == 0 and not project.labels()["a.tif"]
        assert report.replaced == {"a.tif": 3}
        assert sorted(report.unmatched["label"]) == ["Pt70", "Pt70", "aggregate"]
        assert report.unmatched["why"].str.contains("split or merged").all()
        # After their undo, what they said before holds.
        theirs.history.go_to(1)
        other.flush()
        report = state.merge(other.path)
        assert project.labels()["a.tif"] == {3: "Pt30", 8: "Pt30"}
        assert not report.replaced and report.unmatched.empty


def test_clusters_that_several_removed_are_counted_once(results):
    folder, first, _ = results()
    theirs, other = started(folder, first, "removed twice theirs")
    for who in ("Mia", "Bob"):
        theirs.annotator = who
        theirs.set_blind(True)
        theirs.clusters.remove([("a.tif", 4)])
        theirs.set_blind(False)
    other.close()
    state, project = started(folder, first, "removed twice mine")
    with project:
        report = state.merge(other.path)
        assert (report.n_new, report.n_changes) == (2, 1)


def test_a_cluster_that_was_added_and_removed_again_says_nothing_of_its_neighbour(results):
    folder, first, _ = results()
    theirs, other = started(folder, first, "added and removed theirs")
    theirs.annotator = "Mia"
    table = theirs.table("a.tif")
    theirs.clusters.relabel([("a.tif", 3)], "Pt70")
    (added,) = theirs.clusters.add("a.tif", shifted(table[table["cluster_id"] == 3], 1), [RING])
    theirs.clusters.remove_ids("a.tif", [added])
    other.close()
    state, project = started(folder, first, "added and removed mine")
    with project:
        report = state.merge(other.path)
        assert report.unmatched.empty and report.n_labels == 1
        assert opinions(project.corrections()).labels["label"].tolist() == ["Pt70"]
