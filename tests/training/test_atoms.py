"""From labelled images to an atom model: reading, splitting, the fit, the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

import make_atom_model
from napari_atomicity.atoms.finding.finder import load_atom_model
from napari_atomicity.cli.commands import app
from napari_atomicity.core.errors import CalibrationError, Cancelled, ReadError, TableError
from napari_atomicity.training import atoms as training
from napari_atomicity.training.atoms import AtomRecipe, AtomTrainingSettings, LabelledImage

TINY = AtomTrainingSettings(width=4, steps=12, batch=2, crop_px=32, simulated=0.0, dropout=0.0)
RECIPE = AtomRecipe(TINY, folds=2, members=1)


def spotted(seed: int, shape: tuple[int, int] = (64, 64), n: int = 12) -> LabelledImage:
    """An image of clear spots at 0.03 nm, all of them marked."""
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(*(np.arange(8, m - 8, 12) for m in shape)), -1).reshape(-1, 2)
    points = rng.permutation(sites)[:n] + rng.uniform(-2, 2, (min(n, len(sites)), 2))
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 0.05 * rng.standard_normal(shape)
    for cy, cx in points:
        image += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
    return LabelledImage(f"i{seed}", image.astype(np.float32), 0.03, points, f"i{seed}", "made")


def written(folder: Path, images: list[LabelledImage], header: str = "X,Y") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        tifffile.imwrite(folder / f"{image.name}.tif", image.pixels)
        rows = [f"{x:.2f},{y:.2f}" for y, x in image.points]
        (folder / f"{image.name}.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    return folder


# ---- reading


def test_both_layouts_and_all_units_are_read(tmp_path):
    one = spotted(0)
    written(tmp_path / "side", [one])
    written(tmp_path / "apart" / "images", [one])
    (tmp_path / "apart" / "labels").mkdir()
    (tmp_path / "apart" / "images" / "i0.csv").rename(
        tmp_path / "apart" / "labels" / "i0_atoms_xy_px.csv"
    )
    nm = written(tmp_path / "nm", [replace(one, points=one.points * 0.03)], "x_nm,y_nm")

    for folder, tolerance in ((tmp_path / "side", 0.01), (tmp_path / "apart", 0.01), (nm, 0.2)):
        (image,) = training.read_labelled(folder, 0.03)
        np.testing.assert_allclose(image.points, one.points, atol=tolerance)
        np.testing.assert_array_equal(image.pixels, one.pixels)
        assert image.source == folder.name


@pytest.mark.parametrize(
    ("table", "error", "said"),
    [
        ("a,b\n1,2\n", TableError, "no columns of positions"),
        ("X,Y\n1,here\n", TableError, "no number"),
        ("X,Y\n1,\n", TableError, "missing or not finite"),
        ("X,Y\n400,5\n", TableError, "outside of the image"),
        ("", TableError, "can't be read"),
    ],
)
def test_bad_tables_are_refused_with_a_reason(tmp_path, table, error, said):
    written(tmp_path, [spotted(0)])
    (tmp_path / "i0.csv").write_text(table, encoding="utf-8")

    with pytest.raises(error, match=said):
        training.read_labelled(tmp_path, 0.03)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ReadError, match="no such folder"):
        training.read_labelled(tmp_path / "none")
    with pytest.raises(ReadError, match="no image in this folder"):
        training.read_labelled(tmp_path)
    written(tmp_path, [spotted(0)])
    with pytest.raises(CalibrationError, match="pixel size is not known"):
        training.read_labelled(tmp_path)
    with pytest.raises(TableError, match="12 marked atoms"):
        training.train_atoms(tmp_path, tmp_path / "m", pixel_size_nm=0.03, recipe=RECIPE)
    written(tmp_path, [spotted(0, (128, 128), n=30)])
    with pytest.raises(ReadError, match="one image is not enough"):
        training.train_atoms(tmp_path, tmp_path / "m", pixel_size_nm=0.03, recipe=RECIPE)


# ---- marks


def test_marks_of_the_last_image_go_back_to_it():
    first, second = spotted(1, (128, 128), 25), spotted(2, (128, 128), 25)
    mixed = replace(second, points=np.concatenate([second.points, first.points[:10]]))
    short = replace(first, points=first.points[10:])

    (a, b), moved = make_atom_model.reassign_marks([short, mixed])

    # One of the first of the ten may lie on a spot of the second image by chance.
    assert moved["i2"]["to"] == "i1"
    assert 8 <= moved["i2"]["not"] <= 10
    np.testing.assert_array_equal(b.points[:25], second.points)
    assert {tuple(p) for p in a.points} < {tuple(p) for p in first.points}
    assert len(a.points) + len(b.points) == 50


def test_marks_on_spots_stay():
    images = [spotted(3, (128, 128), 25), spotted(4, (128, 128), 25)]

    same, moved = make_atom_model.reassign_marks(images)

    assert moved == {}
    for before, after in zip(images, same, strict=True):
        np.testing.assert_array_equal(after.points, before.points)


def test_the_shared_marks_are_known(shared):
    images, moved = make_atom_model.read_shared_images(
        [shared / "atoms_ptnc", shared / "atoms_molecular"]
    )

    assert len(images) == 36
    assert {i.source for i in images} == set(make_atom_model.SOURCES)
    assert moved["Ptporph5"]["to"] == "Ptporph4"
    assert moved["bpy_crop10"]["to"] == "bpy_crop2"
    assert not any("PtNC" in name for name in moved)


# ---- examples


def test_targets_are_one_at_the_marks_with_a_valley_between_close_ones():
    points = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 16.0]])

    target = training.make_target((48, 32), points, 3.0)

    np.testing.assert_allclose(target[tuple(points.astype(int).T)], 1)
    assert target[30, 13] < 0.5
    assert target[13, 10] == pytest.approx(np.exp(-0.5), abs=0.01)


def test_uncertain_marks_are_learnt_less():
    points = np.array([[10.0, 10.0], [30.0, 20.0]])
    target = training.make_target((48, 32), points, 3.0, np.array([1.0, 0.3]))
    assert target[10, 10] == pytest.approx(1) and target[30, 20] == pytest.approx(0.3)


def test_a_certainty_is_a_number_from_0_to_1(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((20, 20), np.uint16), imagej=True, resolution=(20, 20),
        metadata={"unit": "nm"},
    )  # fmt: skip
    table = tmp_path / "a.csv"
    table.write_text("X,Y,certainty\n3,4,0.9\n5,6,0.2\n")
    (image,) = training.read_labelled(tmp_path)
    assert image.points.tolist() == [[4, 3]] and image.learnt[1].tolist() == [0.9, 0.2]
    for wrong in ("1.5", "x", "", "-0.1"):
        table.write_text(f"X,Y,certainty\n3,4,{wrong}\n")
        with pytest.raises(TableError, match="certainty"):
            training.read_labelled(tmp_path)


def test_marks_turn_with_the_image():
    image = spotted(5, (90, 70))

    turned, points, inside = training.rotate_and_scale(image.pixels, image.points, 0.6, 1.1)

    kept = (points >= 0).all(1) & (points < np.array(turned.shape) - 1).all(1)
    place = tuple(points[kept].round().astype(int).T)
    assert turned[place].mean() > 0.8
    assert inside[place].mean() > 0.8
    assert not inside[0, 0]


def test_conditions_change_the_image_but_not_its_shape():
    image = spotted(6)
    seen = [
        training.vary_imaging(image.pixels, np.random.default_rng(s), AtomTrainingSettings())
        for s in range(20)
    ]
    assert all(s.shape == image.pixels.shape and np.isfinite(s).all() for s in seen)
    assert len({s.tobytes() for s in seen}) > 15


def test_simulated_atoms_lie_where_it_says():
    brightness = []
    for seed in range(8):
        image, points = training.simulate_field_of_atoms(96, np.random.default_rng(seed))
        assert np.isfinite(image).all()
        if len(points):
            place = tuple(points.round().astype(int).T)
            brightness.append(np.median(image[place]) / np.median(image))
    assert np.mean(brightness) > 1.1


# ---- splits and judgement


def test_folds_keep_groups_together_and_spread_the_sets():
    images = [
        LabelledImage(f"{s}{k}", np.zeros((4, 4), np.float32), 0.03, np.zeros((1, 2)), g, s)
        for s in "ab"
        for k, g in enumerate(["g0", "g0", "g1", "g2", "g3", "g4"])
    ]
    fold = training.assign_folds(images, 3, seed=1)

    by_group: dict[tuple[str, str], set[int]] = {}
    for image, f in zip(images, fold, strict=True):
        by_group.setdefault((image.source, image.group), set()).add(int(f))
    assert all(len(f) == 1 for f in by_group.values())
    for source in "ab":
        counts = np.bincount([f for i, f in zip(images, fold, strict=True) if i.source == source])
        assert len(counts) == 3
        assert counts.max() - counts.min() <= 1


def test_a_mark_is_found_once_by_the_candidate_of_the_highest_score():
    image = LabelledImage("a", np.zeros((20, 20), np.float32), 0.1, np.array([[5.0, 5], [9, 9]]))
    points = np.array([[5.0, 6], [5, 5], [15, 15]])

    judged = training.match_to_marks(image, points, np.array([0.1, 2.0, 1.0]), 0.15)

    assert judged.right.tolist() == [False, True, False]
    assert judged.missed == 1


def judged_by_law(slope: float, offset: float, pixel_size_nm: float, source: str, seed: int):
    """Images whose candidates are right as often as a logistic law of their score says."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(-3, 4, 400)
    right = rng.random(400) < 1 / (1 + np.exp(-(slope * score + offset)))
    n = int(right.sum())
    image = LabelledImage("", np.zeros((4, 4)), pixel_size_nm, np.zeros((n, 2)), "", source)
    return image, training.FoldScores(np.zeros((400, 2)), score, right, n)


