"""What a person has made stays, in whatever order the steps come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bench import write_image
from scipy.ndimage import gaussian_filter

from napari_atomicity.atoms.marks import Mark
from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables import cluster_table as tables
from napari_atomicity.detection.clusters import DetectionSettings
from napari_atomicity.io.images import load
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.pipeline.analysis import detect_clusters
from napari_atomicity.project import Project
from napari_atomicity.project.atoms import AtomRecords
from napari_atomicity.project.opening import add_paths
from napari_atomicity.state.review_queue import queue_of
from napari_atomicity.state.reviewing import Reviewing
from napari_atomicity.state.window_state import WindowState, images_with_unstored_edits
from support import synthetic_analysis

SIZE_NM = 0.1  # of the images of `write_image`


def opened(path) -> WindowState:
    project, state = Project(path), WindowState()
    state.annotator = "Ada"
    state.open_project(project, project.load_all())
    return state


def reopened(state: WindowState) -> WindowState:
    path = state.project.path
    state.close_project()
    return opened(path)


def analysed(micrograph: Micrograph, n: int = 6) -> Analysis:
    """Clusters at the same pixels whatever the pixel size is."""
    found = synthetic_analysis(n, micrograph.name)
    factor = micrograph.pixel_size_nm / SIZE_NM
    lengths = {c: found.table[c] * factor for c in ("y_nm", "x_nm", "diameter_nm")}
    return replace(found, micrograph=micrograph, table=found.table.assign(**lengths))


def without_clusters(analysis: Analysis) -> Analysis:
    return replace(
        analysis,
        table=analysis.table.iloc[:0],
        outlines=[],
        embedding=analysis.embedding[:0],
        patches={k: v[:0] for k, v in analysis.patches.items()},
        class_maps={k: v[:0] for k, v in analysis.class_maps.items()},
    )


def analyse(state: WindowState, image: str, n: int = 6) -> None:
    found = state.clusters.with_edits(analysed(state.micrograph(image), n))
    state.clusters.set_analysis(found, undoable=False)


@pytest.fixture
def state(tmp_path):
    names = ("a.tif", "b.tif")
    for seed, name in enumerate(names):
        write_image(tmp_path / name, seed)
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths([tmp_path])
        for name in names:
            project.image_files.update_metadata(load(tmp_path / name))
    state = opened(tmp_path / "p.atomicity")
    yield state
    state.close_project()


# ---- work in memory that a project takes in later
def in_memory(tmp_path) -> WindowState:
    """Edits by two people, in an image that no project has."""
    write_image(tmp_path / "a.tif")
    state = WindowState()
    state.annotator = "Ada"
    state.add_image(load(tmp_path / "a.tif"))
    analyse(state, "a.tif", 8)
    state.clusters.remove_ids("a.tif", [3])
    state.clusters.relabel([("a.tif", 1), ("a.tif", 2)], "Pt55")
    state.annotator = "Ben"
    state.clusters.relabel([("a.tif", 2)], "Pt19")
    state.clusters.remove_ids("a.tif", [5])
    state.history.undo()
    return state


def test_a_new_project_has_what_each_person_did(tmp_path):
    state = in_memory(tmp_path)
    state.attach_project(Project(tmp_path / "p.atomicity"))
    state.clusters.relabel([("a.tif", 4)], "Pt70")
    log = state.project.corrections()
    assert log[["annotator", "cluster_id", "what", "label"]].to_numpy().tolist() == [
        ["Ada", 3, "remove", ""],
        ["Ada", 1, "label", "Pt55"],
        ["Ada", 2, "label", "Pt55"],
        ["Ben", 2, "label", "Pt19"],
        ["Ben", 4, "label", "Pt70"],
    ]
    again = reopened(state)
    assert again.table("a.tif")["label_corrected"].tolist()[:3] == ["Pt55", "Pt19", "Pt70"]
    analyse(again, "a.tif", 8)
    assert again.table("a.tif")["cluster_id"].tolist() == [1, 2, 4, 5, 6, 7, 8]
    again.close_project()


def by_model(analysis: Analysis, model_id: str) -> Analysis:
    table = analysis.table.assign(model_id=model_id, label_predicted=model_id, label=model_id)
    return replace(analysis, table=table, parameters={"model": {"model_id": model_id}})


def test_a_new_project_has_the_predictions_of_the_last_model(tmp_path):
    write_image(tmp_path / "a.tif")
    state = WindowState()
    state.add_image(load(tmp_path / "a.tif"))
    micrograph = state.micrograph("a.tif")
    state.clusters.set_analysis(by_model(analysed(micrograph, 3), "one"), undoable=False)
    state.clusters.replace_predictions(by_model(state.analysis("a.tif"), "two"))
    state.clusters.set_analysis(state.clusters.with_edits(by_model(analysed(micrograph), "three")))
    state.attach_project(Project(tmp_path / "p.atomicity"))
    again = reopened(state)
    assert (again.table("a.tif")[["model_id", "label_predicted"]] == "three").all(axis=None)
    again.close_project()


@pytest.fixture
def disk(monkeypatch):
    """Call it with True for a full disk."""
    full = False

    def full_or(write):
        def wrapped(*args, **kwargs):
            if full:
                raise AtomicityError("the disk is full")
            return write(*args, **kwargs)

        return wrapped

    def set_full(now: bool) -> None:
        nonlocal full
        full = now

    for owner, name in ((Project, "record"), (Project, "add"), (AtomRecords, "record")):
        monkeypatch.setattr(owner, name, full_or(getattr(owner, name)))
    return set_full


def test_an_analysis_while_the_disk_is_full_keeps_what_a_person_did(state, disk):
    analyse(state, "a.tif", 8)
    disk(True)
    state.clusters.remove_ids("a.tif", [3])
    analyse(state, "a.tif", 8)
    state.clusters.relabel([("a.tif", 4)], "Pt70")
    state.clusters.remove_ids("a.tif", [4])
    disk(False)
    assert state.saver.save_again()
    assert state.table("a.tif")["cluster_id"].tolist() == [1, 2, 5, 6, 7, 8]
    again = reopened(state)
    analyse(again, "a.tif", 8)
    assert again.table("a.tif")["cluster_id"].tolist() == [1, 2, 5, 6, 7, 8]
    again.close_project()


def test_labels_before_a_removal_come_before_it_in_the_log(state, disk):
    disk(True)
    analyse(state, "a.tif", 8)
    for label in ("Pt19", "Pt70"):
        state.clusters.relabel([("a.tif", 4)], label)
    state.history.undo()
    state.clusters.remove_ids("a.tif", [4])
    disk(False)
    assert state.saver.save_again()
    log = state.project.corrections()
    log = log[~log["undo"] & ~log["undone"]]
    assert log[["what", "label"]].to_numpy().tolist() == [["label", "Pt19"], ["remove", ""]]


def test_marks_made_while_the_disk_was_full_keep_their_author(state, disk):
    disk(True)
    for person, y_px in (("Ada", 20.0), ("Ben", 40.0)):
        state.annotator = person
        state.atoms.add("a.tif", [Mark(y_px, y_px)])
    disk(False)
    assert state.saver.save_again()
    assert state.project.atoms.marks()["annotator"].tolist() == ["Ada", "Ben"]


def test_a_pixel_size_entered_while_the_disk_was_full_is_saved(tmp_path, disk):
    write_image(tmp_path / "a.tif")
    state = WindowState()
    state.attach_project(Project(tmp_path / "p.atomicity"))
    disk(True)
    state.add_image(load(tmp_path / "a.tif"))
    state.pixel_sizes.set("a.tif", 0.05)
    disk(False)
    assert state.saver.save_again()
    again = reopened(state)
    assert again.pixel_sizes.get("a.tif") == 0.05
    again.close_project()


def test_a_cluster_deleted_while_the_disk_was_full_stays_deleted(tmp_path, monkeypatch):
    write_image(tmp_path / "a.tif")
    state = WindowState()
    state.attach_project(Project(tmp_path / "p.atomicity"))
    state.add_image(load(tmp_path / "a.tif"))

    def full(*args, **kwargs):
        raise AtomicityError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Project, "record", full)
        analyse(state, "a.tif", 8)
        state.clusters.remove_ids("a.tif", [3])
        state.clusters.relabel([("a.tif", 4)], "Pt70")
        assert not state.saver.save_again()
    state.clusters.remove_ids("a.tif", [5])  # with it, all is saved
    assert state.saver.save_again()
    again = reopened(state)
    analyse(again, "a.tif", 8)
    assert again.table("a.tif")["cluster_id"].tolist() == [1, 2, 4, 6, 7, 8]
    assert again.project.corrections()["what"].tolist() == ["remove", "label", "remove"]
    again.close_project()


def test_a_new_project_has_the_marks_of_each_person(tmp_path):
    write_image(tmp_path / "a.tif")
    state = WindowState()
    state.add_image(load(tmp_path / "a.tif"))
    for person, y_nm in (("Ada", 2.0), ("Ben", 4.0)):
        state.annotator = person
        state.atoms.add("a.tif", [Mark(10 * y_nm, 10 * y_nm)])
    state.attach_project(Project(tmp_path / "p.atomicity"))
    marks = state.project.atoms.marks()
    assert marks[["annotator", "y_nm"]].to_numpy().tolist() == [["Ada", 2.0], ["Ben", 4.0]]
    state.close_project()


def test_entered_pixel_sizes_are_asked_about_before_they_are_lost(tmp_path):
    write_image(tmp_path / "a.tif")
    state = WindowState()
    state.add_image(load(tmp_path / "a.tif"))
    assert not images_with_unstored_edits(state)
    state.pixel_sizes.set("a.tif", 0.05)
    assert images_with_unstored_edits(state) == ["a.tif"]


# ---- pixel sizes
def test_a_pixel_size_entered_after_the_analysis_is_saved_with_a_new_project(tmp_path):
    write_image(tmp_path / "a.tif")
    state = WindowState()
    state.add_image(load(tmp_path / "a.tif"))
    (image,) = state.images
    analyse(state, image)
    state.pixel_sizes.set(image, 0.05)
    state.attach_project(Project(tmp_path / "p.atomicity"))
    state = reopened(state)
    assert state.pixel_sizes.get(image) == 0.05 and state.pixel_sizes.has_changed(image)
    state.close_project()


def test_an_image_without_clusters_waits_for_an_analysis_at_its_new_pixel_size(state):
    empty = without_clusters(analysed(state.micrograph("a.tif")))
    state.clusters.set_analysis(empty, undoable=False)
    analyse(state, "b.tif")
    assert state.to_be_analysed() == []
    state.pixel_sizes.set("a.tif", 0.05)
    waiting = state.to_be_analysed()
    again = reopened(state)
    assert again.pixel_sizes.has_changed("a.tif") and again.to_be_analysed() == waiting == ["a.tif"]
    assert "analysed_pixel_size_nm" not in again.analysis("a.tif").parameters
    again.close_project()


@pytest.mark.parametrize("reopen", [False, True])
def test_what_was_done_by_hand_follows_an_analysis_at_another_pixel_size(state, reopen):
    analyse(state, "a.tif", 8)
    table = state.table("a.tif")
    own = {"y_px": 60.0, "x_px": 100.0, "y_nm": 6.0, "x_nm": 10.0, "label_predicted": ""}
    row = table.iloc[[0]].assign(**own, label="", model_id="")
    row = row[[name for name in row.columns if not name.startswith("p_")]]
    outline = np.array([[55, 95], [55, 105], [65, 105], [65, 95.0]])
    (added,) = state.clusters.add("a.tif", tables.conform(row), [outline])
    state.clusters.remove_ids("a.tif", [3])
    now = reopened(state) if reopen else state
    now.pixel_sizes.set("a.tif", 2 * SIZE_NM)
    analyse(now, "a.tif", 8)
    found = now.table("a.tif").set_index("cluster_id")
    assert 3 not in found.index and len(found) == 8, "a removed cluster came back"
    np.testing.assert_allclose(found["y_nm"], 2 * SIZE_NM * found["y_px"])
    assert found.loc[added, "diameter_nm"] == pytest.approx(2 * table["diameter_nm"].iloc[0])
    for size_nm in (2 * SIZE_NM, SIZE_NM, 3 * SIZE_NM):  # again, back, and at one more
        now.pixel_sizes.set("a.tif", size_nm)
        analyse(now, "a.tif", 8)
        now = reopened(now) if reopen else now
        again = now.table("a.tif")
        assert len(again) == 8 and 3 not in again["cluster_id"].tolist(), size_nm
    now.pixel_sizes.set("a.tif", 2 * SIZE_NM)
    analyse(now, "a.tif", 8)
    found = now.table("a.tif").set_index("cluster_id")
    intensity = table["integrated_intensity"].iloc[0]
    assert found.loc[added, "integrated_intensity"] == pytest.approx(4 * intensity)
    if reopen:
        now.close_project()


def test_an_image_whose_clusters_were_all_removed_keeps_its_analysed_pixel_size(state):
    analyse(state, "a.tif", 3)
    analyse(state, "b.tif", 3)
    state.clusters.remove_ids("a.tif", [1, 2, 3])
    state.pixel_sizes.set("a.tif", 0.05)
    again = reopened(state)
    assert again.pixel_sizes.has_changed("a.tif") and again.to_be_analysed() == ["a.tif"]
    again.close_project()


def test_open_marks_follow_a_pixel_size_that_was_entered_in_blind_mode(state):
    state.atoms.add("a.tif", [Mark(10.0, 10.0, intensity=1.0, sigma_nm=0.1)])
    state.set_blind(True)
    state.atoms.add("a.tif", [Mark(50.0, 50.0, intensity=1.0)])
    state.pixel_sizes.set("a.tif", 2 * SIZE_NM)
    state.set_blind(False)
    again = reopened(state)
    assert not again.atoms.outdated("a.tif")
    (row,) = again.atoms.table("a.tif").to_dict("records")
    assert (row["y_nm"], row["intensity"], row["sigma_nm"]) == pytest.approx((2.0, 4.0, 0.2))
    again.close_project()


# ---- images that were removed
def test_an_image_that_comes_back_in_blind_mode_is_blind_and_keeps_its_labels(state, tmp_path):
    for name in ("a.tif", "b.tif"):
        analyse(state, name)
    state.clusters.relabel([("a.tif", 1), ("a.tif", 2)], "Pt55")
    state.remove_from_project(["a.tif"])
    state.set_blind(True)
    state.add_contents(add_paths(state.project, [str(tmp_path / "a.tif")]))
    shown = state.table("a.tif")
    assert len(shown) == 6 and not shown[["label_predicted", "label_corrected"]].any(axis=None)
    state.clusters.relabel([("a.tif", 3)], "Pt19")
    state.set_blind(False)
    labels = ["Pt55", "Pt55", "Pt19", "", "", ""]
    assert state.table("a.tif")["label_corrected"].tolist() == labels
    analyse(state, "a.tif")
    assert state.table("a.tif")["label_corrected"].tolist() == labels


def test_blind_marks_of_an_image_that_comes_back_are_shown(state, tmp_path):
    state.set_blind(True)
    state.atoms.add("a.tif", [Mark(10.0, 10.0)])
    state.set_blind(False)
    state.remove_from_project(["a.tif"])
    state.set_blind(True)
    state.add_contents(add_paths(state.project, [str(tmp_path / "a.tif")]))
    assert len(state.atoms.table("a.tif")) == 1


def test_a_review_agrees_with_the_prediction_that_undo_has_brought_back(state):
    for name in ("a.tif", "b.tif"):
        analyse(state, name)
    before = state.table("b.tif")["label_predicted"].tolist()
    ids = state.table("b.tif")["cluster_id"]
    review = Reviewing(state, queue_of([("b.tif", i) for i in ids]))
    state.remove_from_project(["a.tif"])  # b.tif is labelled anew with what is left
    analysis = state.analysis("b.tif")
    table = tables.settle_labels(analysis.table.assign(label_predicted="Pt70"))
    group = state.history[-1].group
    state.clusters.replace_all_predictions([replace(analysis, table=table)], "label", group=group)
    with review.following_changes():
        state.history.undo()
    assert state.table("b.tif")["label_predicted"].tolist() == before
    review.show()
    review.agree()
    assert state.table("b.tif")["label_corrected"].iloc[0] == before[0]


# ---- samples
def test_the_reference_stays_the_reference_when_it_is_renamed(tmp_path):
    for folder in "AB":
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / f"{folder}.tif")
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths([tmp_path])
    state = opened(tmp_path / "p.atomicity")
    sessions = state.sessions
    sessions.reference = "B"
    sessions.rename_sample("B", "fresh")
    assert sessions.reference_of(sessions.samples()) == "fresh"
    state.history.undo()
    assert sessions.reference_of(sessions.samples()) == "B"
    sessions.group_sample(["A.tif"], "C")
    assert sessions.reference_of(sessions.samples()) == "B"
    state.close_project()


def two_and_one(micrograph: Micrograph) -> tuple[Analysis, Analysis]:
    """Two clusters that touch, beside others, as two detections and as one."""
    return tuple(
        detect_clusters(micrograph, DetectionSettings(split_touching=split))
        for split in (True, False)
    )


@pytest.mark.parametrize(
    ("labels", "first", "expected"),
    [
        (("Pt19", "Pt55"), "two", ["Pt19", "Pt55"]),
        (("", "Pt55"), "two", ["", "Pt55"]),
        (("aggregate",), "one", ["aggregate"]),
        (("", ""), "two", [""]),
    ],
)
def test_no_detection_lies_over_labelled_clusters(labels, first, expected):
    size, nm_per_px = 256, 0.05
    y, x = np.mgrid[:size, :size] * nm_per_px
    pixels = np.full((size, size), 100.0)
    for cy, cx in ((2, 2), (2, 10.8), (10.8, 2), (6.4, 5.8), (6.4, 7.0)):
        height = 1 - ((y - cy) ** 2 + (x - cx) ** 2) / 0.65**2
        pixels += 400 * np.sqrt(np.clip(height, 0, None))
    pixels = gaussian_filter(pixels, 2) + np.random.default_rng(0).normal(0, 4, pixels.shape)
    micrograph = Micrograph(pixels.astype(np.float32), nm_per_px, name="p")
    two, one = two_and_one(micrograph)
    assert (len(two.table), len(one.table)) == (5, 4)
    state = WindowState()
    state.add_image(micrograph)
    before, after = (two, one) if first == "two" else (one, two)
    state.clusters.set_analysis(before, undoable=False)

    def in_the_middle() -> pd.DataFrame:
        table = state.table("p")
        near = np.hypot(table["y_nm"] - 6.4, table["x_nm"] - 6.4) < 1
        return table[near].sort_values("x_nm")

    for i, label in zip(in_the_middle()["cluster_id"], labels, strict=True):
        state.clusters.relabel([("p", int(i))], label)
    for _ in range(2):  # again it changes nothing
        state.clusters.set_analysis(after)
        assert in_the_middle()["label_corrected"].tolist() == expected
        assert len(state.table("p")) == 3 + len(expected)
