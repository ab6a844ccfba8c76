"""The test of the sizes of a session, by all that tells its scale."""

from dataclasses import replace

import numpy as np
import pytest

from napari_atomicity.core.apparent_size import ApparentSize
from napari_atomicity.models.scale.class_fit import (
    align_with_classes,
    answer_of_session,
    fit_session_classes,
    scale_error_of_counts,
    scale_without_classes,
)
from napari_atomicity.models.scale.image_evidence import ImageMeasurements
from napari_atomicity.models.scale.session_scale import fit_session

SIZES = np.array([19.0, 30, 41, 55, 70])
REFERENCE = ApparentSize(
    tuple(np.log(SIZES)), tuple(np.log(SIZES)), (((0.004, 0.0), (0.0, 0.04)),) * 5, scatter=0.05
)
LOG_SCALE = 7.0


def image(rng, sizes, n=30, spread=0.05, size_error=0.0, **known):
    x = np.log(rng.choice(np.array(sizes, float), n))
    return ImageMeasurements(
        x + LOG_SCALE + rng.normal(0, spread) + rng.normal(0, 0.063, n),
        x + size_error + rng.normal(0, 0.2, n),
        **known,
    )


@pytest.mark.parametrize("seed", range(4))
def test_sessions_of_the_classes_fit(seed):
    rng = np.random.default_rng(seed)
    for sizes in ([41], [19, 55], SIZES):
        error = rng.normal(0, 0.05)
        images = [image(rng, sizes, size_error=error) for _ in range(6)]
        fit = fit_session_classes(images, REFERENCE, SIZES, 0.05)
        assert fit is not None and fit.fits


def test_a_known_sample_shows_that_others_have_no_size_of_the_classes():
    rng = np.random.default_rng(1)
    known = np.array([0.0, 0, 0, 1, 0])
    references = [image(rng, [55], shares=known) for _ in range(12)]
    images = [image(rng, [25, 48], n=40) for _ in range(12)]
    mean, error = scale_without_classes(references + images, REFERENCE, 0.05)
    assert mean == pytest.approx(LOG_SCALE, abs=3 * error) and error < 0.03
    fit = fit_session_classes(references + images, REFERENCE, SIZES, 0.05)
    assert not fit.fits
    np.testing.assert_allclose(fit.atoms, [25, 48], rtol=0.08)


def test_a_session_that_fits_is_shown_with_the_sizes_of_its_labels():
    rng = np.random.default_rng(4)
    images = [image(rng, [size], spread=0.12) for size in SIZES for _ in range(3)]
    session = fit_session(images, REFERENCE)
    fit = fit_session_classes(images, REFERENCE, SIZES, session.spread)
    shown = align_with_classes(fit, images, session, REFERENCE, SIZES)
    assert shown.fits
    np.testing.assert_array_equal(shown.atoms, SIZES)
    np.testing.assert_allclose(shown.shares, 0.2, atol=0.05)
    off = np.abs(shown.log_count[:, None] - np.log(SIZES)).min(axis=1)
    nearest = np.abs(shown.log_count[:, None] - np.log(SIZES)).argmin(axis=1)
    assert np.median(off) < 0.07
    assert np.bincount(nearest) == pytest.approx(90, rel=0.15)


def answer(images):
    session = fit_session(images, REFERENCE)
    fit = fit_session_classes(images, REFERENCE, SIZES, session.spread)
    return answer_of_session(fit, session, REFERENCE)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (SIZES, "fits"),
        ([19, 55], "fits"),
        ([41], "fits"),  # whatever size it is, it is a peak
        ([19, 25, 41, 70], "cannot tell"),
    ],
)
def test_a_session_fits_or_it_cannot_be_told(sizes, expected):
    rng = np.random.default_rng(5)
    assert answer([image(rng, sizes) for _ in range(6)]) == expected


def test_numbers_of_atoms_include_the_error_of_a_scale_that_no_ratio_of_sizes_tells():
    rng = np.random.default_rng(5)
    errors = {}
    for n_sizes, sizes in ((5, SIZES), (2, [25, 48]), (1, [41])):
        images = [image(rng, sizes) for _ in range(6)]
        session = fit_session(images, REFERENCE)
        fit = fit_session_classes(images, REFERENCE, SIZES, session.spread)
        errors[n_sizes] = scale_error_of_counts(fit, session, REFERENCE)
    assert errors[5] == 0
    assert min(errors[2], errors[1]) > REFERENCE.scatter


def test_images_of_known_samples_have_no_part_in_whether_images_are_mixtures():
    rng = np.random.default_rng(1)
    known = [image(rng, [55], shares=np.array([0.0, 0, 0, 1, 0])) for _ in range(12)]
    assert answer(known + [image(rng, [25, 48], n=40) for _ in range(12)]) != "fits"


def test_images_of_one_size_each_are_no_mixtures_that_leave_it_open():
    rng = np.random.default_rng(6)
    images = [image(rng, [size], spread=0.2) for size in [*SIZES, 25, 48] for _ in range(2)]
    assert answer(images) == "fits"


def test_every_source_narrows_the_scale():
    rng = np.random.default_rng(2)
    images = [image(rng, SIZES) for _ in range(4)]
    _, alone = scale_without_classes(images, REFERENCE, 0.05)
    anchored = [image(rng, SIZES, anchor=(LOG_SCALE, 0.05)) for _ in range(4)]
    _, with_anchors = scale_without_classes(anchored, REFERENCE, 0.05)
    _, with_prior = scale_without_classes(images, REFERENCE, 0.05, (LOG_SCALE, 0.03))
    assert with_anchors < alone and with_prior < 0.03


def test_nothing_to_go_by():
    empty = ImageMeasurements(np.empty(0), np.empty(0))
    assert fit_session_classes([empty], REFERENCE, SIZES, 0.1) is None
    dark = ApparentSize((3.0, 2.0), (3.0, 3.4), REFERENCE.covariance[:2], 0.05)
    images = [image(np.random.default_rng(3), [19, 30])]
    assert fit_session_classes(images, dark, SIZES[:2], 0.1) is None


def test_classes_of_equal_apparent_size_tell_no_scale():
    flat = replace(REFERENCE, log_size=(0.0,) * len(REFERENCE.log_size))
    rng = np.random.default_rng(0)
    image = ImageMeasurements(rng.normal(4, 0.1, 20), np.zeros(20))
    assert scale_without_classes([image], flat, 0.1) is None
    assert scale_without_classes([image], flat, 0.1, (1.0, 0.05)) == pytest.approx((1.0, 0.05))


def test_clusters_that_several_frames_show_are_tested_once():
    """Repeats of one field, alike but for noise, are no further clusters."""
    rng = np.random.default_rng(3)
    field = image(rng, [19, 41, 70], n=30)
    frames = [
        replace(
            field,
            log_intensity=field.log_intensity + rng.normal(0, 0.01, 30),
            log_size=field.log_size + rng.normal(0, 0.02, 30),
        )
        for _ in range(12)
    ]
    stack = ImageMeasurements(
        np.concatenate([f.log_intensity for f in frames]),
        np.concatenate([f.log_size for f in frames]),
        distinct=np.arange(12 * 30) < 30,
    )
    one, repeated, distinct = (
        fit_session_classes([x], REFERENCE, SIZES, 0.05)
        for x in (field, replace(stack, distinct=None), stack)
    )
    assert one.fits and distinct.fits and distinct.number.sum() == one.number.sum()
    assert distinct.excess == pytest.approx(one.excess, abs=2)
    assert repeated.excess > distinct.excess + 10
