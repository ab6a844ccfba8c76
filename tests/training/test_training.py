"""Training end to end on a few small fields, and the splits that must not leak."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from napari_atomicity.core.errors import AtomicityError, Cancelled, ReadError
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.detection import detect
from napari_atomicity.io.images import load
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.models.inference import Classifier, load_classifier
from napari_atomicity.models.scale.intensity_scale import usable
from napari_atomicity.pipeline.acquisition_sessions import read_earlier_scale
from napari_atomicity.pipeline.analysis import classify_clusters, detect_clusters
from napari_atomicity.pipeline.session_labels import label_session
from napari_atomicity.simulation.structures import Isomer
from napari_atomicity.training.augmentation import augmented
from napari_atomicity.training.calibration.held_out import predict_as_used
from napari_atomicity.training.classifier import train_classifier
from napari_atomicity.training.data import PatchSet, find_split_images, split_by_image
from napari_atomicity.training.fit import smooth_targets
from napari_atomicity.training.prepared_sets import from_simulation, split_library
from napari_atomicity.training.request import FolderSource, TrainingSettings, TrainRequest
from napari_atomicity.training.run import measure_gain, train
from napari_atomicity.training.score_text import (
    KNOWN_TO_START,
    SPLIT_IMAGES,
    describe_accuracy,
    describe_comparisons,
    images_known_to_start,
)
from napari_atomicity.training.size_selected import from_folder

QUICK = TrainingSettings(epochs=2, batch_size=16, width=4)


def test_a_folder_per_class_gives_clean_patches(folder):
    patches, classes = from_folder(folder, PatchSettings(size_px=32))
    assert classes == ["Pt19", "Pt70"]  # by size, not by name
    assert not patches.table["touches_border"].any()
    assert patches.table["touches_neighbour"].any()  # an analysis labels them too
    assert patches.left_out["border"] > 0
    assert set(patches.table["image"].str.split("/").str[0]) == set(classes)
    assert patches.patches["raw"].shape == (len(patches), 32, 32)


def test_a_model_is_trained_from_a_folder_and_can_be_loaded(folder, tmp_path, monkeypatch):
    maps, seen = [], []

    def fit_map(embedding, seed):  # UMAP, which compiles for seconds, has tests of its own
        maps.append((embedding, embedding[:, :2] + 1))
        return maps[-1][1]

    monkeypatch.setattr("napari_atomicity.models.embedding.fit_map", fit_map)
    request = TrainRequest(FolderSource(folder), tmp_path / "mine.safetensors", epochs=3)
    card = train(request, progress=lambda *a: seen.append(a))
    loaded, tensors = read_model(tmp_path / "mine.safetensors")
    assert loaded == card or loaded.to_dict() == card.to_dict()
    assert card.classes == ("Pt19", "Pt70")
    assert set(card.thresholds) >= {"diameter", "intensity"}
    assert len(card.diameter_density) == len(card.classes)
    assert card.data["held_out_images"] >= 2
    assert read_earlier_scale(tmp_path / "mine.json").intensity_per_atom > 0
    ((embedding, position),) = maps
    assert embedding.dtype == np.float32 and np.isfinite(embedding).all()
    np.testing.assert_array_equal(tensors["reference.embedding"], embedding)
    np.testing.assert_array_equal(tensors["reference.map"], position)
    assert len(position) == len(tensors["reference.label"])
    assert any("Epoch 3" in message for _, _, message in seen)
    # 19 and 70 atoms differ by eye: even three epochs on a few dozen clusters part them, where the
    # scale is known or found from a mixture
    assert card.scores["held_out_known_scale"]["accuracy"] > 0.8
    assert card.scores["held_out_mixtures"]["accuracy"] > 0.8
    _check_scores_as_used(card, tensors, folder)
    # two images of a class hardly move the apparent sizes of the model that training starts from
    start = read_model(find_model("default"))[0]
    known = [start.apparent_size.log_size[start.classes.index(c)] for c in card.classes]
    assert card.apparent_size.log_size == pytest.approx(known, abs=0.1)
    assert card.apparent_size.weights == start.apparent_size.weights
    load_classifier(tmp_path / "mine.safetensors", "cpu")


def _check_scores_as_used(card, tensors, folder):
    """The score on the card is that of analysing the held-out images: their scale is not known."""
    parts, _ = from_folder(folder, card.patches)
    held_out = parts.take(split_by_image(parts.table, 0.2, np.random.default_rng(0)))
    model = Classifier(card, tensors, torch.device("cpu"))
    alone, truth = [], []
    for name, table in held_out.table.groupby("image", sort=False):
        found = detect_clusters(load(folder / name))
        rows = found.table["cluster_id"].isin(table["cluster_id"])
        found = replace(found, table=found.table[rows].reset_index(drop=True))
        alone.append(classify_clusters(found, model))
        truth += list(table["truth"])
    tables = [analysis.table for analysis in label_session(alone, model).analyses]
    p = pd.concat(tables)[["p_Pt19", "p_Pt70"]].to_numpy()
    right = np.array(card.classes)[p.argmax(axis=1)] == truth
    assert card.scores["held_out"]["clusters"] == len(truth)
    assert card.scores["held_out"]["accuracy"] == pytest.approx(right.mean(), abs=1e-4)
    assert card.scores["scale"]["images"] == 6


def test_a_trained_model_knows_how_large_its_classes_look(folder, no_umap):
    """Where the diameter says little: in the images of these tests it parts the classes."""
    part, classes = from_folder(folder)
    noise = np.exp(np.random.default_rng(0).normal(0, 0.5, len(part)))
    part = replace(part, table=part.table.assign(diameter_nm=part.table["diameter_nm"] * noise))
    held = split_by_image(part.table, 0.2, np.random.default_rng(0))
    card, tensors = train_classifier(
        part.take(~held), part.take(held), ModelCard("mine", tuple(classes)), QUICK, "cpu",
        start=read_model(find_model("default")),
    )  # fmt: skip
    label = part.table["truth"].map(card.classes.index).to_numpy(int)
    embedding = Classifier(card, tensors, torch.device("cpu")).predict(part.patches).embedding
    sizes = card.apparent_size
    found = sizes.measure(embedding, part.table["diameter_nm"].to_numpy())
    error = found - np.array(sizes.log_size)[label]
    spread = np.sqrt(np.array(sizes.covariance)[:, 1, 1])
    assert np.diff(sizes.log_size) > 2 * spread.max()
    assert (np.abs(np.bincount(label, error) / np.bincount(label)) < spread).all()
    assert sizes.weights == read_model(find_model("default"))[0].apparent_size.weights
    # labels are averages over the solutions of the scale
    (image, *_) = predict_as_used(card, tensors, part, torch.device("cpu"), one_session=True)
    assert len(image.known.by_solution) == len(image.known.scale.weight)


def test_clusters_alone_in_their_image_keep_the_scatter_of_their_intensity(folder, tmp_path):
    """Intensity divided by the atoms of the cluster itself would be the same in all of a class."""
    for label in ("Pt19", "Pt70"):
        (tmp_path / "crops" / label).mkdir(parents=True)
        written = 0
        for path in sorted((folder / label).glob("*.tif")):
            micrograph = load(path)
            table = detect(micrograph).table
            for y, x in table.loc[usable(table), ["y_px", "x_px"]].round().to_numpy(int):
                crop = micrograph.data[y - 32 : y + 32, x - 32 : x + 32]
                near = np.abs(table[["y_px", "x_px"]] - [y, x]).max(axis=1) < 48
                if crop.shape == (64, 64) and near.sum() == 1 and written < 8:
                    tifffile.imwrite(
                        tmp_path / "crops" / label / f"{written}.tif",
                        crop,
                        imagej=True,
                        resolution=(25, 25),
                        metadata={"unit": "nm"},
                    )
                    written += 1
        assert written >= 4
    parts, _ = from_folder(tmp_path / "crops", PatchSettings(size_px=32))
    per_atom = parts.table["integrated_intensity"] / parts.table["known_intensity_per_atom"]
    assert (per_atom.groupby(parts.table["truth"]).std() > 0.1).all()


def test_the_text_of_the_accuracy_names_its_scale():
    known, mixtures = {"accuracy": 1.0, "clusters": 40}, {"accuracy": 0.98, "clusters": 40}
    used = {"accuracy": 0.35, "clusters": 40, "accuracy_by_diameter": 0.6}
    scale = {"images": 200, "off": 128, "certain": 0, "clusters_per_image": 1.0}
    scores = {
        "held_out": used,
        "held_out_known_scale": known,
        "held_out_mixtures": mixtures,
        "scale": scale,
    }
    card = ModelCard("x", ("Pt19", "Pt70"), scores=scores)
    text = describe_accuracy(card)
    assert text.startswith("Accuracy 0.350 on 40 clusters of held-out images")
    other = describe_comparisons(card)
    assert "If the scale were known, it would be 1.000" in other and "known" not in text
    assert "by diameter alone 0.600" in other and "mixtures" not in other
    assert "wrong in 128 of 200" in text and "from 1 cluster per image" in text
    few = {**scale, "off": 0, "images": 40, "clusters_per_image": 20.0}
    fewer = replace(card, scores={**scores, "scale": few})
    assert "in mixtures made of these clusters 0.980" in describe_comparisons(fewer)
    assert "wrong" not in describe_accuracy(fewer)
    off = {**few, "off": 9}
    text = describe_accuracy(replace(card, scores={**scores, "scale": off}))
    assert "wrong in 9 of 40" in text and "single size" in text
    text = describe_accuracy(replace(card, scores={"held_out": used}))
    assert "shuffled into mixtures" in text
    assert describe_comparisons(replace(card, scores={"held_out": used})) == ""
    text = describe_accuracy(replace(card, scores={"held_out": used, "test": known}))
    assert "1.000 on 40 clusters of test images" in text


def test_clusters_held_out_of_training_images_are_named():
    table = pd.DataFrame({"truth": ["Pt19"] * 4 + ["Pt70"] * 2, "image": [*"abba", *"cd"]})
    train, held_out = table.iloc[[0, 1, 4]], table.iloc[[2, 3, 5]]
    assert find_split_images(train, held_out) == ["Pt19"]
    scores = {"held_out": {"accuracy": 1.0, "clusters": 3}}
    card = ModelCard("x", ("Pt19", "Pt70"), scores=scores, data={SPLIT_IMAGES: ["Pt19"]})
    assert "Pt19 are of the training images themselves" in describe_accuracy(card)
    assert "themselves" not in describe_accuracy(replace(card, data={SPLIT_IMAGES: []}))


def test_a_start_with_other_channels_is_not_compared_with(tmp_path):
    """Its channels are not cut out of the images."""
    start = (ModelCard("s", ("Pt19", "Pt70")), {})
    table = pd.DataFrame({"truth": ["Pt19", "Pt70"] * 4, "image": [f"{i}.tif" for i in range(8)]})
    request = TrainRequest(FolderSource(tmp_path), tmp_path / "m.safetensors", ("LCN",))
    assert start[0].patches.channels == ("raw", "LCN")
    assert measure_gain(request, PatchSet(table, {}, {}), ("Pt19", "Pt70"), start) is None


def test_images_that_the_start_has_learnt_are_named():
    """Its network knows clusters that are held out of the new training."""
    start = ModelCard(
        "s", ("Pt19", "Pt70"),
        data={"images": ["Pt19/a.tif", "c.tif"], "adaptation": {"images": [{"image": "b.tif"}]}},
    )  # fmt: skip
    seen = images_known_to_start(start, ["Pt19/a.tif", "b.tif", "new.tif"])
    assert seen == ["Pt19/a.tif", "b.tif"] and images_known_to_start(None, ["b.tif"]) == []
    scores = {"held_out": {"accuracy": 1.0, "clusters": 3}}
    card = ModelCard("x", ("Pt19", "Pt70"), scores=scores, data={KNOWN_TO_START: seen})
    assert "had learnt 2 images" in describe_accuracy(card)


@pytest.mark.parametrize(("network", "is_weak"), [(0.35, True), (0.6, False), (0.9, False)])
def test_a_network_that_knows_less_than_the_diameter_is_named(network, is_weak):
    found = {
        "accuracy": 0.96, "clusters": 40,
        "accuracy_of_network": network, "accuracy_by_diameter": 0.6,
    }  # fmt: skip
    text = describe_accuracy(ModelCard("x", ("Pt19", "Pt70"), scores={"held_out": found}))
    assert ("network alone has 0.350" in text and "more epochs" in text) is is_weak


def test_training_is_reproducible(folder, no_umap):
    patches, classes = from_folder(folder, PatchSettings(size_px=32))
    card = ModelCard("x", tuple(classes), PatchSettings(size_px=32))
    held = split_by_image(patches.table, 0.3, np.random.default_rng(0))
    runs = [
        train_classifier(patches.take(~held), patches.take(held), card, QUICK, "cpu")[1]
        for _ in range(2)
    ]
    for name in runs[0]:
        np.testing.assert_array_equal(runs[0][name], runs[1][name], err_msg=name)


def test_a_loss_that_is_no_number_is_an_error_and_not_a_model(folder):
    patches, classes = from_folder(folder, PatchSettings(size_px=32))
    held = split_by_image(patches.table, 0.5, np.random.default_rng(0))
    patches.patches["raw"][np.flatnonzero(~held)[0]] = np.nan
    card = ModelCard("mine", tuple(classes))
    with pytest.raises(AtomicityError, match="loss of epoch 1 is no number"):
        train_classifier(patches.take(~held), patches.take(held), card, QUICK, "cpu")


def test_training_stops_when_asked(folder):
    with pytest.raises(Cancelled):
        train(TrainRequest(FolderSource(folder), folder / "never.safetensors"), stop=lambda: True)
    assert not (folder / "never.safetensors").exists()


def test_training_stops_between_the_last_epoch_and_the_calibration(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_atomicity.models.embedding.fit_map", lambda e, seed: e[:, :2])
    said = [""]

    def progress(done, total, message):
        said.append(message)

    out = tmp_path / "never.safetensors"
    request = TrainRequest(FolderSource(folder), out, epochs=1)
    with pytest.raises(Cancelled):
        train(request, progress=progress, stop=lambda: "the map" in said[-1])
    assert "Fitting the map" in said[-1] and not out.exists()


@pytest.mark.parametrize("content", [[], ["Pt19"]])
def test_fewer_than_two_classes_are_refused(tmp_path, content):
    for name in content:
        (tmp_path / name).mkdir()
    with pytest.raises(ReadError, match="folder per class"):
        from_folder(tmp_path)


def test_a_class_in_which_nothing_is_found_is_refused(folder, tmp_path):
    for name in ("Pt19", "Pt70"):
        (tmp_path / name).mkdir()
    (tmp_path / "Pt70" / "0.tif").write_bytes((folder / "Pt70" / "0.tif").read_bytes())
    tifffile.imwrite(
        tmp_path / "Pt19" / "flat.tif",
        np.full((100, 100), 9, np.uint16),
        imagej=True,
        resolution=(25, 25),
        metadata={"unit": "nm"},
    )
    with pytest.raises(AtomicityError, match="Pt19"):
        from_folder(tmp_path)


# ---- splits


def test_whole_images_are_held_out_of_every_class():
    table = pd.DataFrame({"image": [f"{c}/{i}" for c in "ab" for i in range(5) for _ in range(7)]})
    table["truth"] = table["image"].str[0]
    held = split_by_image(table, 0.2, np.random.default_rng(0))
    held_images, train_images = set(table["image"][held]), set(table["image"][~held])
    assert not held_images & train_images
    assert {i[0] for i in held_images} == {"a", "b"}
    assert len(held_images) == 2


def test_isomers_are_never_on_both_sides():
    library = [
        Isomer("Pt", "fcc", np.full((n, 3), float(i), np.float32))
        for n in (19, 30)
        for i in range(40)
    ]
    parts = split_library(library, 0)
    ids = {name: {(i.n, float(i.positions_nm[0, 0])) for i in part} for name, part in parts.items()}
    assert sum(map(len, ids.values())) == len(library) == len(set().union(*ids.values()))
    assert {n for n, _ in ids["test"]} == {19, 30}


def test_simulated_patches_do_not_depend_on_the_workers(library):
    one = from_simulation(library, ("Pt19", "Pt70"), 3, 5, PatchSettings(size_px=24), 1)
    two = from_simulation(library, ("Pt19", "Pt70"), 3, 5, PatchSettings(size_px=24), 2)
    pd.testing.assert_frame_equal(one.table, two.table)
    np.testing.assert_array_equal(one.patches["LCN"], two.patches["LCN"])
    known = one.table["truth"] != ""
    assert known.mean() > 0.7
    atoms = one.table["integrated_intensity"] / one.table["true_intensity_per_atom"]
    middle = atoms[known & ~one.table["touches_border"]].groupby(one.table["truth"]).median()
    assert middle["Pt19"] == pytest.approx(19, rel=0.15)
    assert middle["Pt70"] == pytest.approx(70, rel=0.15)


# ---- pieces


def test_augmentation_is_a_symmetry_of_the_square():
    generator = torch.Generator().manual_seed(0)
    x = torch.arange(16.0).reshape(1, 4, 4).repeat(64, 1, 1)
    out = augmented({"raw": x, "LCN": x.clone()}, 0.0, generator)
    torch.testing.assert_close(out["raw"], out["LCN"])  # both channels turn together
    allowed = {
        tuple(np.rot90(m, k).ravel())
        for m in (x[0].numpy(), x[0].numpy()[:, ::-1])
        for k in range(4)
    }
    seen = {tuple(v.numpy().ravel()) for v in out["raw"]}
    assert seen == allowed


def test_targets_sum_to_one_and_favour_neighbours():
    target = smooth_targets(torch.tensor([0, 2, 4]), 5, 0.1)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(3))
    assert target[1].tolist() == pytest.approx([0, 0.05, 0.9, 0.05, 0])
    assert target[0].tolist() == pytest.approx([0.95, 0.05, 0, 0, 0])
