"""Inference and model files."""

import json
import shutil

import numpy as np
import pytest
import torch

from napari_atomicity.core.devices import choose_device
from napari_atomicity.core.errors import AtomicityError, Cancelled, ModelError
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.models.files import (
    available_models,
    find_model,
    read_card,
    read_model,
    save_model,
)
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.models.network import apply_symmetry, undo_symmetry


@pytest.fixture
def patches():
    rng = np.random.default_rng(0)
    return {c: rng.normal(5, 5, (7, 32, 32)).astype(np.float32) for c in ("raw", "LCN")}


def test_everything_comes_in_one_pass(tiny_model, patches):
    classifier = load_classifier(tiny_model, "cpu")
    result = classifier.predict(patches)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, atol=1e-6)
    assert result.embedding.shape == (7, 32)
    assert {c: m.shape for c, m in result.class_maps.items()} == {
        "raw": (7, 8, 8),
        "LCN": (7, 8, 8),
    }
    best = np.array(classifier.card.classes)[result.probabilities.argmax(axis=1)]
    for label in set(best):
        maps = classifier.class_maps(patches, label)
        rows = best == label
        np.testing.assert_allclose(maps["raw"][rows], result.class_maps["raw"][rows], rtol=1e-5)


def test_batches_make_no_difference(tiny_model, patches):
    classifier = load_classifier(tiny_model, "cpu")
    whole = classifier.predict(patches)
    classifier.batch_size, before = 2, classifier.batch_size
    try:
        parts = classifier.predict(patches)
    finally:
        classifier.batch_size = before
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=1e-6)


def test_out_of_memory_halves_the_batch(tiny_model, patches, monkeypatch):
    classifier = load_classifier(tiny_model, "cpu")
    whole = classifier.predict(patches)
    forward = classifier.network.forward

    def small_device(batch, symmetries):
        if len(batch["raw"]) > 2:
            raise torch.cuda.OutOfMemoryError("no memory")
        return forward(batch, symmetries)

    monkeypatch.setattr(classifier.network, "forward", small_device)
    monkeypatch.setattr(classifier, "batch_size", 8)
    result = classifier.predict(patches)
    np.testing.assert_allclose(result.probabilities, whole.probabilities, atol=1e-6)
    assert classifier.batch_size == 2


@pytest.mark.parametrize("view", range(8))
def test_the_average_over_symmetries_does_not_see_how_a_patch_lies(tiny_model, patches, view):
    classifier = load_classifier(tiny_model, "cpu")

    def turned(arrays):
        return {c: apply_symmetry(torch.from_numpy(x), view).numpy() for c, x in arrays.items()}

    upright = classifier.predict(patches, symmetries=True)
    lying = classifier.predict(turned(patches), symmetries=True)
    np.testing.assert_allclose(lying.probabilities, upright.probabilities, atol=1e-6)
    np.testing.assert_allclose(lying.embedding, upright.embedding, atol=1e-5)
    for channel, maps in turned(upright.class_maps).items():
        np.testing.assert_allclose(lying.class_maps[channel], maps, atol=1e-5)
    one = classifier.predict(turned(patches)).embedding
    if view:
        assert not np.allclose(one, classifier.predict(patches).embedding, atol=1e-5)


def test_embedding_and_scores_are_the_averages_of_eight(tiny_model, patches):
    classifier = load_classifier(tiny_model, "cpu")
    eight = [
        classifier.predict({c: apply_symmetry(torch.from_numpy(x), v) for c, x in patches.items()})
        for v in range(8)
    ]
    average = classifier.predict(patches, symmetries=True)
    expected = np.mean([one.embedding for one in eight], axis=0)
    np.testing.assert_allclose(average.embedding, expected, atol=1e-5)
    # scores less those of the first class, which is all that probabilities tell
    scores = [np.log(one.probabilities / one.probabilities[:, :1]) for one in [average, *eight]]
    np.testing.assert_allclose(scores[0], np.mean(scores[1:], axis=0), atol=1e-5)


def test_averaged_class_maps_are_those_of_the_averaged_feature_maps(tiny_model, patches):
    classifier = load_classifier(tiny_model, "cpu")
    network = classifier.network
    found = classifier.predict(patches, symmetries=True)
    best = found.probabilities.argmax(axis=1)
    given = {c: torch.from_numpy(x) for c, x in patches.items()}
    with torch.inference_mode():
        eight = [
            network({c: apply_symmetry(x, v) for c, x in given.items()}).maps for v in range(8)
        ]
        averaged = {
            c: torch.stack([undo_symmetry(maps[c], v) for v, maps in enumerate(eight)]).mean(dim=0)
            for c in network.channels
        }
        expected = network.class_maps(averaged, torch.from_numpy(best))
    for channel, maps in expected.items():
        np.testing.assert_allclose(found.class_maps[channel], maps.numpy(), atol=1e-6)
    # those of a class that is asked for are the same
    own = best == best[0]
    assert own.any()
    asked = classifier.class_maps(patches, classifier.card.classes[best[0]], symmetries=True)
    np.testing.assert_allclose(asked["LCN"][own], found.class_maps["LCN"][own], rtol=1e-5)