def test_probabilities_are_true_of_coarse_and_of_fine_images():
    laws = [(1.5, 0.4, 0.03, "coarse"), (1.0, 1.0, 0.015, "fine")]
    images, judged = zip(*(judged_by_law(*law, s) for s in range(8) for law in laws), strict=True)
    fold = np.arange(16) // 4

    *each, general = training.fit_calibrations(images, fold, judged, RECIPE)

    for (slope, offset, size, source), one in zip(laws, each[:2], strict=True):
        assert (one.slope, one.offset) == pytest.approx((slope, offset), abs=0.2)
        here = general.at(np.log2(0.03 / size))
        assert (here.slope, here.offset) == pytest.approx((slope, offset), abs=0.15)
        rows = [n for n, i in enumerate(images) if i.source == source]
        found = [judged[n] for n in rows]
        cuts = [training.choose_threshold(each[n], judged[n]) for n in rows]
        f1 = training.score_detections(found, cuts, [each[n] for n in rows])["f1"]
        best = max(
            training.score_detections(found, [t] * len(rows), [each[n] for n in rows])["f1"]
            for t in np.linspace(0.1, 0.8, 36)
        )
        assert f1 > best - 0.01


def test_where_images_differ_in_number_only_their_own_threshold_serves_best():
    rng = np.random.default_rng(5)
    images, judged = [], []
    for n in range(24):  # of every other image hardly any candidate is right
        p = rng.beta(0.5, 6, 300) if n % 2 else rng.beta(6, 0.7, 300)
        right = rng.random(300) < p
        image, _ = judged_by_law(1, 0, 0.03, "made", n)
        images.append(replace(image, points=np.zeros((int(right.sum()), 2))))
        judged.append(
            training.FoldScores(np.zeros((300, 2)), np.log(p / (1 - p)), right, right.sum())
        )

    *_, general = training.fit_calibrations(images, np.arange(24) % 4, judged, RECIPE)

    assert general.point.own_weight >= 0.5


