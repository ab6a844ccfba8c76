"""The constrained mixture and the thresholds."""

from dataclasses import asdict, replace
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import multivariate_normal

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.from_dict import dataclass_from_dict
from napari_atomicity.core.scale_reference import ScaleReference
from napari_atomicity.models.scale.intensity_scale import (
    DIRICHLET,
    ConstrainedMixture,
    fit_constrained_mixture,
    intensity_per_atom,
    refined,
)
from napari_atomicity.models.thresholds import by_thresholds, fit_thresholds

SIZES = np.array([19, 30, 41, 55, 70])
DIAMETERS = np.array([0.85, 0.97, 1.08, 1.18, 1.29])
SPREAD = ((0.006, 0.0), (0.0, 0.01))
REFERENCE = ScaleReference(tuple(np.log(SIZES)), tuple(np.log(DIAMETERS)), (SPREAD,) * 5)


def clusters(shares, n, scale, seed):
    rng = np.random.default_rng(seed)
    k = rng.choice(5, size=n, p=shares)
    intensity = SIZES[k] * np.exp(rng.normal(0, 0.06, n)) * scale
    diameter = DIAMETERS[k] * np.exp(rng.normal(0, 0.09, n))
    return k, intensity, diameter


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-3, 1e5),
    shares=st.sampled_from(
        [(0.2,) * 5, (0.5, 0, 0.2, 0, 0.3), (0.34, 0, 0.33, 0, 0.33), (0, 0.5, 0, 0.5, 0)]
    ),
    seed=st.integers(0, 30),
)
def test_the_scale_is_found_whatever_it_is(scale, shares, seed):
    k, intensity, diameter = clusters(shares, 60, scale, seed)
    fitted = fit_constrained_mixture(intensity, diameter, REFERENCE)
    right = np.abs(fitted.shift[:, 0] - np.log(scale)) < 0.2
    if fitted.certainty < 0.7:  # of two classes only, neighbouring pairs can look alike
        assert shares.count(0) == 3 and fitted.weight[right].sum() > 0.3
    else:
        assert right[0]
        assert (fitted.probabilities(intensity, diameter).argmax(axis=1) == k).mean() > 0.7


def test_scaling_the_intensities_scales_the_answer():
    _, intensity, diameter = clusters((0.2,) * 5, 50, 1.0, 0)
    one = fit_constrained_mixture(intensity, diameter, REFERENCE)
    ten = fit_constrained_mixture(10 * intensity, diameter, REFERENCE)
    assert ten.intensity_per_atom == pytest.approx(10 * one.intensity_per_atom, rel=1e-6)
    np.testing.assert_allclose(
        ten.probabilities(10 * intensity, diameter),
        one.probabilities(intensity, diameter),
        atol=1e-7,
    )


def test_probabilities_are_those_of_normal_densities():
    """By SciPy's density, a solution, a class and a cluster at a time."""
    correlated = ((0.006, 0.003), (0.003, 0.01))
    reference = replace(REFERENCE, covariance=(SPREAD, correlated, SPREAD, correlated, SPREAD))
    mixture = ConstrainedMixture(
        reference,
        np.array([0.8, 0.2]),
        np.array([[7.0, 0.02], [7.4, -0.03]]),
        np.array([[0.1, 0.2, 0.3, 0.2, 0.2], [0.4, 0.3, 0.1, 0.1, 0.1]]),
        np.array([[0.7, 1.6], [1.1, 0.9]]),
    )
    _, intensity, diameter = clusters((0.2,) * 5, 12, np.exp(7.0), 3)
    expected = np.zeros((12, 5))
    x = np.log(np.stack([intensity, diameter], axis=1))
    for weight, shift, shares, spread in zip(
        mixture.weight, mixture.shift, mixture.shares, mixture.spread, strict=True
    ):
        wider = np.diag(np.sqrt(spread))
        p = np.stack(
            [
                share * multivariate_normal(mean + shift, wider @ np.array(c) @ wider).pdf(x)
                for share, *mean, c in zip(
                    shares, reference.log_intensity, reference.log_diameter, reference.covariance,
                    strict=True,
                )
            ],
            axis=1,
        )  # fmt: skip
        expected += weight * p / p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixture.probabilities(intensity, diameter), expected, rtol=1e-9)


