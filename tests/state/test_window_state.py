"""Edits can be undone, whatever their order, and a cluster's number is its own for ever."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings, strategies as st

from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables import cluster_table as tables
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.project import Project
from napari_atomicity.state.cluster_rows import bare_rows, only, unclassified
from napari_atomicity.state.window_state import WindowState
from support import synthetic_analysis

CLASSES = ("Pt19", "Pt30", "Pt41")
MICROGRAPH = Micrograph(np.zeros((100, 100)), 0.05, "field")


def measured(places, first_id: int = 1) -> pd.DataFrame:
    """A table of clusters at some places, (N, 2) in pixels, without predictions."""
    places = np.asarray(places, float).reshape(-1, 2)
    rows = pd.DataFrame({"y_px": places[:, 0], "x_px": places[:, 1]})
    return tables.conform(
        rows.assign(
            image="field",
            cluster_id=np.arange(first_id, first_id + len(rows)),
            y_nm=0.05 * rows["y_px"],
            x_nm=0.05 * rows["x_px"],
            diameter_nm=1.0,
        )
    )


def square(places) -> list[np.ndarray]:
    return [np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) + p for p in np.reshape(places, (-1, 2))]


def classified(places, seed: int = 0) -> Analysis:
    """An analysis in which every array tells its rows apart."""
    rng = np.random.default_rng(seed)
    table = measured(places)
    n = len(table)
    p = rng.dirichlet(np.ones(len(CLASSES)), n)
    table = tables.conform(table, CLASSES)
    table[tables.probability_columns(CLASSES)] = p
    table["label_predicted"] = np.array(CLASSES, object)[p.argmax(axis=1)]
    table["confidence"] = p.max(axis=1)
    return Analysis(
        MICROGRAPH,
        tables.conform(tables.settle_labels(table), CLASSES),
        square(places),
        patches={c: rng.random((n, 4, 4), np.float32) for c in ("raw", "LCN")},
        embedding=rng.random((n, 3), np.float32),
        class_maps={c: rng.random((n, 2, 2), np.float32) for c in ("raw", "LCN")},
        field_of_view_nm=2.8,
    )


def grid(n: int) -> np.ndarray:
    return np.array([[10 + 20 * (i // 5), 10 + 20 * (i % 5)] for i in range(n)], float)


def assert_same(a: Analysis, b: Analysis) -> None:
    pd.testing.assert_frame_equal(a.table, b.table)
    np.testing.assert_array_equal(a.embedding, b.embedding)
    for name in ("patches", "class_maps"):
        for channel, values in getattr(a, name).items():
            np.testing.assert_array_equal(values, getattr(b, name)[channel])
    for one, other in zip(a.outlines, b.outlines, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def state():
    state = WindowState()
    state.clusters.set_analysis(classified(grid(6)))
    return state


def test_a_correction_counts_and_the_prediction_stays(state):
    predicted = state.table("field")["label_predicted"].tolist()
    state.clusters.relabel([("field", 2)], "unknown")
    table = state.table("field").set_index("cluster_id")
    assert table.loc[2, ["label", "label_corrected"]].tolist() == ["unknown", "unknown"]
    assert table["label_predicted"].tolist() == predicted
    state.clusters.relabel([("field", 2)], "")
    assert state.table("field").set_index("cluster_id").loc[2, "label"] == predicted[1]


def test_history_says_what_would_be_undone(state):
    state.clusters.relabel([("field", 1), ("field", 2)], "Pt41")
    state.clusters.remove_ids("field", [3])
    assert [e.description for e in state.history] == [
        "analyse",
        "label 2 clusters Pt41",
        "delete 1 cluster",
    ]
    state.history.undo()
    assert state.history.undone[-1].description == "delete 1 cluster"
    state.clusters.relabel([("field", 1)], "Pt19")
    assert not state.history.undone


def test_a_cluster_added_by_hand_waits_for_the_model(state):
    (new,) = state.clusters.add("field", measured([[50, 90]]), square([[50, 90]]))
    analysis = state.analysis("field")
    assert new == 7
    assert unclassified(analysis) == [7]
    assert np.isnan(analysis.embedding[-1]).all()
    assert analysis.class_maps["raw"].shape == (7, 2, 2)


def test_what_the_model_says_later_survives_undo_and_redo(state):
    (new,) = state.clusters.add("field", measured([[50, 90]]), square([[50, 90]]))
    part = only(state.analysis("field"), [new])
    table = part.table.assign(
        label_predicted="Pt41", confidence=1.0, p_Pt19=0.0, p_Pt30=0.0, p_Pt41=1.0
    )
    result = Analysis(
        MICROGRAPH,
        tables.settle_labels(table),
        part.outlines,
        {c: np.ones((1, 4, 4), np.float32) for c in ("raw", "LCN")},
        np.ones((1, 3), np.float32),
        {c: np.ones((1, 2, 2), np.float32) for c in ("raw", "LCN")},
    )
    state.clusters.add_predictions(result)
    known = state.analysis("field")
    assert known.table.set_index("cluster_id").loc[new, "label"] == "Pt41"
    assert len(state.history) == 2
    state.history.undo()
    state.history.redo()
    assert_same(state.analysis("field"), known)


def test_a_late_result_does_not_touch_what_has_moved_or_gone(state):
    late = state.analysis("field")
    moved = state.table("field").iloc[[1]].assign(y_px=99.0)
    state.clusters.move("field", moved, square([[99, 30]]))
    state.clusters.remove_ids("field", [5])
    state.clusters.relabel([("field", 3)], "unknown")
    state.clusters.replace_predictions(late)
    table = state.table("field").set_index("cluster_id")
    assert 5 not in table.index
    assert table.loc[2, "label_predicted"] == ""
    assert table.loc[3, "label"] == "unknown"
    assert table.loc[3, "label_predicted"] != ""


def test_analysing_again_keeps_numbers_and_corrections(state):
    state.clusters.relabel([("field", 2)], "unknown")
    places = grid(6)
    again = np.vstack([[[90, 90]], places[::-1] + 0.5])
    state.clusters.set_analysis(classified(again, seed=1))
    table = state.table("field").set_index("cluster_id")
    assert table.index.tolist() == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(table.loc[1:6, ["y_px", "x_px"]], places + 0.5)
    assert table.loc[7, "y_px"] == 90
    assert table.loc[2, "label"] == "unknown"


def around(places, half: float) -> list[np.ndarray]:
    """Square outlines of some size."""
    return [half * (o - o.mean(axis=0)) + o.mean(axis=0) for o in square(places)]


@pytest.mark.parametrize("stored", [False, True])
def test_clusters_that_were_split_or_merged_do_not_come_back(tmp_path, stored):
    """An analysis finds the whole cluster again, which would count beside its pieces."""
    np.save(tmp_path / "field.npy", MICROGRAPH.data)
    state, image = WindowState(), "field.npy"
    if stored:
        project = Project(tmp_path / "p.atomicity")
        project.add_paths([tmp_path / image])
        state.open_project(project, project.load_all())

    def analyse(seed: int) -> None:
        found = classified(grid(6), seed)
        state.clusters.set_analysis(
            replace(
                found,
                micrograph=MICROGRAPH.with_name(image),
                table=found.table.assign(image=image),
                outlines=around(grid(6), 6),
            )
        )

    analyse(0)
    pieces, whole = [(10, 7), (10, 13)], [(10, 40)]  # of the first; of the second and the third
    first, _ = state.clusters.replace(image, [1], measured(pieces), around(pieces, 3), "split")
    (merged,) = state.clusters.replace(image, [2, 3], measured(whole), around(whole, 14), "merge")
    state.clusters.relabel([(image, first), (image, merged)], "Pt41")
    analyse(1)
    table = state.table(image).set_index("cluster_id")
    assert table.index.tolist() == [4, 5, 6, 7, 8, 9]
    assert table.loc[[7, 8, 9], ["y_px", "x_px"]].to_numpy().tolist() == [
        [10, 7],
        [10, 13],
        [10, 40],
    ]
    assert table["label_corrected"].to_dict() == {4: "", 5: "", 6: "", 7: "Pt41", 8: "", 9: "Pt41"}
    state.close_project()


def test_a_result_that_has_the_edits_of_a_person_already_stays_as_it_is(state):
    """A model classifies a new detection as edited; then no cluster loses what it has found."""
    state.clusters.remove_ids("field", [1])
    again, merged = [grid(1)[0] + 1], [(10, 40)]
    state.clusters.add("field", measured(again), square(again))  # where one was deleted
    state.clusters.replace("field", [2, 3], measured(merged), around(merged, 14), "merge")
    inside = [(10, 45)]  # beside the centre of the merged one
    state.clusters.add("field", measured(inside), square(inside))
    detected = state.clusters.with_edits(classified(grid(6), seed=1))
    assert detected.table["cluster_id"].tolist() == [4, 5, 6, 7, 8, 9]
    places = detected.table[["y_px", "x_px"]].to_numpy()
    table = classified(places, seed=2).table.assign(cluster_id=detected.table["cluster_id"])
    result = replace(classified(places, seed=2), table=table, outlines=detected.outlines)
    assert_same(state.clusters.with_edits(result), result)


def test_numbers_of_clusters_begin_anew_in_another_project(state, tmp_path):
    """Also if an image has the name of one in the project before."""
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        np.save(folder / "field.npy", MICROGRAPH.data)
        project = Project(folder / "p.atomicity")
        project.add_paths([folder / "field.npy"])
        state.open_project(project, project.load_all())
        found = classified(grid(6))
        table = found.table.assign(image="field.npy")
        named = MICROGRAPH.with_name("field.npy")
        state.clusters.set_analysis(replace(found, micrograph=named, table=table))
        assert state.table("field.npy")["cluster_id"].tolist() == [1, 2, 3, 4, 5, 6]
    state.close_project()


def test_selection_forgets_what_is_gone(state):
    state.select([("field", 1), ("field", 2)])
    state.clusters.remove_ids("field", [1])
    assert state.selection == {("field", 2)}


def test_tables_of_all_images_are_one(state):
    other = Micrograph(np.zeros((50, 50)), 0.05, "other")
    result = classified(grid(2))
    state.clusters.set_analysis(
        Analysis(other, result.table.assign(image="other"), result.outlines)
    )
    assert state.table()["image"].value_counts().to_dict() == {"field": 6, "other": 2}
    state.remove_image("other")
    assert state.table()["image"].unique().tolist() == ["field"]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["label", "delete", "add", "move", "undo", "redo", "analyse"]),
        st.integers(0, 9),
        st.sampled_from(["Pt19", "Pt41", "unknown", ""]),
    ),
    max_size=12,
)


def act(state: WindowState, action: str, number: int, label: str) -> None:
    ids = state.table("field")["cluster_id"].tolist()
    chosen = ids[number % len(ids)] if ids else 0
    place = [[5.0 + 9 * number, 93.0]]
    if action == "label":
        state.clusters.relabel([("field", i) for i in (chosen, number)], label)
    elif action == "delete":
        state.clusters.remove_ids("field", [chosen, number])
    elif action == "add":
        state.clusters.add("field", measured(place), square(place))
    elif action == "move" and ids:
        state.clusters.move("field", measured(place, first_id=chosen), square(place))
    elif action == "undo" and len(state.history) > 1:
        state.history.undo()
    elif action == "redo":
        state.history.redo()
    elif action == "analyse":
        state.clusters.set_analysis(classified(grid(1 + number), seed=number))


@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(ACTIONS)
def test_any_sequence_of_edits_undone_gives_what_was_there(actions):
    state = WindowState()
    state.clusters.set_analysis(classified(grid(4)))
    original = state.analysis("field")
    at: dict[int, set[int]] = {}
    for action, number, label in actions:
        before = set(state.table("field")["cluster_id"])
        act(state, action, number, label)
        after = set(state.table("field")["cluster_id"])
        if action == "add":
            new = after - before
            assert len(new) == 1
            assert not new & set().union(*at.values(), before)
        at[len(at)] = after | before
        tables.validate(state.table("field"))
        now = state.analysis("field")
        assert len(now.outlines) == len(now.embedding) == len(now.table)
        assert all(len(v) == len(now.table) for v in now.class_maps.values())
    while len(state.history) > 1:
        state.history.undo()
    assert_same(state.analysis("field"), original)


def test_rows_without_arrays_fit_anywhere():
    rows = bare_rows(measured([[1, 2]]), square([[1, 2]]))
    assert rows.embedding.shape == (0, 0)
    assert rows.table.columns.tolist() == list(tables.columns())


class Turns:
    """The turns that a window gives a long step, by hand."""

    def __init__(self, state: WindowState) -> None:
        self.asked: list = []
        state.steps.run_chunked = self.asked.append

    def take(self, n: int) -> bool:
        """So many turns of no length: in each, one part is done."""
        more = True
        for _ in range(n):
            more = self.asked[-1](1e-9)
        return more


def images_of(n: int) -> WindowState:
    state = WindowState()
    for i in range(n):
        found = classified(grid(4), seed=i)
        micrograph = Micrograph(np.zeros((100, 100)), 0.05, f"field {i}")
        table = found.table.assign(image=micrograph.name)
        state.clusters.set_analysis(replace(found, micrograph=micrograph, table=table))
    return state


def everywhere(state: WindowState) -> list[tuple[str, int]]:
    return list(state.table()[["image", "cluster_id"]].itertuples(index=False, name=None))


def test_a_long_step_is_taken_in_turns_and_is_seen_only_as_a_whole():
    state = images_of(12)
    before = state.table()
    turns, heard = Turns(state), []
    state.changed.connect(lambda images, columns, rows: heard.append((images, columns, rows)))
    labelled = everywhere(state)
    state.clusters.relabel(labelled, "Pt41")
    assert state.busy and not heard
    turns.take(5)
    pd.testing.assert_frame_equal(state.table(), before)
    while turns.take(1):
        pass
    assert (state.table()["label"] == "Pt41").all()
    assert heard == [(tuple(state.images), {"label", "label_corrected"}, set(labelled))]
    assert state.history[-1].description == "label 48 clusters Pt41" and not state.busy
    state.history.undo()
    while turns.take(1):
        pass
    pd.testing.assert_frame_equal(state.table(), before)


def test_what_is_done_meanwhile_waits_for_the_long_step():
    state = images_of(12)
    turns = Turns(state)
    state.clusters.relabel(everywhere(state), "Pt41")
    turns.take(3)
    state.clusters.relabel([("field 2", 1)], "Pt19")
    assert [s.description for s in state.history[-2:]] == [
        "label 48 clusters Pt41", "label 1 cluster Pt19",
    ]  # fmt: skip
    assert not turns.take(1)  # nothing is left to do
    labels = state.table().set_index(["image", "cluster_id"])["label"]
    assert labels["field 2", 1] == "Pt19" and (labels == "Pt41").sum() == 47


def test_going_far_back_is_one_long_step():
    state = images_of(12)
    n = len(state.history)
    before = state.table()
    state.clusters.relabel(everywhere(state), "Pt41")
    state.clusters.remove(everywhere(state)[::3])
    turns = Turns(state)
    state.history.go_to(n)
    assert state.busy
    while turns.take(1):
        pass
    pd.testing.assert_frame_equal(state.table(), before)
    assert len(state.history.undone) == 2


def test_who_hears_of_a_long_step_may_take_another():
    state = images_of(12)
    turns = Turns(state)

    def once(images: tuple[str, ...]) -> None:
        state.changed.disconnect(once)
        state.clusters.relabel([(images[0], 2)], "Pt30")

    state.changed.connect(once)
    state.clusters.relabel(everywhere(state), "Pt41")
    while turns.take(1):
        pass
    assert [s.description for s in state.history[-2:]] == [
        "label 48 clusters Pt41", "label 1 cluster Pt30",
    ]  # fmt: skip


def test_patches_are_not_copied_when_a_cluster_goes_and_comes_back():
    state, analysis = WindowState(), classified(np.arange(40).reshape(20, 2))
    large = {c: np.random.default_rng(0).random((20, 330, 330), np.float32) for c in ("raw", "LCN")}
    analysis = replace(analysis, patches=large)
    state.clusters.set_analysis(analysis)
    state.clusters.remove_ids("field", [3, 7])
    left = state.analysis("field").patches
    kept = np.delete(np.arange(20), [2, 6])
    for channel, whole in large.items():
        assert left[channel].shape == (18, 330, 330)
        for row, was in enumerate(kept):
            assert np.shares_memory(left[channel][row], whole[was])
            np.testing.assert_array_equal(left[channel][row], whole[was])
    state.history.undo()
    assert all(state.analysis("field").patches[c] is large[c] for c in large)
    state.history.redo()
    again = state.analysis("field").patches["raw"]
    assert np.shares_memory(again[2], large["raw"][3])


def test_a_cluster_that_comes_to_large_arrays_brings_no_copy_of_them():
    state, analysis = WindowState(), classified(np.arange(40).reshape(20, 2))
    large = np.random.default_rng(0).random((20, 330, 330), np.float32)
    state.clusters.set_analysis(replace(analysis, patches={"raw": large}))
    (new,) = state.clusters.add("field", measured([[50.0, 50.0]]), square([[50.0, 50.0]]))
    assert new == 21
    patches = state.analysis("field").patches["raw"]
    assert np.isnan(patches[20]).all()
    assert all(np.shares_memory(patches[i], large[i]) for i in range(20))


def test_steps_that_change_many_clusters_take_turns(monkeypatch):
    monkeypatch.setattr("napari_atomicity.state.chunked_steps.MAX_CLUSTERS", 10)
    state = WindowState()
    state.clusters.set_analysis(classified(grid(20)))
    before, turns = state.table(), Turns(state)
    state.clusters.relabel([("field", i) for i in range(1, 16)], "Pt41")
    assert state.busy
    pd.testing.assert_frame_equal(state.table(), before)
    state.annotator = "Bob"  # what is under way is still by whoever began it
    assert state.history[-1].annotator != "Bob"
    assert (state.table()["label_corrected"] == "Pt41").sum() == 15
    state.history.undo()
    assert state.busy
    while turns.take(1):
        pass
    pd.testing.assert_frame_equal(state.table(), before)


def test_a_step_that_changes_few_of_many_clusters_is_done_when_the_call_returns(monkeypatch):
    monkeypatch.setattr("napari_atomicity.state.chunked_steps.MAX_CLUSTERS", 10)
    state = WindowState()
    state.clusters.set_analysis(classified(grid(20)))
    before = state.table()
    Turns(state)
    state.clusters.remove_ids("field", [3])
    assert not state.busy and 3 not in set(state.table("field")["cluster_id"])
    state.clusters.relabel([("field", 5)], "Pt41")
    assert state.table("field").set_index("cluster_id")["label"][5] == "Pt41"
    state.history.go_to(1)
    assert not state.busy
    pd.testing.assert_frame_equal(state.table(), before)


def test_many_steps_of_one_image_are_taken_back_in_turns():
    state = WindowState()
    state.clusters.set_analysis(classified(grid(20)))
    before, turns = state.table(), Turns(state)
    for i in range(1, 11):
        state.clusters.relabel([("field", i)], "Pt41")
    state.history.go_to(1)
    assert state.busy
    while turns.take(1):
        pass
    pd.testing.assert_frame_equal(state.table(), before)


def test_a_result_may_take_turns_with_all_that_is_compared():
    state = WindowState()
    state.clusters.set_analysis(classified(grid(6)))
    state.clusters.relabel([("field", 2)], "Pt41")
    before, turns = state.table(), Turns(state)
    state.clusters.set_analysis(classified(grid(6), seed=1), soon=True)
    pd.testing.assert_frame_equal(state.table(), before)
    while turns.take(1):
        pass
    now = state.table().set_index("cluster_id")
    assert now["label_corrected"].tolist() == ["", "Pt41", "", "", "", ""]
    assert not np.allclose(now["p_Pt19"], before["p_Pt19"])


def test_what_is_selected_elsewhere_is_deselected_with_the_image(state):
    """A key would change clusters of an image that is not on show."""
    first, second = "one.tif", "two.tif"
    for name in (first, second):
        state.clusters.set_analysis(synthetic_analysis(name=name))
    state.current = first
    state.select([(first, 1), (second, 2)])
    state.current = second  # a selection over several images stays
    assert len(state.selection) == 2
    state.select([(second, 2)])
    state.current = first
    assert state.selection == frozenset()


def test_the_classes_of_several_models_are_in_order_of_their_sizes():
    state = WindowState()
    state.clusters.set_analysis(synthetic_analysis(name="a.tif", classes=("Pt19", "Pt41", "Pt70")))
    state.clusters.set_analysis(synthetic_analysis(name="b.tif"))
    assert state.classes() == ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70"]
