"""The apparent size, fitted to clusters of many sessions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.models.inference import load_classifier
from napari_atomicity.training.calibration.apparent_size import fit_apparent_size
from napari_atomicity.training.calibration.shrinkage import CORRELATION_OF_SAMPLES
from napari_atomicity.training.data import PatchSet

SIZES = np.array([19.0, 30.0, 41.0, 55.0, 70.0])
N_SESSIONS, N_PER_CLASS = 20, 15


@pytest.fixture(scope="module")
def card():
    return load_classifier("default", "cpu").card


@pytest.fixture
def clusters(card):
    """Features (N, 2 channels of 2), clusters and sessions.

    Of the second channel the first feature scatters little but differs between sessions, the
    second one scatters much and is the same in all sessions.
    """
    rng = np.random.default_rng(0)
    session, label = np.divmod(np.arange(N_SESSIONS * 5 * N_PER_CLASS) // N_PER_CLASS, 5)
    n = len(label)
    size = np.log(SIZES)[label]
    features = np.zeros((n, 4))
    features[:, :2] = 3 * size[:, None]  # of the raw channel, which must have no part
    features[:, 2] = size + rng.normal(0, 0.15, N_SESSIONS)[session] + rng.normal(0, 0.1, n)
    features[:, 3] = size + rng.normal(0, 0.4, n)
    table = pd.DataFrame(
        {
            "image": [f"{a} {b}" for a, b in zip(session, np.arange(n) % 3, strict=True)],
            "truth": np.array(card.classes)[label],
            "true_intensity_per_atom": 100.0,
            "integrated_intensity": 100.0 * SIZES[label] * np.exp(rng.normal(0, 0.06, n)),
            "diameter_nm": 1.0,
            "touches_border": False,
            "touches_neighbour": False,
        }
    )
    return features, PatchSet(table, {}, {}), session.astype(str), label


def test_the_error_that_a_session_has_in_common_stays_small(card, clusters):
    features, part, session, label = clusters
    found = fit_apparent_size(features, part, card, session)
    assert found.weights[:2] == (0.0, 0.0)
    size = found.measure(features, np.ones(len(features)))
    error = pd.Series(size - np.array(found.log_size)[label]).groupby([session, label]).mean()
    assert error.std() < 0.1  # 0.12 by the fit of clusters alone
    assert found.scatter == pytest.approx(error.std(), rel=0.2)
    assert (
        found.correlation == CORRELATION_OF_SAMPLES
    )  # these are independent, those of samples less
    # distributions of the classes are those of clusters outside the fit
    assert found.log_size == pytest.approx(pd.Series(size).groupby(label).mean(), abs=0.03)
    assert found.log_intensity == pytest.approx(np.log(SIZES), abs=0.02)
    assert np.sqrt(np.array(found.covariance)[:, 0, 0]) == pytest.approx(0.06, rel=0.2)


def test_models_without_a_channel_free_of_the_scale_have_none(card, clusters):
    features, part, session, _ = clusters
    raw = replace(card, patches=replace(card.patches, channels=("raw",)))
    assert fit_apparent_size(features[:, :2], part, raw, session) is None
    unnamed = replace(card, classes=("a", "b", "c", "d", "e"))
    assert fit_apparent_size(features, part, unnamed, session) is None