def test_the_fit_has_the_moments_of_its_members():
    """At the end of expectation-maximisation the shares are those of the posteriors."""
    _, intensity, diameter = clusters((0.3, 0.1, 0.2, 0.2, 0.2), 400, 5.0, 4)
    fitted = fit_constrained_mixture(intensity, diameter, REFERENCE)
    number = fitted.probabilities(intensity, diameter).sum(axis=0) + DIRICHLET
    np.testing.assert_allclose(fitted.shares[0], number / number.sum(), atol=0.01)


def test_outliers_do_not_drag_the_scale():
    _, intensity, diameter = clusters((0.2,) * 5, 50, 1.0, 1)
    intensity[:4] *= 300
    assert (
        abs(np.log(fit_constrained_mixture(intensity, diameter, REFERENCE).intensity_per_atom))
        < 0.15
    )


def table(intensity, diameter, border=False):
    return pd.DataFrame(
        {
            "integrated_intensity": intensity,
            "diameter_nm": diameter,
            "touches_border": border,
            "touches_neighbour": False,
        }
    )


def test_nothing_to_go_by():
    assert intensity_per_atom(table([], []), REFERENCE) == 1.0
    assert intensity_per_atom(table([-5.0], [np.nan]), REFERENCE) == 1.0


def test_a_single_cluster_and_only_cut_ones():
    for border in (False, True):
        value = intensity_per_atom(table([19.0 * 7], [0.85], border), REFERENCE)
        assert 1 < value < 20


def test_the_reference_is_what_was_put_in():
    k, intensity, diameter = clusters((0.2,) * 5, 5000, 1.0, 2)
    names = np.array(["a", "b", "c", "d", "e"], object)
    fitted = ScaleReference.fit(intensity, diameter, names[k], list(names))
    np.testing.assert_allclose(np.exp(fitted.log_intensity), SIZES, rtol=0.02)
    np.testing.assert_allclose(np.exp(fitted.log_diameter), DIAMETERS, rtol=0.02)
    assert dataclass_from_dict(ScaleReference, asdict(fitted)) == fitted


@given(st.lists(st.floats(0.5, 2), min_size=4, max_size=4), st.integers(0, 100))
def test_thresholds_part_what_can_be_parted(gaps, seed):
    rng = np.random.default_rng(seed)
    centres = np.cumsum([1.0, *gaps])
    label = rng.integers(0, 5, 300)
    value = centres[label] + rng.uniform(-0.2, 0.2, 300)
    cuts = fit_thresholds(value, label, 5)
    assert list(cuts) == sorted(cuts)
    np.testing.assert_array_equal(by_thresholds(value, cuts), label)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=12))
def test_no_other_thresholds_have_a_smaller_balanced_error(clusters):
    value, label = np.array(clusters, float).T
    label = label.astype(int)

    def balanced(cuts):
        found = by_thresholds(value, cuts)
        return np.mean([(found[label == k] == k).mean() for k in set(label.tolist())])

    others = combinations_with_replacement([-1.0, *np.unique(value)], 3)
    cuts = fit_thresholds(value, label, 4)
    assert balanced(cuts) == pytest.approx(max(map(balanced, others)))
    with_unknown = fit_thresholds(np.append(value, [np.nan, np.inf]), np.append(label, [0, 3]), 4)
    assert with_unknown == cuts == tuple(sorted(cuts))


def test_one_label_of_another_size_moves_no_thresholds():
    value = np.concatenate([np.linspace(0.7, 0.9, 50), np.linspace(1.0, 1.3, 50), [1.5]])
    label = np.repeat([0, 2, 1], [50, 50, 1])  # a large cluster that was called middle-sized
    low, high = fit_thresholds(value, label, 3)
    assert low == high == pytest.approx(0.9)


def test_solutions_one_class_apart_are_weighed_not_chosen():
    """Clusters of one size alone may be of any class: the probabilities must say so."""
    rng = np.random.default_rng(4)
    intensity = 41 * np.exp(rng.normal(0, 0.05, 12))
    fitted = fit_constrained_mixture(intensity, np.full(12, 1.03), REFERENCE)
    p = fitted.probabilities(intensity, np.full(12, 1.03))
    assert fitted.certainty < 0.95
    assert p.max() < 0.97
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert fitted.weight.sum() == pytest.approx(1)