# ---- the fit


def test_the_same_seed_gives_the_same_weights():
    torch.set_num_threads(1)
    images = [spotted(7)]

    one, two, other = (
        training.train_network(images, replace(TINY, seed=s)).state_dict() for s in (0, 0, 1)
    )

    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_a_short_training_finds_clear_spots(tmp_path):
    images = [spotted(s, n=10) for s in range(10, 14)]
    settings = replace(TINY, width=6, steps=100, crop_px=48, learning_rate=1e-2, averaging=0.95)
    said: list[tuple[int, int, str]] = []

    card = training.train_on_images(
        images,
        tmp_path / "spots",
        AtomRecipe(settings, folds=2, members=1),
        build=tmp_path / "build",
        progress=lambda *a: said.append(a),
    )

    assert card.scores["made"]["f1"] > 0.6
    assert card.data["made"] == {"images": 4, "atoms": 40}
    assert said[-1][0] == said[-1][1] == 3 * 100
    loaded = load_atom_model(tmp_path / "spots.safetensors", "cpu").card
    assert (loaded.model_id, loaded.scores) == (card.model_id, card.scores)
    # What is in the build folder is not made again, and gives the same model.
    again = training.train_on_images(
        images,
        tmp_path / "again" / "spots",
        AtomRecipe(settings, folds=2, members=1),
        build=tmp_path / "build",
        stop=None,
    )
    assert again.sha256 == card.sha256


def test_stopping_writes_nothing(tmp_path):
    with pytest.raises(Cancelled):
        training.train_on_images(
            [spotted(0), spotted(1)], tmp_path / "m", RECIPE, stop=lambda: True
        )
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert (
        make_atom_model.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "m")]) == 1
    )
    assert "no such folder" in capsys.readouterr().err


def test_the_command_goes_to_its_end_in_as_many_steps_as_asked(tmp_path):
    data = written(tmp_path / "data", [spotted(s, n=20) for s in range(2)])
    out = tmp_path / "mine.safetensors"

    result = CliRunner().invoke(
        app,
        ["train", "--kind", "atoms", "--data", str(data), "--out", str(out), "--steps", "2",
         "--pixel-size-nm", "0.03", "--json"],
    )  # fmt: skip

    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["training"]["settings"]["steps"] == 2
    assert said["model_id"] == load_atom_model(out, "cpu").card.model_id
    clusters = ["train", "--data", str(data), "--out", str(out), "--steps", "2"]
    assert CliRunner().invoke(app, clusters).exit_code == 2
