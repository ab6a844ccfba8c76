"""Whether conditions differ: mixtures must not count, means and blur must."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_atomicity.models.domain_shift import compare, domain_shift, figures_of, two_sample_test

D = 6
MEAN = np.stack([np.zeros(D), np.full(D, 8.0)]).astype(np.float32)
TENSORS = {"ood.mean": MEAN, "ood.whitening": np.eye(D, dtype=np.float32)}


def embedding(n, share, seed, moved=0.0):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < share).astype(int)
    return MEAN[label] + rng.normal(0, 1, (n, D)) + moved, label


def with_references():
    e, label = embedding(300, 0.5, 99)
    return {**TENSORS, "reference.embedding": e.astype(np.float16), "reference.label": label}


def test_another_mixture_is_no_shift():
    e, label = embedding(200, 0.9, 1)
    assert domain_shift(e, label, TENSORS) < 0.2
    assert not compare(e, label, {}, with_references(), 2.8).found


def test_moved_embeddings_are_a_shift():
    e, label = embedding(200, 0.5, 2, moved=0.8)
    assert domain_shift(e, label, TENSORS) == pytest.approx(D * 0.8**2, rel=0.2)
    found = compare(e, label, {}, with_references(), 2.8)
    assert found.found and found.distance > 3


def test_few_clusters_tell_nothing():
    e, label = embedding(7, 0.5, 3, moved=5.0)
    assert np.isnan(domain_shift(e, label, TENSORS))
    assert compare(e, label, {}, with_references(), 2.8) is None


def test_the_p_value_is_uniform_where_nothing_differs():
    rng = np.random.default_rng(0)
    p = [
        two_sample_test(rng.normal(size=(40, 3)), rng.normal(size=(30, 3)), seed)[0]
        for seed in range(40)
    ]
    assert np.mean(np.array(p) < 0.1) < 0.3
    assert 0.3 < np.mean(p) < 0.7


def test_figures_say_what_was_changed():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:56, :56] - 27.5
    disc = 20.0 * (np.hypot(y, x) < 12)

    def patches(noise, blur):
        raw = np.stack([gaussian_filter(disc, blur) for _ in range(6)])
        return (raw + rng.normal(0, noise, raw.shape)).astype(np.float32)

    plain, noisy, blurred = (
        {k: np.median(v) for k, v in figures_of(patches(*c), 2.8).items()}
        for c in ((0.5, 1.0), (2.0, 1.0), (0.5, 4.0))
    )
    assert plain["noise_atoms_per_nm2"] == pytest.approx(0.5, rel=0.15)
    assert noisy["noise_atoms_per_nm2"] == pytest.approx(2.0, rel=0.15)
    assert blurred["sharpness_per_nm"] < 0.7 * plain["sharpness_per_nm"]
    assert noisy["texture_atoms_per_nm2"] > plain["texture_atoms_per_nm2"]