def test_a_clean_image_gives_surer_probabilities_than_a_noisy_one():
    sure = []
    for noise in (0.03, 0.08):
        rng = np.random.default_rng(5)
        k = rng.choice(5, size=150)
        intensity = SIZES[k] * np.exp(rng.normal(0, noise, 150))
        diameter = DIAMETERS[k] * np.exp(rng.normal(0, 0.09, 150))
        fitted = fit_constrained_mixture(intensity, diameter, REFERENCE)
        sure.append(fitted.probabilities(intensity, diameter, False).max(axis=1).mean())
    assert sure[0] > sure[1] + 0.02


def test_a_reference_follows_the_blur():
    """Larger diameters, the smallest by most; without labels the new ones are found."""
    grown = np.array([0.16, 0.1, 0.07, 0.05, 0.04])
    tables = []
    for seed in range(6):
        k, intensity, diameter = clusters((0.2,) * 5, 60, 2.0 + seed, seed)
        tables.append(table(intensity, diameter * np.exp(grown[k])))
    new = refined(tables, REFERENCE)
    covariance = np.array(new.covariance)
    assert (covariance == covariance.transpose(0, 2, 1)).all()
    old = np.array(REFERENCE.log_diameter)
    np.testing.assert_allclose(np.array(new.log_diameter) - old, grown, atol=0.04)
    np.testing.assert_allclose(new.log_intensity, REFERENCE.log_intensity, atol=0.04)


def test_covariances_that_differ_from_their_transpose_by_rounding_are_valid():
    covariance = np.array(REFERENCE.covariance)
    covariance[:, 0, 1] = 1e-4
    covariance[:, 1, 0] = np.nextafter(1e-4, 1)
    rounded = replace(REFERENCE, covariance=tuple(tuple(map(tuple, c)) for c in covariance))
    rounded.check()
    covariance[:, 1, 0] = 2e-4
    wrong = replace(REFERENCE, covariance=tuple(tuple(map(tuple, c)) for c in covariance))
    with pytest.raises(ValueError, match="symmetric"):
        wrong.check()


def test_a_reference_stays_where_nothing_is_sure():
    _, intensity, diameter = clusters((0.2,) * 5, 5, 1.0, 0)
    assert refined([table(intensity, diameter)], REFERENCE) == REFERENCE
    assert refined([], REFERENCE) == REFERENCE


def test_lone_atoms_do_not_move_a_reference():
    _, intensity, diameter = clusters((0.2,) * 5, 80, 1.0, 3)
    atoms = np.exp(np.random.default_rng(0).normal(0, 0.3, 40))
    crowded = table(np.append(intensity, atoms), np.append(diameter, np.full(40, 0.55)))
    new = refined([crowded], REFERENCE)
    np.testing.assert_allclose(new.log_intensity, REFERENCE.log_intensity, atol=0.05)
    np.testing.assert_allclose(new.log_diameter, REFERENCE.log_diameter, atol=0.05)


def test_too_few_clusters_of_a_class_are_refused():
    with pytest.raises(AtomicityError, match="Pt70 has 2"):
        label = np.repeat(["Pt19", "Pt70"], [20, 2])
        ScaleReference.fit(np.full(22, 30.0), np.full(22, 1.0), label, ("Pt19", "Pt70"))


def test_few_clusters_borrow_their_scatter():
    rng = np.random.default_rng(0)
    label = np.repeat(["Pt19", "Pt70"], [200, 3])
    size = np.where(label == "Pt19", 19, 70) * np.exp(rng.normal(0, 0.1, 203))
    size[-3:] = 70.0
    fitted = ScaleReference.fit(size, 0.3 * size ** (1 / 3), label, ("Pt19", "Pt70"))
    assert np.sqrt(fitted.covariance[1][0][0]) > 0.07


def test_an_image_without_clusters_is_sure_of_nothing():
    assert fit_constrained_mixture(np.empty(0), np.empty(0), REFERENCE).certainty == 0
