"""Images of a validation: layouts, truth, deposits, and the division by image."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from napari_atomicity.core.errors import ReadError, TableError
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.simulation.structures import load_library, save_library
from napari_atomicity.training.size_selected import from_folder
from napari_atomicity.validation import ValidationRequest, simulated, validate
from napari_atomicity.validation.data import (
    MIXED,
    assign_folds,
    check_training,
    cut_patches,
    read_deposits,
    read_folds,
    read_mixtures,
    read_size_selected,
    sample_of,
    training_set,
)
from napari_atomicity.validation.request import ExistingResultsError
from support import lattice_isomer

CLASSES = ["Pt19", "Pt70"]


@pytest.fixture(scope="module")
def selected(folders):
    return read_size_selected(folders / "data")


def test_training_clusters_are_those_of_train(folders, selected):
    settings = PatchSettings(size_px=16)
    part = training_set(selected.images, cut_patches(selected.images, settings))
    expected, classes = from_folder(folders / "data", settings)
    assert list(selected.classes) == classes
    pd.testing.assert_frame_equal(part.table[expected.table.columns], expected.table)
    np.testing.assert_array_equal(part.patches["raw"], expected.patches["raw"])
    assert part.left_out == expected.left_out


def test_clusters_of_mixtures_are_matched_with_the_truth(folders):
    truth = pd.read_csv(folders / "mixtures" / "truth.csv")
    images = read_mixtures(folders / "mixtures", MIXED, CLASSES)
    assert [i.sample for i in images] == ["even", "small"]
    for image in images:
        own = truth[(truth["image"] == image.name.partition("/")[2]) & ~truth["touches_border"]]
        found = [*image.truth[image.counts], *image.missed]
        assert sorted(t for t in found if t) == sorted(own["label"])
        assert not image.truth[~image.counts].astype(bool).any()


def test_mixtures_need_a_truth_or_deposits(folders, tmp_path):
    folder = tmp_path / "mixtures"
    shutil.copytree(folders / "mixtures", folder)
    (folder / "truth.csv").unlink()
    with pytest.raises(ReadError, match="neither true clusters nor deposited fractions"):
        read_mixtures(folder, MIXED, CLASSES)
    table = tmp_path / "deposits.csv"
    table.write_text("sample,class,fraction\neven,Pt19,2\neven,Pt70,2\nsmall,Pt19,1\n")
    images = read_mixtures(folder, MIXED, CLASSES, table)
    assert [i.deposited for i in images] == [{"Pt19": 0.5, "Pt70": 0.5}, {"Pt19": 1, "Pt70": 0}]
    assert not any(i.has_truth or i.truth.astype(bool).any() for i in images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample,class,fraction\na,Pt55,1\n", "'Pt55' is not one of the size-selected"),
        ("sample,class,fraction\na,Pt19,-1\n", "negative or not a number"),
        ("sample,class,fraction\na,Pt19,0\n", "all 0"),
        ("sample,fraction\na,1\n", "lacks the column class"),
    ],
)
def test_wrong_deposits_are_refused(tmp_path, text, message):
    (tmp_path / "deposits.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        read_deposits(tmp_path / "deposits.csv", CLASSES)


def test_the_sample_of_an_image():
    deposits = {"m3_*": {}, "monday": {}, "b.tif": {}}
    assert sample_of("m3_1.tif", {}, deposits) == "m3_*"
    assert sample_of("monday/x.tif", {}, deposits) == "monday"
    assert sample_of("b.tif", {}, deposits) == "b.tif"
    assert sample_of("m3_1.tif", {"m3_1.tif": "third"}, deposits) == "third"
    assert sample_of("x.tif", {}, deposits) == "all"


def test_images_of_each_class_are_divided_evenly(selected):
    fold = assign_folds(selected.images, 2, seed=3)
    sample = np.array([image.sample for image in selected.images])
    for label in CLASSES:
        assert np.bincount(fold[sample == label]).tolist() == [2, 2]
    others = [assign_folds(selected.images, 2, seed).tolist() for seed in range(6)]
    assert fold.tolist() == others[3] and len(set(map(tuple, others))) > 1


def test_a_table_sets_the_parts(selected):
    given = {image.name: i % 2 for i, image in enumerate(selected.images)}
    assert assign_folds(selected.images, 2, 0, given).tolist() == list(given.values())
    with pytest.raises(ReadError, match=r"folds\.csv"):
        assign_folds(selected.images, 2, 0, {**given, selected.images[0].name: 2})
    with pytest.raises(ReadError, match="no image of Pt19 in one of the 3 parts"):
        assign_folds(selected.images, 3, 0, given)


@pytest.mark.parametrize(
    ("text", "said"),
    [("image,part\na.tif,0\n", "no column fold"), ("image,fold\na.tif,\n", "whole number")],
)
def test_a_table_of_parts_that_can_not_be_read_is_named(tmp_path, text, said):
    (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(TableError, match=said):
        read_folds(tmp_path)


def test_a_class_needs_several_images(folders, tmp_path, selected):
    few = [image for image in selected.images if "Pt70/0" in image.name or image.sample == "Pt19"]
    with pytest.raises(ReadError, match="Pt70 has 1 image, and a test in 2 parts needs 4"):
        assign_folds(few, 2, 0)
    with pytest.raises(ReadError, match="has 4 images, and a test in 5 parts needs 5"):
        assign_folds(selected.images, 5, 0)


def test_each_class_needs_clusters_in_two_training_images(selected):
    parts = cut_patches(selected.images, PatchSettings(size_px=16))
    fold = assign_folds(selected.images, 2, 0)
    check_training(selected.images, parts, fold)
    pt70 = [i for i, image in enumerate(selected.images) if image.sample == "Pt70" and fold[i]]
    parts[pt70[0]] = parts[pt70[0]].take(np.zeros(len(parts[pt70[0]]), bool))
    with pytest.raises(ReadError, match="Pt70 has usable clusters in fewer than two"):
        check_training(selected.images, parts, fold)


# ---- stacks of single clusters
@pytest.fixture(scope="module")
def patches(selected):
    """Class → patches (N, 72, 72) around the clusters of the size-selected images."""
    out = {label: [] for label in CLASSES}
    for image in selected.images:
        data = image.detection.micrograph.data
        table = image.detection.table[image.counts]
        for y, x in table[["y_px", "x_px"]].to_numpy(int):
            patch = data[max(y - 36, 0) : y + 36, max(x - 36, 0) : x + 36]
            if patch.shape == (72, 72):
                out[image.sample].append(patch)
    return {label: np.stack(of)[:12] for label, of in out.items()}


def write_archive(root, patches):
    labels = np.repeat(list(patches), [len(of) for of in patches.values()])
    np.savez(root / "clusters.npz", X=np.concatenate(list(patches.values())), y=labels)


def write_stacks(root, patches):
    for label, of in patches.items():
        np.save(root / f"{label}.npy", of)


def write_pages(root, patches):
    for label, of in patches.items():
        tifffile.imwrite(root / f"{label}.tif", of, photometric="minisblack")


def write_pictures(root, patches):
    for label, of in patches.items():
        (root / label).mkdir()
        for i, patch in enumerate(of):
            grey = np.round(255 * (patch - patch.min()) / np.ptp(patch)).astype(np.uint8)
            Image.fromarray(grey).save(root / label / f"{i:03d}.png")


def write_table(root, patches):
    whole = np.concatenate(list(patches.values()))
    labels = np.repeat(list(patches), [len(of) for of in patches.values()])
    np.save(root / "all.npy", whole)
    table = pd.DataFrame({"image": "all.npy", "frame": range(len(whole)), "label": labels})
    table.to_csv(root / "labels.csv", index=False)


@pytest.mark.parametrize(
    "write", [write_archive, write_stacks, write_pages, write_pictures, write_table]
)
def test_each_patch_is_an_image(patches, tmp_path, write):
    write(tmp_path, patches)
    data = read_size_selected(tmp_path, pixel_size_nm=0.04)
    assert data.classes == tuple(CLASSES)
    assert [i.sample for i in data.images] == [c for c in CLASSES for _ in patches[c]]
    assert len({image.name for image in data.images}) == len(data.images)
    assert all(len(image.truth) <= 1 for image in data.images)
    found = sum(int(image.counts.sum()) for image in data.images)
    assert found >= 0.9 * len(data.images)
    fold = assign_folds(data.images, 3, 0)
    assert np.bincount(fold).max() - np.bincount(fold).min() <= len(CLASSES)


def test_a_table_sets_the_parts_of_patches(patches, tmp_path):
    write_stacks(tmp_path, patches)
    rows = [(f"{c}.npy#{i}", i // 6) for c in CLASSES for i in range(len(patches[c]))]
    pd.DataFrame(rows, columns=["image", "fold"]).to_csv(tmp_path / "folds.csv", index=False)
    data = read_size_selected(tmp_path, pixel_size_nm=0.04)
    fold = assign_folds(data.images, 2, 0, read_folds(tmp_path))
    assert fold.tolist() == [part for _, part in rows]


def test_methods_are_compared_on_patches(patches, folders, tmp_path):
    (tmp_path / "data").mkdir()
    write_archive(tmp_path / "data", patches)
    request = ValidationRequest(
        tmp_path / "data" / "clusters.npz", mixtures=folders / "mixtures",
        methods=("diameter", "dual-session-combination"), folds=2, seeds=1,
        epochs=1, patience=0, pixel_size_nm=0.04, device="cpu",
    )  # fmt: skip
    result = validate(request, tmp_path / "out")
    total = sum(map(len, patches.values()))
    assert result["groups"]["size-selected"]["images"] == total
    for method in result["methods"].values():
        assert method["groups"]["size-selected"]["clusters"] >= 0.9 * total
        assert method["groups"]["mixtures"]["ratio_r2"]["mean"] is not None
    assert (tmp_path / "out" / "report.html").is_file()


# ---- simulation
SETTINGS = simulated.SimulatedData(
    ("Pt19", "Pt70"),
    folds=2,
    images=3,
    mixture_images=1,
    mixtures=2,
    isomers=2,
    size_px=220,
    clusters_per_nm2=0.05,
)


@pytest.fixture
def lattice(monkeypatch):
    """Pieces of a lattice instead of relaxed structures."""

    def build(path, sizes, per_size, seed, **_):
        if not path.exists():
            save_library(path, [lattice_isomer(n, k) for n in sizes for k in range(per_size)])
        return load_library(path)

    monkeypatch.setattr(simulated, "read_or_build_library", build)


def test_simulated_parts_have_no_isomer_in_common(lattice, tmp_path):
    parts = simulated._isomers(tmp_path, SETTINGS, None)
    assert list(parts) == ["fold 0", "fold 1", "mixtures"]
    used = [{i.positions_nm.tobytes() for i in isomers} for isomers in parts.values()]
    assert [len(u) for u in used] == [4, 4, 4] and len(set.union(*used)) == 12
    for image in simulated._plan(SETTINGS):
        folder, number = image.path.split("/")[0], image.path[-6:-4]
        expected = f"fold {int(number) % 2}" if folder == "size-selected" else "mixtures"
        assert image.part == expected


def test_simulated_data_are_complete_and_reproducible(lattice, tmp_path):
    for name in ("one", "two"):
        simulated.simulate_data(tmp_path / name, SETTINGS)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    images = [path for path in files if path.suffix == ".tif"]
    assert len(images) == 6 + 2 + 2
    for path in images:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    folds = read_folds(tmp_path / "one" / "size-selected")
    assert folds == {f"{c}/{c}_{i:02d}.tif": i % 2 for c in CLASSES for i in range(3)}
    with pytest.raises(ExistingResultsError):
        simulated.simulate_data(tmp_path / "one", simulated.QUICK_DATA)
