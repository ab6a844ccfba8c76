"""Damaged rows of a project: the image is marked as failed, the rest opens, nothing is lost."""

from __future__ import annotations

import random
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench import analysed, write_image

from napari_atomicity.atoms.analysis import AtomAnalysis
from napari_atomicity.atoms.marks import Mark
from napari_atomicity.atoms.table import conform, empty_table
from napari_atomicity.core.errors import AtomicityError, ReadError
from napari_atomicity.core.scale_reference import ScaleReference
from napari_atomicity.models.scale.intensity_scale import ConstrainedMixture
from napari_atomicity.project import Project, open_any
from napari_atomicity.state.window_state import WindowState

HOSTILE = (
    "x", "", "{", "null", "[]", "{}", "[1, 2]", '{"a": 1}', '"text"', "1e400", "NaN", "[" * 100_000,
    '{"model": 5, "session": 3}', "[[1, 2], [3]]", "[NaN, NaN]", "a\0b", "n" * 300, "p/" * 2_500,
    b"", b"\xff\xfe\x00", b"PAR1" * 20, b"9999999,9999999;x\x9c", b"1" * 8, 0, -1, 7, 2**62,
    0.5, -1e300, float("inf"), None,
)  # fmt: skip
"""Values that a column may hold, whatever its type."""
ROWS = {
    "images": "name = 'a.tif'",
    "model_files": "1",
    "identity": "1",
    "models": "1",
    "settings": "1",
    "runs": "1",
}
"""Which rows are damaged; in other tables one row of the first image."""


