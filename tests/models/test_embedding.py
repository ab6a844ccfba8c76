"""The map of likeness: reproducible, without pickles, open to rows that are missing."""

import numpy as np
import pytest

from napari_atomicity.models.embedding import fit_map, place, reference_map
from napari_atomicity.models.inference import load_classifier


def islands(n=40, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 10, (3, 8))
    which = np.arange(n) % 3
    return (centres[which] + rng.normal(0, 0.3, (n, 8))).astype(np.float32), which


def test_like_lies_with_like_and_the_seed_decides():
    embedding, which = islands(60)
    position = fit_map(embedding, 1)
    assert position.min() >= 0 and position.max() <= 10.001
    np.testing.assert_array_equal(position, fit_map(embedding, 1))
    middle = np.stack([position[which == k].mean(axis=0) for k in range(3)])
    nearest = np.linalg.norm(position[:, None] - middle, axis=2).argmin(axis=1)
    assert (nearest == which).all()


def test_new_clusters_lie_among_the_references(tiny_model):
    classifier = load_classifier(tiny_model, "cpu")
    reference = classifier.reference_embedding
    position = place(reference, classifier)
    assert position.shape == (40, 2)
    np.testing.assert_array_equal(position, place(reference, classifier))
    low, high = classifier.reference_map.min(axis=0), classifier.reference_map.max(axis=0)
    assert (position > low - 2).all() and (position < high + 2).all()


def test_positions_are_those_of_the_nearest_references(tiny_model):
    classifier = load_classifier(tiny_model, "cpu")
    reference = classifier.reference_embedding.astype(np.float32)
    embedding = np.concatenate([reference[:5], [[np.nan] * 32]]).astype(np.float32)
    position = place(embedding, classifier)
    assert np.isnan(position[5]).all()
    low, high = classifier.reference_map.min(axis=0), classifier.reference_map.max(axis=0)
    assert (position[:5] >= low).all() and (position[:5] <= high).all()
    # One that is a reference lies at its place: the others are infinitely further away.
    np.testing.assert_allclose(position[:5], classifier.reference_map[:5], atol=1e-4)


def test_positions_are_in_the_right_island():
    classifier = load_classifier("default", "cpu")
    reference = classifier.reference_embedding.astype(np.float32)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(reference), 200, replace=False)
    moved = reference[chosen] + rng.normal(0, 0.05 * reference.std(), reference[chosen].shape)
    position = place(moved.astype(np.float32), classifier)
    off = np.linalg.norm(position - classifier.reference_map[chosen], axis=1)
    assert np.median(off) < 0.5  # the map is 10 wide


def test_rows_without_features_stay_without_a_place(tiny_model):
    classifier = load_classifier(tiny_model, "cpu")
    embedding = classifier.reference_embedding[:3].copy()
    embedding[1] = np.nan
    position = place(embedding, classifier)
    assert np.isnan(position[1]).all()
    assert np.isfinite(position[[0, 2]]).all()
    assert place(np.empty((0, 32), np.float32), classifier).shape == (0, 2)
    assert np.isnan(place(np.empty((4, 0), np.float32), classifier)).all()


def test_the_reference_map_names_its_classes(tiny_model):
    points = reference_map(str(tiny_model))
    assert list(points.columns) == ["umap_1", "umap_2", "label"]
    assert set(points["label"]) == {"Pt19", "Pt70"}


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_for_a_map(n):
    assert fit_map(np.zeros((n, 4), np.float32)).shape == (n, 2)
