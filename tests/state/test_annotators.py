"""Several people's marks in a project: in from packs, merged, and back as atoms."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from answered import write_answers
from bench import write_image
from marked import PLACES, as_marks, atoms_at, described, filled, found_atoms, three

from napari_atomicity.atoms.marks import Mark
from napari_atomicity.core.errors import AtomicityError, Cancelled
from napari_atomicity.io.images import load
from napari_atomicity.io.pack_options import PackOptions
from napari_atomicity.project import Project
from napari_atomicity.project.packs.browser_packs import PackRequest
from napari_atomicity.state.annotator_packs import (
    browser_packs_of,
    pack_images,
    proposed_pairs,
    remove_annotator,
    take_in_packs,
)
from napari_atomicity.state.annotators import (
    annotations_in,
    compare,
    consensus_edit,
    measured_sites,
    write_comparison,
)
from napari_atomicity.state.window_state import WindowState


@pytest.fixture
def project(tmp_path):
    """Three images of 120 × 160 pixels of 0.1 nm, none of which was read yet."""
    for seed, name in enumerate(("a.tif", "b.tif", "c.tif")):
        write_image(tmp_path / name, seed)
    with Project(tmp_path / "p.atomicity") as made:
        made.add_paths([tmp_path / f"{name}.tif" for name in "abc"])
        yield made


# ---- packs
def test_packs_come_in_by_content_and_twice_add_nothing(project, tmp_path):
    one = filled(tmp_path, "Ada", a="20,10\n60,30,1", b="none")
    other = filled(tmp_path, "Bo", a="21,10")
    came = take_in_packs(project, [one, other])
    assert came.came.to_numpy().tolist() == [
        ["a.tif", "Ada", 2, True, False], ["b.tif", "Ada", 0, True, False],
        ["a.tif", "Bo", 1, True, False],
    ]  # fmt: skip
    assert not len(came.refused) and came.n_new == 3
    before = project.atoms.marks()
    again = take_in_packs(project, [one, other])
    assert again.n_new == 0 and len(again.came) == 3 and not len(again.refused)
    pd.testing.assert_frame_equal(project.atoms.marks(), before)
    said = annotations_in(described(project))
    assert sorted(said.counts.to_numpy().tolist()) == [
        ["a.tif", "Ada", 2, 1], ["a.tif", "Bo", 1, 0], ["b.tif", "Ada", 0, 0],
    ]  # fmt: skip
    assert said.marks[["y_px", "x_nm"]].to_numpy().tolist() == [[10, 2.0], [30, 6.0], [10, 2.1]]


def test_a_renamed_image_is_the_same_one_and_another_of_that_name_is_not(project, tmp_path):
    pack = filled(tmp_path, "Ada", a="20,10", b="1,1", c="2,2")
    (tmp_path / "a.tif").rename(tmp_path / "moved.tif")
    (tmp_path / "b.tif").unlink()
    write_image(tmp_path / "c.tif", 9)
    with Project(tmp_path / "q.atomicity") as other:
        other.add_paths([tmp_path / "moved.tif", tmp_path / "c.tif"])
        described(other)
        found = take_in_packs(other, [pack])
        assert found.came[["image", "by_name"]].to_numpy().tolist() == [["moved.tif", False]]
        assert found.refused.to_numpy().tolist() == [
            ["b.tif by Ada", "this project has no such image"],
            ["c.tif by Ada", "the image of that name has another content here"],
        ]
    # One that was never read and can't be: by its name.
    assert take_in_packs(project, [pack]).came["by_name"].tolist() == [True, True]


def test_a_pack_that_can_not_be_read_is_named_once(project, tmp_path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no archive")
    ((what, why),) = take_in_packs(project, [broken]).refused.to_numpy().tolist()
    assert what == "broken.zip" and why and "broken.zip" not in why


def test_what_somebody_said_otherwise_is_not_mixed(project, tmp_path):
    project.atoms.add_marks("a.tif", "Ada", as_marks([(5, 5)]), "elsewhere")
    found = take_in_packs(project, [filled(tmp_path, "Ada", a="20,10\n3,3", b="7,7")])
    assert found.came["image"].tolist() == ["b.tif"]
    assert "1 marks, 2 in the pack" in found.refused["why"][0]
    assert len(project.atoms.annotations()[0]) == 2


def test_a_second_session_in_a_browser_is_a_repetition(project, tmp_path):
    options = PackOptions(examples=False, repeats=0)
    (made,) = browser_packs_of(described(project).images(), PackRequest(options))
    first = write_answers(tmp_path / "1.json", made, "Ada", {0: [(10, 20)]}, session="a" * 32)
    again = write_answers(
        tmp_path / "2.json", made, "Ada", {0: [(10, 20), (30, 60)]}, session="b" * 32
    )
    changed = write_answers(tmp_path / "3.json", made, "Ada", {0: [(1, 2)]}, session="a" * 32)
    assert take_in_packs(project, [first]).n_new == 1
    for _ in range(2):
        taken = take_in_packs(project, [again])
        assert taken.n_new == 0 and not len(taken.refused)
        assert "If these are two people, change one name" in taken.notes[0]
    later = write_answers(
        tmp_path / "4.json", made, "Ada", {0: [(10, 20)]}, session="b" * 32, saved="2027"
    )
    take_in_packs(project, [later])
    (row,) = compare(annotations_in(project), {}).with_themselves
    assert row["f1"] == 1
    assert "twice" in take_in_packs(project, [again]).refused["why"][0]
    take_in_packs(project, [later])
    assert "other marks of it" in take_in_packs(project, [changed]).refused["why"][0]
    compared = compare(annotations_in(project), {})
    (row,) = compared.with_themselves
    assert (row["annotator"], row["marks"], row["f1"]) == ("Ada", 1, 1)
    assert len(annotations_in(project).marks) == 1


def test_a_later_file_of_a_session_replaces_the_earlier_one(project, tmp_path):
    options = PackOptions(examples=False, repeats=0)
    (made,) = browser_packs_of(described(project).images(), PackRequest(options))
    first = write_answers(tmp_path / "1.json", made, "Ada", {0: [(10, 20)]}, saved="2026-01-01")
    late = write_answers(
        tmp_path / "2.json", made, "Ada", {0: [(30, 60), (1, 2)], 1: []}, saved="2026-01-02"
    )

    def marks() -> list[int]:
        return sorted(annotations_in(project).marks["y_px"].astype(int))

    state = WindowState()
    state.open_project(project, project.load_all())
    taken = take_in_packs(project, [first])
    state.show_added(taken.added, "first")
    taken = take_in_packs(project, [late])
    state.show_added(taken.added, "late")
    assert taken.n_new == 2 and not len(taken.refused) and marks() == [1, 30]
    assert take_in_packs(project, [late]).n_new == 0
    assert "were saved later" in take_in_packs(project, [first]).refused["why"][0]
    assert marks() == [1, 30]
    state.history.undo()
    assert marks() == [10]
    assert take_in_packs(project, [late]).n_new == 2 and marks() == [1, 30]
    # Marks that were changed here stay.
    state.annotator = "Ada"
    state.set_blind(True)
    state.atoms.add("a.tif", [Mark(80.0, 70.0)])
    state.set_blind(False)
    later = write_answers(tmp_path / "3.json", made, "Ada", {0: [(5, 5)]}, saved="2026-01-03")
    assert "other marks of it" in take_in_packs(project, [later]).refused["why"][0]
    assert marks() == [1, 30, 80]


def test_who_marks_again_without_proposals_began_from_none(project, tmp_path):
    atoms = pd.DataFrame({"image": ["a.tif"], "y_px": [10.0], "x_px": [20.0]})
    request = PackRequest(PackOptions(examples=False, repeats=0), proposals=atoms)
    images = described(project).images()
    (made,) = browser_packs_of(images, request)
    proposed = write_answers(tmp_path / "1.json", made, "Ada", {0: [(10, 20)]})
    state = WindowState()
    state.open_project(project, project.load_all())
    state.show_added(take_in_packs(project, [proposed]).added, "pack")
    assert proposed_pairs(project) == [("a.tif", "Ada")]
    state.history.undo()
    take_in_packs(project, [filled(tmp_path, "Ada", a="20,10")])
    assert proposed_pairs(project) == []


def test_who_has_sent_a_pack_goes_on_from_it_blind(project, tmp_path):
    take_in_packs(described(project), [filled(tmp_path, "Ada", a="20,10\n60,30,1")])
    state = WindowState()
    state.open_project(project, project.load_all())
    state.annotator = "Ada"
    state.set_blind(True)
    table = state.atoms.table("a.tif")
    assert table["x_px"].tolist() == [20, 60] and table["uncertain"].tolist() == [False, True]
    state.atoms.remove([("a.tif", int(table["atom_id"].iloc[0]))])
    state.atoms.add("a.tif", [Mark(80.0, 70.0)])
    assert annotations_in(project).marks["x_px"].tolist() == [60, 70]
    state.annotator = "Bo"
    state.set_blind(True)
    assert len(state.atoms.table()) == 0, "others see nothing of it"


def test_marks_that_are_removed_come_back_by_undo_and_by_another_import(project, tmp_path):
    state = WindowState()
    state.open_project(described(project), project.load_all())
    pack = filled(tmp_path, "Ada", a="20,10\n60,30,1", b="none")
    take_in_packs(project, [pack, filled(tmp_path, "Bo", a="20,11")])
    before = annotations_in(project)
    marks = before.marks.sort_values("y_px", ignore_index=True)
    remove_annotator(state, "Ada")
    assert annotations_in(project).annotators == ["Bo"]
    state.history.undo()
    assert annotations_in(project).counts.equals(before.counts)
    again = annotations_in(project).marks
    assert again.sort_values("y_px", ignore_index=True).equals(marks)
    state.history.redo()
    assert annotations_in(project).annotators == ["Bo"]
    assert take_in_packs(project, [pack]).n_new == 2
    assert len(annotations_in(project).marks) == 3


def test_an_import_that_is_stopped_adds_nothing(project, tmp_path):
    packs = [filled(tmp_path, who, a="20,10\n60,30") for who in ("Ada", "Bo")]
    with pytest.raises(Cancelled):
        take_in_packs(project, packs, stop=lambda: len(project.atoms.marks()) > 0)
    assert not len(project.atoms.marks()) and take_in_packs(project, packs).n_new == 2


def test_a_bad_pack_does_not_keep_the_others_out(project, tmp_path):
    bad = filled(tmp_path, "Bo", a="999,10")
    empty = filled(tmp_path, "Cleo")
    found = take_in_packs(project, [bad, empty, filled(tmp_path, "Ada", a="20,10")])
    assert found.came["annotator"].tolist() == ["Ada"]
    why = dict(found.refused.to_numpy().tolist())
    assert "999" in why["Bo"] and "filled in" in why["Cleo"]


def test_the_pixel_size_is_the_projects(project, tmp_path):
    described(project).image_files.set_pixel_size("a.tif", 0.2)
    take_in_packs(project, [filled(tmp_path, "Ada", a="20,10")])
    said = annotations_in(project)
    assert said.marks[["y_nm", "x_nm"]].to_numpy().tolist() == [[2.0, 4.0]]
    assert said.looked["area_nm2"].tolist() == [pytest.approx(120 * 160 * 0.04)]


def test_a_pack_of_a_project_has_its_sizes_and_what_the_model_found(project, tmp_path):
    described(project).image_files.set_pixel_size("b.tif", 0.3)
    images = project.images()[:2]
    atoms = atoms_at([(10, 20)]).assign(image="b.tif")
    archive = pack_images(images, tmp_path / "out", "Ada", atoms, 0.1)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert archive.exists() and not manifest["blind"] and manifest["tolerance_nm"] == 0.1
    assert [i["pixel_size_nm"] for i in manifest["images"]] == pytest.approx([0.1, 0.3])
    assert (tmp_path / "out/tables/b.tif.csv").read_text() == "X,Y,uncertain\n20.00,10.00,\n"
    # Who began from that is told so, also when the project is opened again.
    with (tmp_path / "out/tables/b.tif.csv").open("a") as table:
        table.write("done\n")
    assert len(take_in_packs(project, [tmp_path / "out"]).came) == 1
    found = compare(annotations_in(project), {})
    assert any(text.startswith("Ada began from what a model") for text in found.warnings)


# ---- the comparison
def test_people_and_the_model_are_compared_where_all_have_looked(project):
    three(project).atoms.mark_as_viewed(["b.tif"], "Ada")
    found = compare(annotations_in(project), {"a.tif": atoms_at([*PLACES[:4], (5, 150)])})
    assert found.consensus.annotators == ("Ada", "Bo", "Cleo")
    assert len(found.consensus.sites) == 6
    f1 = found.consensus.pairs.set_index(["a", "b"])["f1"]
    assert f1["Ada", "Bo"] == 1.0 and f1["Ada", "Cleo"] == pytest.approx(6 / 9)
    matched = {(p["a"], p["b"]): p["f1"] for p in found.beside["pairs"]}
    assert matched["model", "Ada"] == pytest.approx(0.8)
    disputes = found.disputes.set_index(["y_px", "x_px"])
    assert set(disputes["image"]) == {"a.tif"}
    assert disputes.loc[(60, 60), "people"] and not disputes.loc[(60, 60), "against"]
    assert disputes.loc[(90, 120), "against"] and disputes.loc[(90, 120), "model"] is False
    alone = disputes.loc[(5, 150)]
    assert alone["against"] and not alone["people"] and alone["posterior"] == 0
    assert (alone["n_marked"], alone["n_looked"]) == (0, 3)
    assert (20, 20) not in disputes.index, "all agree on that one"
    certainty = (found.disputes["posterior"] - 0.5).abs()
    assert certainty.is_monotonic_increasing


def test_marks_that_match_nobody_are_warned_of(project):
    assert not compare(annotations_in(three(project)), {}).consensus.warnings
    wrong = as_marks(np.array(PLACES) * 0.1)
    project.atoms.add_marks("a.tif", "Dan", wrong, "4")
    [warning] = compare(annotations_in(project), {}).consensus.warnings
    assert "Dan" in warning and "unit" in warning


def test_of_one_person_what_he_or_she_marked_is_believed(project):
    marks = as_marks(PLACES[:3]).assign(uncertain=[False, True, False])
    described(project).atoms.add_marks("a.tif", "Ada", marks, "1")
    found = compare(annotations_in(project), {"a.tif": atoms_at(PLACES[1:4])})
    assert found.consensus.sites["posterior"].tolist() == [1, 0.5, 1]
    disputes = found.disputes.set_index(["y_px", "x_px"])
    assert disputes.loc[PLACES[0], "against"] and disputes.loc[PLACES[3], "against"]
    assert disputes.loc[PLACES[1], "undecided"] and not disputes.loc[PLACES[1], "against"]
    assert PLACES[2] not in disputes.index and not disputes["people"].any()
    assert any("one annotator" in note for note in found.notes)


def test_an_image_that_the_model_has_not_seen_says_nothing_of_it(project):
    found = compare(annotations_in(three(project)), {})
    assert found.beside is None
    assert all(m is None for m in found.disputes["model"]) and not found.disputes["against"].any()


def test_images_without_a_size_are_left_out_and_named(project):
    three(project)
    with project._file.writing() as db:
        db.execute("UPDATE images SET pixel_size_nm = NULL WHERE name != 'a.tif'")
    project.atoms.mark_as_viewed(["b.tif"], "Bo")
    found = compare(annotations_in(project), {})
    assert any("b.tif" in note and "size" in note for note in found.notes)
    with pytest.raises(AtomicityError, match="annotated"):
        compare(annotations_in(Project(project.path.with_name("empty.atomicity"))), {})


def test_frames_of_a_stack_are_fields_of_their_own(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 99, (3, 40, 50)).astype(np.uint16)
    calibration = {"resolution": (10, 10), "metadata": {"unit": "nm", "axes": "TYX"}}
    tifffile.imwrite(tmp_path / "s.tif", pixels, imagej=True, **calibration)
    with Project(tmp_path / "p.atomicity") as project:
        project.add(load(tmp_path / "s.tif"))
        marks = as_marks([(10, 10), (10, 10)]).assign(frame=[0, 2])
        project.atoms.add_marks("s.tif", "Ada", marks, "1")
        project.atoms.add_marks("s.tif", "Bo", marks.iloc[:1], "2")
        found = compare(annotations_in(project), {"s.tif": atoms_at([(10, 10)], frame=2)})
        assert len(found.consensus.sites) == 2, "one site in each frame"
        assert found.disputes[["image", "frame"]].to_numpy().tolist() == [
            ["s.tif", 2],
            ["s.tif", 0],
        ]
        micrographs = {"s.tif": project.load("s.tif").micrograph}
        taken = measured_sites(found, micrographs)["s.tif"]
        assert {frame: [m.frame for m in marks] for frame, marks in taken.items()} == {
            0: [0],
            2: [2],
        }
        write_comparison(found, tmp_path / "out")
        sites = pd.read_csv(tmp_path / "out" / "consensus.csv")
        assert sites["image"].tolist() == ["s.tif frame 0", "s.tif frame 2"]


def test_the_files_are_those_of_the_command(project, tmp_path):
    from typer.testing import CliRunner

    from napari_atomicity.cli.commands import app

    packs = [
        filled(tmp_path, who, a="\n".join(f"{x},{y}" for y, x in places), b="none")
        for who, places in (("Ada", PLACES), ("Bo", PLACES[:4]), ("Cleo", PLACES[1:]))
    ]
    take_in_packs(project, packs)
    write_comparison(compare(annotations_in(described(project)), {}), tmp_path / "window")
    out = str(tmp_path / "command")
    assert CliRunner().invoke(app, ["consensus", *map(str, packs), "--out", out]).exit_code == 0
    one, other = (
        json.loads((tmp_path / where / "agreement.json").read_text())
        for where in ("window", "command")
    )
    assert one == other
    sites = [pd.read_csv(tmp_path / where / "consensus.csv") for where in ("window", "command")]
    pd.testing.assert_frame_equal(*sites)
    # Tables to train on: in pixels, as the file may have another pixel size, and of all images.
    labels = tmp_path / "command" / "labels"
    learnt = {path.name: pd.read_csv(path) for path in labels.iterdir()}
    assert set(learnt) == {"a.tif.csv", "b.tif.csv"} and not len(learnt["b.tif.csv"])
    assert list(learnt["a.tif.csv"]) == ["y_px", "x_px", "certainty"]
    # Another run into the folder leaves nothing of this one, and what others put there.
    (labels / "mine.csv").write_text("y_px,x_px\n")
    nothing = filled(tmp_path, "Dora", a="none")
    assert CliRunner().invoke(app, ["consensus", str(nothing), "--out", out]).exit_code == 0
    assert {path.name for path in labels.iterdir()} == {"a.tif.csv", "mine.csv"}
    # Atoms of other images say nothing about these, and not that there are none.
    pd.DataFrame({"image": ["x.tif"], "y_nm": [1.0], "x_nm": [1.0]}).to_csv(tmp_path / "m.csv")
    command = ["consensus", *map(str, packs), "--out", out, "--model-atoms", tmp_path / "m.csv"]
    refused = CliRunner().invoke(app, list(map(str, command)))
    assert refused.exit_code and "no atom of the model is in an annotated image" in refused.output
    assert {path.name for path in labels.iterdir()} == {"a.tif.csv", "mine.csv"}
    assert (tmp_path / "command" / "consensus.csv").is_file()  # the earlier results


# ---- back into the session
def test_the_consensus_becomes_the_atoms_of_the_image_and_nothing_else(project):
    three(project)
    state = WindowState()
    state.open_project(project, project.load_all())
    state.atoms.set_analysis(found_atoms(state.micrograph("a.tif").path))
    compared = compare(annotations_in(project), {})
    sites = measured_sites(compared, {"a.tif": state.micrograph("a.tif")})["a.tif"]
    edit = consensus_edit(state.atoms, "a.tif", sites)
    before = state.atoms.table("a.tif")
    state.history.do(edit)
    table = state.atoms.table("a.tif")
    believed = compared.consensus.sites.query("posterior >= 0.25")
    np.testing.assert_allclose(np.sort(table["y_px"]), np.sort(believed["y_px"]), atol=1e-9)
    assert set(table["origin"]) == {"person"}
    unsure = believed.loc[believed["posterior"] <= 0.75, ["y_px", "x_px"]].to_numpy()
    assert table.loc[table["uncertain"], ["y_px", "x_px"]].to_numpy().tolist() == unsure.tolist()
    assert consensus_edit(state.atoms, "a.tif", sites) is None, "it is there already"
    # Candidates below the threshold are gone as well: they would count in the density.
    assert len(state.atoms.of("a.tif").probabilities) == len(table)
    state.history.undo()
    pd.testing.assert_frame_equal(state.atoms.table("a.tif"), before)


def test_what_one_person_has_reviewed_is_no_consensus(project, tmp_path):
    described(project)
    a = "\n".join(f"{x},{y}" for y, x in PLACES)
    packs = [filled(tmp_path, "Ada", a=a, b="1,1"), filled(tmp_path, "Bo", a=a, b="")]
    take_in_packs(project, packs)
    found = compare(annotations_in(project), {})
    state = WindowState()
    state.open_project(project, project.load_all())
    people = found.annotations.looked.groupby("image")["annotator"].nunique().to_dict()
    assert people == {"a.tif": 2, "b.tif": 1}
    sites = measured_sites(found, {i: state.micrograph(i) for i in people})
    assert list(sites) == ["a.tif"]


def test_an_atom_of_the_model_that_people_confirm_keeps_its_number(project):
    described(project)
    state = WindowState()
    state.open_project(project, project.load_all())
    state.atoms.set_analysis(found_atoms(state.micrograph("a.tif").path))
    first, last = (state.atoms.of("a.tif").analysis.candidates.iloc[i] for i in (0, 4))
    marks = [Mark(row["y_px"] + 0.5, row["x_px"]) for row in (first, last)]
    state.history.do(consensus_edit(state.atoms, "a.tif", {0: [*marks, Mark(100.0, 20.0)]}))
    table = state.atoms.table("a.tif")
    assert table["atom_id"].tolist() == [1, 5, 6]
    # In frames that nobody has looked at nothing changes; where all say "none", all go.
    assert consensus_edit(state.atoms, "a.tif", {}) is None
    state.history.do(consensus_edit(state.atoms, "a.tif", {0: []}))
    assert len(state.atoms.table("a.tif")) == 0
