"""References of the classes from few images stay those of the model; many images decide."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.training.calibration.calibrate import _fit_temperature_and_bias
from napari_atomicity.training.calibration.shrinkage import (
    ClassPrior,
    class_prior,
    shrink_apparent_size,
    shrink_correlation,
    shrink_covariances,
    shrink_means,
    shrink_scale_reference,
)
from napari_atomicity.training.data import KNOWN_SCALE, PatchSet, hold_out
from napari_atomicity.training.run import _can_train_without, _compare, _folds, measure_gain
from napari_atomicity.training.score_text import describe_gain, is_gained

PRIOR = ClassPrior(np.array([3.0, 3.5, 4.0]), 0.07, np.full(3, 0.05))
SCATTER = np.full(3, 0.25)


@pytest.fixture(scope="module")
def shipped():
    return read_model(find_model("default"))[0]


def clusters(true_mean, n_images, n_clusters=25, seed=0):
    """Return values, class and image of clusters that scatter about the means of their classes."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(true_mean)), n_images * n_clusters)
    image = np.repeat([f"image {i}" for i in range(len(true_mean) * n_images)], n_clusters)
    return np.array(true_mean)[label] + rng.normal(0, 0.05, len(label)), label, image


def test_without_images_the_means_are_those_of_the_start():
    nothing = np.empty(0), np.empty(0, int), np.empty(0, str)
    np.testing.assert_array_equal(shrink_means(PRIOR, *nothing, SCATTER), PRIOR.mean)