def test_no_patches_no_rows(tiny_model):
    nothing = {c: np.empty((0, 32, 32), np.float32) for c in ("raw", "LCN")}
    result = load_classifier(tiny_model, "cpu").predict(nothing)
    assert result.probabilities.shape == (0, 2)


def test_a_patch_of_nans_costs_only_its_own_row(tiny_model, patches):
    patches["raw"][3] = np.nan
    classifier = load_classifier(tiny_model, "cpu")
    result = classifier.predict(patches)
    assert np.isnan(result.probabilities[3]).all()
    assert np.isfinite(np.delete(result.probabilities, 3, 0)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: {"raw": p["raw"]}, "LCN"),
        (lambda p: {c: x[:, :16] for c, x in p.items()}, "32 × 32"),
    ],
)
def test_patches_that_do_not_fit_are_refused(tiny_model, patches, change, words):
    with pytest.raises(ModelError, match=words):
        load_classifier(tiny_model, "cpu").predict(change(patches))


def test_it_stops_when_asked(tiny_model, patches):
    with pytest.raises(Cancelled):
        load_classifier(tiny_model, "cpu").predict(patches, stop=lambda: True)


def test_a_class_it_does_not_know(tiny_model, patches):
    with pytest.raises(ModelError, match="Pt19, Pt70"):
        load_classifier(tiny_model, "cpu").class_maps(patches, "Au55")


# ---- files


def test_a_model_that_is_not_there():
    with pytest.raises(ModelError, match="atomicity models"):
        find_model("no-such-model")
    with pytest.raises(ModelError, match="no such model file"):
        find_model("nowhere/x.safetensors")


def test_a_damaged_model_is_refused(tiny_model, tmp_path):
    copy = tmp_path / "copy.safetensors"
    shutil.copy(tiny_model, copy)
    with pytest.raises(ModelError, match="no card"):
        load_classifier(copy, "cpu")
    shutil.copy(tiny_model.with_suffix(".json"), copy.with_suffix(".json"))
    load_classifier(copy, "cpu")
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(ModelError, match="not those that the card describes"):
        load_classifier(copy, "cpu")
    copy.with_suffix(".json").write_text("{")
    with pytest.raises(ModelError, match="card is damaged"):
        load_classifier(copy, "cpu")


def test_weights_are_not_written_without_their_card(tiny_model, tmp_path):
    (tmp_path / "new.json").mkdir()
    with pytest.raises(AtomicityError, match=r"new\.json: could not be written"):
        save_model(tmp_path / "new.safetensors", *read_model(tiny_model))
    assert [path.name for path in tmp_path.iterdir()] == ["new.json"]


def test_weights_that_do_not_fit_their_card_are_named(tiny_model, tmp_path):
    card, tensors = read_model(tiny_model)
    tensors.pop(next(name for name in tensors if name.startswith("network.")))
    save_model(tmp_path / "other.safetensors", card, tensors)
    with pytest.raises(ModelError, match=r"other\.safetensors: .* don't fit its card"):
        load_classifier(tmp_path / "other.safetensors", "cpu")


def test_the_users_models_are_listed_and_a_broken_one_is_not(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("ATOMICITY_MODELS", str(tmp_path))
    for suffix in (".safetensors", ".json"):
        shutil.copy(tiny_model.with_suffix(suffix), tmp_path / f"mine{suffix}")
    (tmp_path / "broken.safetensors").write_bytes(b"")
    assert "mine" in available_models(ModelCard)
    assert find_model("mine") == tmp_path / "mine.safetensors"


@pytest.mark.parametrize(("name", "channels"), [("default", ("raw", "LCN")), ("raw", ("raw",))])
def test_shipped_models(name, channels):
    path = find_model(name)
    card = read_card(path, ModelCard)
    assert card.patches.channels == channels
    assert card.classes == ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
    assert path.stat().st_size < 6e6
    for text in (card.description, card.intended_use, card.limits):
        assert len(text) > 20
    assert card.data["source"] and card.training["seed"] and card.scores["test"]["clusters"] > 500
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == card.sha256
    load_classifier(name, "cpu")


def test_a_device_that_is_not_there():
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="cpu"):
            choose_device("cuda")
    assert choose_device("cpu").type == "cpu"
