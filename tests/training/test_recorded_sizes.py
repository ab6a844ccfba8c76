"""The apparent size, fitted to recorded images of one session."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.training.calibration.apparent_size import USUAL_SCATTER, fit_apparent_size
from napari_atomicity.training.calibration.shrinkage import USUAL_CORRELATION
from napari_atomicity.training.data import KNOWN_SCALE, PatchSet

CLASSES = ("Pt19", "Pt30", "Pt70")
CARD = ModelCard("made", CLASSES, PatchSettings(channels=("raw", "LCN")))
N_FEATURES = 8


def recorded(n_images=4, n_clusters=12, noise=0.1, image_error=0.05, seed=0):
    """Size-selected images; half of the features depend on the size, and none of the raw ones."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(len(CLASSES) * n_images), n_clusters)
    label = image % len(CLASSES)
    atoms = np.log([19, 30, 70])[label]
    n = len(label)
    table = pd.DataFrame(
        {
            "image": [f"{i}.tif" for i in image],
            "truth": np.array(CLASSES)[label],
            "integrated_intensity": 5 * np.exp(atoms + rng.normal(0, 0.06, n)),
            "diameter_nm": 0.31 * np.exp(atoms / 3 + rng.normal(0, 0.1, n)),
            "touches_border": False,
            "touches_neighbour": False,
            KNOWN_SCALE: 5.0,
        }
    )
    shared = rng.normal(0, image_error, len(CLASSES) * n_images)[image]
    features = rng.normal(0, 1, (n, 2 * N_FEATURES))
    for i in range(N_FEATURES, N_FEATURES + N_FEATURES // 2):
        features[:, i] = atoms + shared + rng.normal(0, noise, n)
    return features, PatchSet(table, {}, {}), label


def fit(features, part, card=CARD):
    return fit_apparent_size(features, part, card, part.table["image"].to_numpy(str))


def test_sizes_of_new_images_are_those_of_their_classes():
    sizes = fit(*recorded()[:2])
    features, part, label = recorded(seed=1)
    found = sizes.measure(features, part.table["diameter_nm"].to_numpy())
    error = found - np.array(sizes.log_size)[label]
    assert abs(error.mean()) < 0.03
    expected = np.sqrt(np.array(sizes.covariance)[:, 1, 1].mean())
    assert error.std() == pytest.approx(expected, rel=0.35)
    assert sizes.log_intensity == pytest.approx(np.log([19, 30, 70]), abs=0.03)
    assert not np.any(sizes.weights[:N_FEATURES])  # the raw channel depends on the unit


def test_images_of_one_session_do_not_tell_the_error_of_others():
    assert fit(*recorded(image_error=0)[:2]).scatter == USUAL_SCATTER


def test_the_correlation_of_clusters_of_an_image_is_found():
    without, large = (fit(*recorded(20, image_error=x)[:2]).correlation for x in (0, 0.15))
    assert without < USUAL_CORRELATION < large


def test_single_clusters_keep_the_scatter_within_images():
    """The error of an image of one cluster cannot be told from that of the cluster."""
    many, single = fit(*recorded()[:2]), fit(*recorded(48, 1)[:2])
    assert single.covariance[1][1][1] == pytest.approx(many.covariance[1][1][1], rel=0.5)


def test_without_use_there_is_no_apparent_size():
    features, part, _ = recorded()
    assert fit(features, part) is not None
    assert fit(np.random.default_rng(0).normal(size=features.shape), part) is None
    assert fit(*recorded(n_images=2)[:2]) is None
    assert fit(features, part, replace(CARD, patches=PatchSettings(channels=("raw",)))) is None