def test_few_images_keep_the_start_and_many_decide():
    """A class that looks 0.2 too large, in 500 clusters of few images or of many."""
    truth = PRIOR.mean + np.array([0.0, 0.0, 0.2])
    moved = [
        shrink_means(PRIOR, *clusters(truth, n, n_clusters=500 // n), SCATTER)[2] - 4.0
        for n in (1, 5, 250)
    ]
    assert moved[0] < 0.05 and np.all(np.diff(moved) > 0)
    assert moved[2] == pytest.approx(0.2, abs=0.04)


def test_the_correlation_in_images_is_that_of_the_start_with_few_and_theirs_with_many():
    found = []
    for n_images in (1, 4, 60):
        value, label, image = clusters(PRIOR.mean, n_images)
        common = np.random.default_rng(1).normal(0, 0.05, 3 * n_images)
        found.append(shrink_correlation(value + np.repeat(common, 25), label, image, 0.04))
    assert found[0] == pytest.approx(0.04)
    assert found[0] < found[1] < found[2] == pytest.approx(0.5, abs=0.08)
    nothing = np.empty(0), np.empty(0, int), np.empty(0, str)
    assert shrink_correlation(*nothing, 0.04) == pytest.approx(0.04)


def test_what_blur_does_to_all_classes_is_learnt_from_fewer_images_than_a_shift_of_one():
    def learnt(change, of_class):
        found = shrink_means(PRIOR, *clusters(PRIOR.mean + change, 8), SCATTER) - PRIOR.mean
        return found[of_class] / change[of_class]

    common, nearer = np.full(3, 0.1), np.array([0.1, 0.0, -0.1])
    of_one = learnt(np.array([0.0, 0.1, 0.0]), 1)
    assert learnt(common, 1) > 1.4 * of_one
    assert min(learnt(nearer, 0), learnt(nearer, 2)) > 1.1 * of_one


def test_clusters_of_one_image_hardly_change_a_covariance():
    rng = np.random.default_rng(0)
    x, label = rng.normal(0, 1.0, (2, 4000)), np.zeros(4000, int)
    start = np.array([np.diag([0.01, 0.01])])
    of_one = shrink_covariances(start, x, label, np.full(4000, "one"))
    of_many = shrink_covariances(start, x, label, np.repeat(np.arange(400), 10))
    assert of_one[0][0][0] < 0.15
    assert of_many[0][0][0] > 0.9


def test_a_class_that_the_start_lacks_is_interpolated(shipped):
    prior = class_prior(shipped, shipped.scale.log_intensity, ("Pt19", "Pt25", "Pt90"), 0.0, 0.01)
    assert prior.mean[0] == shipped.scale.log_intensity[0]
    assert prior.mean[1:] == pytest.approx(np.log([25, 90]), abs=0.05)
    assert prior.own[0] < prior.own[1] == prior.own[2]


def size_selected_table(shipped, shift=0.0, n_images=3):
    """Return clusters as size-selected images of the shipped classes would give them."""
    sizes = np.array([19, 30, 41, 55, 70])
    value, label, image = clusters(np.log(sizes), n_images)
    diameter, _, _ = clusters(np.array(shipped.scale.log_diameter) + shift, n_images, seed=1)
    return pd.DataFrame(
        {
            "image": image,
            "truth": np.array(shipped.classes, object)[label],
            "integrated_intensity": 7.0 * np.exp(value),
            "diameter_nm": np.exp(diameter),
            "touches_border": False,
            "touches_neighbour": False,
            KNOWN_SCALE: 7.0,
        }
    )


def test_the_reference_keeps_the_intensities_and_learns_a_blur(shipped):
    table = size_selected_table(shipped, shift=0.1, n_images=6)
    reference = shrink_scale_reference(table, shipped.classes, shipped)
    assert reference.log_intensity == shipped.scale.log_intensity
    shift = np.array(reference.log_diameter) - shipped.scale.log_diameter
    assert shift == pytest.approx(np.full(5, 0.1), abs=0.03)


def test_the_apparent_size_keeps_its_regression(shipped):
    """Sizes as the start measures them, 0.3 too small for the largest class in a single image."""
    table = size_selected_table(shipped, n_images=1)
    table["apparent"] = np.array(shipped.apparent_size.log_size)[
        table["truth"].map(shipped.classes.index)
    ]
    table.loc[table["truth"] == "Pt70", "apparent"] -= 0.3
    weights = np.array(shipped.apparent_size.weights)
    along = weights / (weights @ weights)
    embedding = np.outer(table["apparent"] - shipped.apparent_size.offset, along)
    found = shrink_apparent_size(embedding, table, shipped.classes, shipped)
    assert found.weights == shipped.apparent_size.weights
    moved = np.array(found.log_size) - shipped.apparent_size.log_size
    assert -0.1 < moved[4] < moved[:4].min()


def test_a_class_of_one_image_holds_out_clusters_and_others_whole_images():
    table = pd.DataFrame(
        {
            "image": ["a"] * 10 + ["b"] * 10 + ["c"] * 10,
            "truth": ["Pt19"] * 10 + ["Pt30"] * 20,
        }
    )
    held = hold_out(table, 0.2, np.random.default_rng(0))
    assert held[:10].sum() == 2
    assert sorted([held[10:20].sum(), held[20:].sum()]) == [0, 10]


def test_the_calibration_of_few_images_is_that_of_the_start(shipped):
    from napari_atomicity.training.calibration.calibrate import _CalibrationPrior

    rng = np.random.default_rng(0)
    log_p = np.log(rng.dirichlet([1.0] * 5, 400))
    label = rng.integers(0, 5, 400)
    centre = np.array([0.5, 0.3, 0.0, 0.0, 0.0, -0.3])
    weak, strong = (
        _fit_temperature_and_bias(
            log_p, label, np.full(400, 1 / 400), _CalibrationPrior(centre, np.zeros(8), weight)
        )
        for weight in (1e-4, 1e4)
    )
    assert strong == pytest.approx([np.exp(0.5), 0.3, 0, 0, 0, -0.3], abs=0.01)
    assert weak[0] < 0.5  # labels without any relation to the probabilities


def test_images_of_several_classes_are_divided_so_that_each_part_can_do_without():
    """Rare classes in images of common ones, as with corrected labels."""
    rng = np.random.default_rng(4)
    pairs = [(f"image {i}", c) for i in range(8) for c in rng.choice(["Pt19", "Pt41"], 3)]
    for c, images in {"Pt30": (0, 1), "Pt55": (2, 3)}.items():
        pairs += [(f"image {i}", c) for i in images for _ in range(2)]
    table = pd.DataFrame(pairs, columns=["image", "truth"])
    whole = PatchSet(table, {"raw": np.zeros((len(table), 2, 2), np.float32)}, {})
    for seed in range(20):
        fold = _folds(whole, 2, np.random.default_rng(seed))
        assert len(table.assign(fold=fold)[["image", "fold"]].drop_duplicates()) == 8
        for k in (0, 1):
            assert _can_train_without(table["truth"], fold, k, ["Pt19", "Pt30", "Pt41", "Pt55"])
    assert not _can_train_without(table["truth"], np.arange(len(table)) % 2, 0, ["Pt70"])


def test_a_gain_counts_images_and_is_described(shipped):
    image = np.repeat([f"{i}" for i in range(20)], 10)
    truth = np.repeat(["Pt19", "Pt30"], 100)
    right, start = np.ones(200, bool), np.ones(200, bool)
    start[::4] = False
    better = replace(shipped, scores={"gain": _compare(right, start, image, truth)})
    assert better.scores["gain"]["difference_low"] > 0 and is_gained(better)
    assert "is as good" not in describe_gain(better)
    same = replace(shipped, scores={"gain": _compare(right, right, image, truth)})
    assert not is_gained(same)
    assert "is as good" in describe_gain(same)
    worse = replace(shipped, scores={"gain": _compare(start, right, image, truth)})
    assert "better" in describe_gain(worse)
    assert describe_gain(replace(shipped, scores={})) == ""


def test_a_start_with_more_classes_is_not_compared():
    """It errs where the trained model has no class to err with."""
    table = pd.DataFrame({"truth": ["Pt19", "Pt30"] * 6, "image": list("abcdef") * 2})
    start = SimpleNamespace(classes=("Pt19", "Pt30", "Pt41")), {}
    request = SimpleNamespace(source=None, seed=0, device="cpu")
    assert measure_gain(request, SimpleNamespace(table=table), ("Pt19", "Pt30"), start) is None