def scale_of(n_classes: int) -> ConstrainedMixture:
    ones = (1.0,) * n_classes
    reference = ScaleReference(ones, ones, (((1.0, 0.0), (0.0, 1.0)),) * n_classes)
    shares = np.full((1, n_classes), 1 / n_classes)
    return ConstrainedMixture(reference, np.ones(1), np.zeros((1, 2)), shares, np.ones((1, 2)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with a project in which every table has rows."""
    folder = tmp_path_factory.mktemp("whole")
    state = WindowState()
    for seed, name in enumerate(("a.tif", "b.tif")):
        write_image(folder / name, seed)
    with Project(folder / "p.atomicity") as project:
        project.add_paths([folder])
        state.open_project(project, project.load_all())
        state.annotator = "Ada"
        for seed, name in enumerate(("a.tif", "b.tif")):
            first = analysed(folder / name, seed=seed)
            project.image_files.update_metadata(first.micrograph, b"PNG")
            n_classes = sum(c.startswith("p_") for c in first.table)
            classes = [c[2:] for c in first.table if c.startswith("p_")]
            parameters = {**first.parameters, "model": {"model_id": "m-1", "classes": classes}}
            first = replace(
                first,
                table=first.table.assign(model_id="m-1"),
                scale=scale_of(n_classes),
                parameters=parameters,
            )
            state.clusters.set_analysis(first)
            micrograph = first.micrograph
            support = np.ones(micrograph.shape, bool)
            candidates = conform(empty_table())
            state.atoms.set_analysis(
                AtomAnalysis(micrograph, candidates, 0.5, support, 0.1, "atoms-1")
            )
            state.atoms.add(name, [Mark(10.0, 12.0)])
        state.clusters.relabel([("a.tif", 1), ("b.tif", 2)], "Pt19")
        state.clusters.remove([("a.tif", 4)])
        state.clusters.set_regions("a.tif", [np.array([[0, 0], [0, 9], [9, 9]])])
        state.sessions.group(["a.tif", "b.tif"], "evening")
        project.atoms.mark_as_viewed(["a.tif"], "Ada")
        project.set_setting("window", {"view": {}})
        project.add_run({"command": "analyse"})
        project.model_files.add("mine", b"weights", "{}")
        project.flush()
        state.close_project()
    Project(folder / "p.atomicity").close()
    return folder


def columns_of(path: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(path) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return [
            (table, row[1]) for table in tables for row in db.execute(f"PRAGMA table_info({table})")
        ]


def damage(path: Path, table: str, column: str, value: object) -> bool:
    """Put a value into a row; return whether the tables allow it."""
    where = ROWS.get(table, "image_id = (SELECT image_id FROM images WHERE name = 'a.tif')")
    with sqlite3.connect(path) as db:
        triggers = db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        try:
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))
            changed = True
        except (sqlite3.Error, OverflowError):
            changed = False
        for _, sql in triggers:
            db.execute(sql)
    db.close()
    return changed


def dump(path: Path) -> list[tuple]:
    with sqlite3.connect(path) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return [(t, db.execute(f"SELECT * FROM {t}").fetchall()) for t in tables]


def use(opened) -> WindowState:
    """Read all that the window reads of a project."""
    project = opened.project
    state = WindowState()
    state.open_project(project, opened.stored, opened.catalogue)
    state.annotator = "Ada"
    for name in state.images:
        analysis = state.analysis(name)
        if analysis is not None:
            analysis.ratios()
        atoms = state.atoms.of(name)
        if atoms is not None:
            _ = atoms.table
        project.manual_edits(name)
        project.positions(name)
    _ = state.table(), state.classes(), state.sessions.groups()
    _ = project.images(), project.labels(), project.runs(), project.atoms.marks()
    _ = project.atoms.annotations(), project.atoms.free_ids(), project.blind_labels("Ada")
    _ = project.atoms.blind_marks("Ada"), project.model_files.names(), project.setting("window")
    return state


@pytest.fixture
def path(whole, tmp_path) -> Path:
    """A copy of the project beside a copy of its images."""
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    return folder / "p.atomicity"


def open_damaged(path: Path, *damages: tuple[str, str, object]):
    for table, column, value in damages:
        assert damage(path, table, column, value), (table, column)
    return open_any(path)


def state_of(project: Project, image: str) -> tuple[str, str]:
    (found,) = [i for i in project.images() if i.name == image]
    return found.state, found.error


DAMAGED = {
    "JSON that is none": ("images", "parameters", "{"),
    "deep JSON": ("images", "metadata", "[" * 100_000),
    "JSON of another shape": ("images", "parameters", "[1, 2]"),
    "values of another shape": ("images", "parameters", '{"model": 5}'),
    "units of the intensity that are text": ("images", "parameters", '{"own_units": "0.9"}'),
    "units of the intensity that are no list": ("images", "parameters", '{"own_units": {"a": 1}}'),
    "a number instead of units": ("images", "parameters", '{"own_units": 0.9}'),
    "a unit of the intensity below 0": ("images", "parameters", '{"own_units": [0.9, -1]}'),
    "a unit of the intensity that is NaN": ("images", "parameters", '{"own_units": [NaN]}'),
    "an intensity of one atom that is text": ("images", "parameters", '{"intensity_per_atom": ""}'),
    "labels of an unknown estimator": ("images", "parameters", '{"labels_from": "guess"}'),
    "an estimator of labels that is no text": ("images", "parameters", '{"labels_from": [1]}'),
    "text where a number is due": ("clusters", "y_px", "here"),
    "an infinite number": ("clusters", "diameter_nm", float("inf")),
    "an impossible frame": ("clusters", "frame", -3),
    "a pixel size that is none": ("images", "pixel_size_nm", "large"),
    "an impossible pixel size": ("images", "pixel_size_nm", -1.0),
    "an impossible shape": ("images", "height", 2**62),
    "a path of 5,000 characters": ("images", "path", "p/" * 2_500),
    "a part of a path of 5,000 characters": ("images", "relative_path", "p" * 5_000),
    "a path with NUL": ("images", "path", "a\0b"),
    "a name with NUL": ("images", "name", "a\0b"),
    "a name of 300 characters": ("images", "name", "n" * 300),
    "a name that is no text": ("images", "name", b"\xff\xfe"),
    "bytes that are no UTF-8": ("images", "metadata", b'{"a": "\xff"'),
    "a cut outline": ("clusters", "outline", b"123"),
    "an outline of no numbers": ("clusters", "outline", b"\xff" * 24),
    "a cut patch": ("pictures", "patches", b"\0" * 7),
    "patches of another size": ("pictures", "patch_px", 10**6),
    "no channels": ("pictures", "channels", 5),
    "probabilities that are none": ("predictions", "probabilities", '"all"'),
    "too many probabilities": ("predictions", "probabilities", "[0.1, 0.1, 0.1]"),
    "probabilities beyond 1": ("predictions", "probabilities", "[2, 2, 2, 2, 2]"),
    "a confidence that is none": ("predictions", "confidence", "high"),
    "a label that is no text": ("predictions", "label_predicted", b"Pt19"),
    "regions that are none": ("images", "regions", "[[1, 2], [3]]"),
    "a scale of another shape": ("images", "scale", '{"weight": [1]}'),
    "a field of view that is none": ("images", "field_of_view_nm", "wide"),
    "candidates that are none": ("atoms", "candidates", b"PAR1" * 9),
    "an impossible distance of atoms": ("atoms", "group_distance_nm", 0),
    "a support of another size": ("atoms", "support", b"99999999,99999999;x\x9c"),
}


@pytest.mark.parametrize("damages", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_row_costs_its_image(path, damages):
    opened = open_damaged(path, damages)
    before = dump(path)
    project = opened.project
    (image,) = [name for name in project.names if name != "b.tif"]
    state, reason = state_of(project, image)
    assert state == "failed" and "damaged" in reason and "again" in reason
    assert opened.stored[image].damage == reason
    assert any("Damaged in the project file" in note for note in opened.notes)
    assert state_of(project, "b.tif") == ("analysed", "")
    assert len(opened.stored["b.tif"].analysis.table) == 12
    window = use(opened)
    log = project.corrections()
    assert log["what"].tolist() == ["label", "label", "remove"]
    assert log["image"].tolist() == [image, "b.tif", image]
    assert project.atoms.marks()["image"].tolist() == [image, "b.tif"]
    window.close_project()
    Project(path).close()
    assert dump(path) == before, "nothing is overwritten"


@pytest.mark.parametrize(
    "kind",
    [
        "JSON that is none", "text where a number is due", "a pixel size that is none",
        "a name of 300 characters", "a cut outline", "a cut patch", "too many probabilities",
        "regions that are none", "bytes that are no UTF-8",
    ],
)  # fmt: skip
def test_a_damaged_image_is_analysed_again_with_its_labels(path, kind):
    opened = open_damaged(path, DAMAGED[kind], ("images", "next_id", "next"))
    state = use(opened)
    (image,) = [name for name in state.images if name != "b.tif"]
    fresh = analysed(path.with_name("a.tif"), name=image)
    state.clusters.set_analysis(fresh)
    assert state.unsaved == ""
    assert state_of(opened.project, image) == ("analysed", "")
    labels = state.table(image).set_index("cluster_id")["label_corrected"]
    assert labels[labels != ""].to_dict() == {1: "Pt19"}
    assert len(labels) == 11  # the one that was removed does not come back
    state.close_project()
    again = open_any(path)
    assert not again.stored[image].damage
    assert len(again.stored[image].analysis.table) == 11
    assert len(again.project.corrections()) == 3
    again.close()


def test_classes_of_a_model_that_are_damaged_are_written_again(path):
    opened = open_damaged(path, ("models", "classes", '["Pt19", "Pt19"]'))
    assert {i.state for i in opened.project.images()} == {"failed"}
    state = use(opened)
    for name in ("a.tif", "b.tif"):
        fresh = analysed(path.with_name(name))
        classes = [c[2:] for c in fresh.table if c.startswith("p_")]
        parameters = {**fresh.parameters, "model": {"model_id": "m-1", "classes": classes}}
        table = fresh.table.assign(model_id="m-1")
        state.clusters.set_analysis(replace(fresh, table=table, parameters=parameters))
    state.close_project()
    with Project(path) as project:
        assert all(not c.damage and c.analysis is not None for c in project.load_all().values())


def test_marks_stay_where_candidates_are_damaged(path):
    opened = open_damaged(path, DAMAGED["candidates that are none"])
    atoms = opened.stored["a.tif"].atoms
    assert atoms.analysis is None and len(atoms.marks) == 1
    assert opened.stored["a.tif"].analysis is not None
    opened.close()


def test_damaged_entries_of_the_logs_are_kept_and_do_no_harm(path):
    with sqlite3.connect(path) as db:
        for values in (
            ("when", b"\xff", 1, "c", "f", "y", "x", "label", b"\x00", 5, None),
            ("", "", 999, 2**62, float("inf"), float("inf"), None, "what", "n" * 10_000, "", ""),
        ):
            db.execute(
                "INSERT INTO corrections (time, annotator, image_id, cluster_id, frame, y_nm, "
                "x_nm, what, label, label_predicted, model_id) VALUES (?,?,?,?,?,?,?,?,?,?,"
                "coalesce(?, ''))",
                values,
            )
        db.execute(
            "INSERT INTO marks (time, annotator, image_id, atom_id, frame, y_px, x_px, y_nm, "
            "x_nm, what, uncertain, blind) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (b"t", 5, 1, float("inf"), "f", "y", "x", "y", "x", b"atom", "u", "b"),
        )
    db.close()
    opened = open_any(path)
    state = use(opened)
    log = opened.project.corrections()
    assert len(log) == 5
    assert log["image"].tolist()[3:] == ["a.tif", "image 999"]
    assert log["cluster_id"].tolist()[3] == -1
    state.clusters.relabel([("a.tif", 2)], "Pt30")
    state.clusters.set_analysis(analysed(path.with_name("a.tif")))
    assert state.unsaved == ""
    state.close_project()


@pytest.mark.parametrize("column", ["session", "known", "earlier"])
def test_a_damaged_session_costs_itself(path, column):
    opened = open_damaged(path, ("image_sessions", column, b"\xff"))
    assert set(opened.project.image_files.session_entries()) == {"b.tif"}
    opened.close()


def test_damaged_settings_and_runs_cost_themselves(path):
    opened = open_damaged(path, ("settings", "value", "{"), ("runs", "record", "[1]"))
    assert opened.project.setting("window", "default") == "default"
    assert opened.project.runs() == []
    opened.close()


def test_a_damaged_project_is_not_merged_half(path, tmp_path):
    other = tmp_path / "other.atomicity"
    shutil.copy(path, other)
    for table, column, value in (("clusters", "y_px", "here"), ("corrections", "frame", "f")):
        damage(other, table, column, value)
    with Project(path) as project:
        before = len(project.corrections())
        try:
            project.merge(other)
        except AtomicityError as error:
            assert "damaged" in str(error)
        assert len(project.corrections()) == before


def test_a_merge_that_fails_names_the_other_project(path, tmp_path):
    other = tmp_path / "other.atomicity"
    shutil.copy(path, other)
    with sqlite3.connect(other) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'corrections'"
        ).fetchone()
    db.close()
    with other.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
    with (
        Project(path) as project,
        pytest.raises(ReadError, match=r"^other\.atomicity: .*p\.atomicity is damaged"),
    ):
        project.merge(other)


@pytest.mark.parametrize("regions", ["[[1, 2], [3]]", '{"a": 1}', "[" * 100_000, b"\xff", 7, None])
def test_damaged_excluded_regions_do_not_stop_a_merge(path, tmp_path, regions):
    other = tmp_path / "other.atomicity"
    shutil.copy(path, other)
    with Project(path) as project:
        expected = project.merge(other).n_images
        for damaged in (other, path):
            damage(damaged, "images", "regions", regions)
            assert project.merge(other).n_images == expected


@pytest.mark.parametrize("seed", range(15))
def test_any_value_anywhere_opens_and_changes_nothing(path, seed):
    random_ = random.Random(seed)
    columns = columns_of(path)
    for _ in range(3):
        damage(path, *random_.choice(columns), random_.choice(HOSTILE))
    before = dump(path)
    opened = open_any(path)
    use(opened)
    assert len(opened.project.corrections()) == 3
    opened.close()
    assert dump(path) == before
