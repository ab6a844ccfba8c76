"""Stated compositions of samples that the clusters contradict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.test_session_scale import REFERENCE, image, size_selected
from napari_atomicity.models.scale.session_scale import fit_session

ONE = np.eye(5)


def test_a_mixture_that_is_said_to_be_of_one_size_is_found_and_not_used():
    rng = np.random.default_rng(0)
    mixture = image(rng, [0] * 12 + [2] * 12 + [4] * 12, 3.0)
    free = fit_session([mixture], REFERENCE)
    found = fit_session([replace(mixture, shares=ONE[3])], REFERENCE)
    assert found.contradicted.tolist() == [True] and found.log_bayes_factor[0] < -20
    assert found.measured[0].shares is None and not found.relies_on_contradicted
    assert found.images[0].log_scale == pytest.approx(free.images[0].log_scale)
    kept = fit_session([replace(mixture, shares=ONE[3], keep_shares=True)], REFERENCE)
    assert kept.contradicted.tolist() == [True] and kept.relies_on_contradicted
    assert kept.log_bayes_factor == pytest.approx(found.log_bayes_factor)
    assert kept.images[0].shares[0, 3] > 0.7 > found.images[0].shares[0, 3]


@pytest.mark.parametrize("seed", range(5))
def test_true_statements_pass_and_a_few_other_clusters_are_no_contradiction(seed):
    rng = np.random.default_rng(seed)
    images = size_selected(rng, rng.normal(3.0, 0.12, 10))
    images[2] = image(rng, [2] * 19 + [3], 3.0)
    known = [replace(x, shares=ONE[i % 5]) for i, x in enumerate(images)]
    mixed = image(rng, [1] * 10 + [4] * 10, 3.0, shares=(ONE[1] + ONE[4]) / 2)
    found = fit_session([*known, mixed], REFERENCE)
    assert not found.contradicted.any()
    assert all(x.shares is not None for x in found.measured)
    alone = fit_session([known[2]], REFERENCE)
    assert not alone.contradicted.any()


def test_another_size_is_found_by_the_other_images_of_the_session():
    rng = np.random.default_rng(1)
    images = size_selected(rng, np.full(10, 3.0))
    vague = replace(REFERENCE, scatter=0.4)  # sizes of one image alone tell nothing
    wrong = replace(images[3], shares=ONE[1])
    assert not fit_session([wrong], vague).contradicted.any()
    found = fit_session([*images[:3], wrong, *images[4:]], vague)
    assert found.contradicted.tolist() == [i == 3 for i in range(10)]
    assert np.isnan(np.delete(found.log_bayes_factor, 3)).all()


def test_one_wrong_statement_does_not_contradict_the_right_ones():
    rng = np.random.default_rng(2)
    images = size_selected(rng, rng.normal(3.0, 0.05, 5))
    known = [replace(x, shares=ONE[i]) for i, x in enumerate(images)]
    known[0] = replace(known[0], shares=ONE[4])
    found = fit_session(known, REFERENCE)
    assert found.contradicted.tolist() == [True, False, False, False, False]
    assert (found.log_bayes_factor[1:] > 0).all()


def test_an_image_without_clusters_contradicts_nothing():
    none = np.empty(0)
    rng = np.random.default_rng(3)
    (full,) = size_selected(rng, [3.0])
    empty = replace(full, log_intensity=none, log_size=none, shares=ONE[0])
    found = fit_session([full, empty], REFERENCE)
    assert not found.contradicted.any() and np.isnan(found.log_bayes_factor).all()
