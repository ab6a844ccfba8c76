"""The test whether the sizes of a session are those of the classes."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.models.scale.class_fit import MIN_CLUSTERS, ClassFit, compare_with_classes

CLASSES = np.log([19.0, 30, 41, 55, 70])
SCATTER = np.full(5, 0.08)


def log_counts(rng, sizes, n, scatter=0.08, error=0.0, outliers=0.02):
    """Return log counts of clusters of these sizes in equal shares, some spread over all sizes."""
    x = np.log(rng.choice(np.array(sizes, float), n)) + rng.normal(error, scatter, n)
    wild = rng.random(n) < outliers
    return np.where(wild, rng.uniform(np.log(8), np.log(150), n), x)


def scale_posterior(scatter):
    nodes = np.linspace(-3, 3, 25) * scatter
    return nodes, np.exp(-0.5 * (nodes / scatter) ** 2)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(80, 600), scatter=st.floats(0.06, 0.08))
def test_peaks_at_25_and_48_atoms_are_found(seed, n, scatter):
    rng = np.random.default_rng(seed)
    x = log_counts(rng, [25, 48], n, scatter)
    fit = compare_with_classes(x, CLASSES, SCATTER, *scale_posterior(0.01))
    assert not fit.fits
    assert len(fit.atoms) == 2
    np.testing.assert_allclose(fit.atoms, [25, 48], rtol=0.05)
    np.testing.assert_allclose(fit.shares, 0.5, atol=0.2)
    assert (fit.scatter > 0).all() and (fit.atoms_error > 0).all()
    assert "does not fit the classes of the model: peaks at 2" in fit.describe()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(15, 800),
    scatter=st.floats(0.06, 0.1),
    sizes=st.sets(st.sampled_from([19, 30, 41, 55, 70]), min_size=1),
    n_scatters=st.floats(-1.5, 1.5),
)
def test_no_alarm_at_the_classes_and_a_common_scale_error_is_allowed(
    seed, n, scatter, sizes, n_scatters
):
    rng = np.random.default_rng(seed)
    x = log_counts(rng, sorted(sizes), n, scatter, error=n_scatters * 0.03)
    fit = compare_with_classes(x, CLASSES, SCATTER, *scale_posterior(0.03))
    assert fit.fits
    assert fit.describe() == ""


def test_a_scale_error_beyond_its_uncertainty_does_not_fit():
    x = log_counts(np.random.default_rng(0), [19, 30, 41, 55, 70], 300, error=0.17)
    assert not compare_with_classes(x, CLASSES, SCATTER, *scale_posterior(0.01)).fits
    assert compare_with_classes(x, CLASSES, SCATTER, *scale_posterior(0.1)).fits


def test_one_size_between_the_classes():
    x = log_counts(np.random.default_rng(1), [48], 200, 0.07)
    fit = compare_with_classes(x, CLASSES, SCATTER)
    assert not fit.fits
    assert len(fit.atoms) == 1 and fit.atoms[0] == pytest.approx(48, rel=0.03)
    assert ": peak at 4" in fit.describe()


@pytest.mark.parametrize(("share", "fits"), [(0.12, True), (0.5, False)])
def test_some_aggregates_of_the_largest_class_give_no_alarm_and_many_do(share, fits):
    rng = np.random.default_rng(5)
    x = log_counts(rng, [70], 150, outliers=0)
    x += np.where(rng.random(150) < share, np.log(2), 0)
    fit = compare_with_classes(x, CLASSES, SCATTER, *scale_posterior(0.03))
    assert fit.fits == fits


def test_few_clusters_give_no_alarm():
    x = log_counts(np.random.default_rng(2), [25, 48], MIN_CLUSTERS - 1)
    for counts in (x, np.append(x, [np.nan, -np.inf]), np.empty(0)):
        fit = compare_with_classes(counts, CLASSES, SCATTER)
        assert fit.fits and np.isnan(fit.strength)


def test_without_a_posterior_the_scale_is_certain():
    x = log_counts(np.random.default_rng(3), [25, 48], 200)
    one = compare_with_classes(x, CLASSES, SCATTER)
    other = compare_with_classes(x, CLASSES, SCATTER, np.zeros(1), np.ones(1))
    assert isinstance(one, ClassFit)
    assert one.strength == pytest.approx(other.strength)
    np.testing.assert_allclose(one.atoms, other.atoms)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.sets(st.sampled_from([19, 30, 41, 55, 70]), min_size=1),
    one_size_per_image=st.booleans(),
)
def test_images_that_scatter_about_the_common_scale_give_no_alarm(seed, sizes, one_size_per_image):
    rng = np.random.default_rng(seed)
    image = rng.integers(8, size=200)
    kind = rng.integers(len(sizes), size=8)[image] if one_size_per_image else None
    which = rng.integers(len(sizes), size=200) if kind is None else kind
    x = np.log(np.array(sorted(sizes), float))[which] + rng.normal(0, 0.07, 200)
    x += rng.normal(0, 0.12, 8)[image] + rng.normal(0, 0.04)
    nodes, weight = scale_posterior(0.05)
    assert compare_with_classes(x, CLASSES, SCATTER, nodes, weight, image, 0.15).fits


def test_peaks_are_found_in_images_that_scatter_about_the_common_scale():
    rng = np.random.default_rng(4)
    image = rng.integers(40, size=800)
    x = log_counts(rng, [25, 48], 800, 0.06) + rng.normal(0, 0.1, 40)[image]
    nodes, weight = scale_posterior(0.01)
    fit = compare_with_classes(x, CLASSES, SCATTER, nodes, weight, image, 0.1)
    assert not fit.fits
    np.testing.assert_allclose(fit.atoms, [25, 48], rtol=0.06)
    assert (fit.atoms_error / fit.atoms >= 0.1 / np.sqrt(40)).all()
    # The histogram has the scales of the images as fitted, so its peaks are at the sizes too.
    assert fit.number.sum() > 750
    for atoms, scatter in zip(fit.atoms, fit.scatter, strict=True):
        of_peak = np.abs(fit.log_count - np.log(atoms)) < 0.3
        mean = np.average(fit.log_count[of_peak], weights=fit.number[of_peak])
        assert np.exp(mean) == pytest.approx(atoms, rel=0.05)
        spread = np.average((fit.log_count[of_peak] - mean) ** 2, weights=fit.number[of_peak])
        assert np.sqrt(spread) < 1.3 * scatter
    together = compare_with_classes(x, CLASSES, SCATTER, nodes, weight)
    assert (together.scatter > fit.scatter.max()).any()
