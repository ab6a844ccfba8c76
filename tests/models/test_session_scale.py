"""The intensity scales of a session, found jointly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_atomicity.core.apparent_size import ApparentSize
from napari_atomicity.models.scale import image_evidence, session_images
from napari_atomicity.models.scale.image_evidence import ImageMeasurements
from napari_atomicity.models.scale.session_images import fit_sources
from napari_atomicity.models.scale.session_scale import fit_session
from napari_atomicity.statistics.ratios.prevalence import N_DRAWS

LOG_N = np.log([19.0, 30.0, 41.0, 55.0, 70.0])
INTENSITY_SCATTER, SIZE_SCATTER = 0.06, 0.2
REFERENCE = ApparentSize(
    tuple(LOG_N),
    tuple(LOG_N),
    (((INTENSITY_SCATTER**2, 0.0), (0.0, SIZE_SCATTER**2)),) * 5,
    scatter=0.05,
    weights=(1.0,),
)


def image(rng, classes, log_scale, size_error=0.0, **known) -> ImageMeasurements:
    """An image with clusters of these classes."""
    c = np.asarray(classes)
    return ImageMeasurements(
        LOG_N[c] + log_scale + rng.normal(0, INTENSITY_SCATTER, len(c)),
        LOG_N[c] + size_error + rng.normal(0, SIZE_SCATTER, len(c)),
        **known,
    )


def size_selected(rng, scales) -> list[ImageMeasurements]:
    """One image per scale; images of the classes in turn, each of one size."""
    return [image(rng, [i % 5] * 20, s) for i, s in enumerate(scales)]


@pytest.mark.parametrize("seed", range(5))
def test_images_of_one_size_share_what_none_of_them_can_tell_alone(seed):
    rng = np.random.default_rng(seed)
    true = rng.normal(3.0, 0.12, 15)
    session = fit_session(size_selected(rng, true), REFERENCE)
    best = np.array([x.log_scale[0] for x in session.images])
    assert np.abs(best - true).max() < 0.1
    assert session.log_scale == pytest.approx(3.0, abs=0.12)
    assert 0.05 < session.spread < 0.25
    shares = np.array([x.shares[0] for x in session.images])
    assert (shares.argmax(axis=1) == np.arange(15) % 5).all()


def test_images_of_correlated_clusters_are_not_surely_a_wrong_size():
    """Images of one size, of which focus makes some look a class larger or smaller."""
    correlated = replace(REFERENCE, correlation=0.2)
    sure = {REFERENCE: [], correlated: []}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        true = rng.normal(3.0, 0.15, 10)
        errors = rng.normal(0, 0.12, 10)
        images = [image(rng, [i % 5] * 20, s, errors[i]) for i, s in enumerate(true)]
        for reference, wrong in sure.items():
            found = fit_session(images, reference).images
            wrong += [
                x.weight[0] > 0.9 and abs(x.log_scale[0] - s) > 0.12
                for x, s in zip(found, true, strict=True)
            ]
    assert sum(sure[correlated]) < 0.5 * sum(sure[REFERENCE])


def test_one_size_alone_keeps_all_its_solutions():
    rng = np.random.default_rng(1)
    vague = replace(REFERENCE, scatter=0.4)
    (found,) = fit_session([image(rng, [2] * 20, 3.0)], vague).images
    assert len(found.weight) >= 3
    assert found.weight[0] < 0.9
    assert found.weight.sum() == pytest.approx(1.0)
    assert (np.diff(found.weight) <= 0).all()


def test_a_mixture_finds_its_scale_alone():
    rng = np.random.default_rng(2)
    (found,) = fit_session([image(rng, np.arange(40) % 5, 2.5)], REFERENCE).images
    assert found.log_scale[0] == pytest.approx(2.5, abs=0.04)
    assert found.weight[0] > 0.99
    assert found.shares[0] == pytest.approx(np.full(5, 0.2), abs=0.1)


def test_an_image_of_another_session_is_named_and_moves_no_other():
    rng = np.random.default_rng(3)
    true = rng.normal(3.0, 0.1, 10)
    images = size_selected(rng, true)
    images[4] = image(rng, np.arange(20) % 5, 5.0)
    session = fit_session(images, REFERENCE)
    assert session.outlying[4] > 0.5
    assert (np.delete(session.outlying, 4) < 0.5).all()
    assert session.images[4].log_scale[0] == pytest.approx(5.0, abs=0.05)
    best = np.array([x.log_scale[0] for x in session.images])
    assert np.abs(np.delete(best - true, 4)).max() < 0.1


def test_a_known_sample_anchors_the_session():
    rng = np.random.default_rng(4)
    reference = replace(REFERENCE, scatter=0.12)
    misleading = 0.25  # sizes look nearly one class larger than they are
    images = [image(rng, [3] * 20, s, misleading) for s in rng.normal(3.0, 0.1, 6)]
    alone = fit_session(images, reference)
    shares = np.array([0.0, 0, 0, 1, 0])
    images[0] = ImageMeasurements(images[0].log_intensity, images[0].log_size, shares)
    anchored = fit_session(images, reference)
    assert alone.images[5].shares[0].argmax() == 4
    assert all(x.shares[0].argmax() == 3 for x in anchored.images)


def test_known_samples_agree_with_the_other_images_of_their_session_or_not():
    rng = np.random.default_rng(7)
    known = np.array([0.0, 0, 0, 1, 0])
    shifted = 0.2  # of sizes that are no class, and look like the next smaller one
    of_known = [image(rng, [3] * 30, s, shares=known) for s in rng.normal(3.0, 0.05, 3)]
    sound = [image(rng, np.arange(40) % 5, s) for s in rng.normal(3.0, 0.05, 6)]
    others = [image(rng, np.arange(40) % 5, s, -shifted) for s in rng.normal(2.8, 0.05, 6)]
    assert fit_session(of_known + sound, REFERENCE).known_agreement > 1
    assert fit_session(of_known + others, REFERENCE).known_agreement < -1
    assert np.isnan(fit_session(sound, REFERENCE).known_agreement)


@pytest.mark.parametrize(
    ("classes", "relies"), [([2], True), ([1, 3], True), ([0, 2, 4], False), (range(5), False)]
)
def test_one_or_two_sizes_rest_on_their_apparent_sizes(classes, relies):
    rng = np.random.default_rng(8)
    images = [image(rng, rng.choice(classes, 30), 3.0) for _ in range(4)]
    session = fit_session(images, REFERENCE)
    assert session.relies_on_sizes == relies
    assert session.sizes_per_image == pytest.approx(len(classes), rel=0.1)
    known = [image(rng, [2] * 30, 3.0, shares=np.eye(5)[2])] * 4
    anchored = [image(rng, [2] * 30, 3.0, anchor=(3.0, 0.05))] * 4
    for more in (known, anchored):
        assert not fit_session(images + more, REFERENCE).relies_on_sizes


def test_a_wrong_pixel_size_leaves_one_size_in_doubt():
    """With a pixel size 4 % too large, clusters of one size are nearly as large as the next one."""
    wrong = {}
    for error in (0.0, 0.02):
        rng = np.random.default_rng(9)
        scales = rng.normal(3.0, 0.1, 6)
        images = [image(rng, [3] * 30, s, 2.9 * 0.05, pixel_size_error=error) for s in scales]
        found = fit_session(images, REFERENCE).images
        assert all(x.shares[0].argmax() == 4 for x in found)
        wrong[error] = np.mean([x.weight[0] for x in found])
    assert wrong[0.02] < wrong[0.0] - 0.05


def test_a_stated_error_of_the_pixel_size_can_be_larger_than_that_of_the_sizes():
    """With a pixel size 10 % too small, clusters of one size look like another class."""
    weight = {}
    for error in (0.02, 0.1):
        rng = np.random.default_rng(9)
        scales = rng.normal(3.0, 0.1, 6)
        images = [image(rng, [3] * 30, s, -2.9 * 0.1, pixel_size_error=error) for s in scales]
        found = fit_session(images, REFERENCE).images
        of_truth = [x.weight[x.shares.argmax(axis=1) == 3].sum() for x in found]
        weight[error] = np.mean(of_truth)
    assert weight[0.02] < 0.02 and weight[0.1] > 0.05


def test_lone_atoms_that_contradict_the_labels_are_seen():
    rng = np.random.default_rng(10)
    for error, least, most in ((0.0, -1.5, 1.5), (0.17, -9, -3), (-0.17, 3, 9)):
        anchors = [(3.0 + error + rng.normal(0, 0.05), 0.05) for _ in range(6)]
        images = [image(rng, np.arange(40) % 5, 3.0, anchor=a) for a in anchors]
        assert least < fit_session(images, REFERENCE).lone_atoms_deviation < most
    without = [image(rng, np.arange(40) % 5, 3.0)]
    assert np.isnan(fit_session(without, REFERENCE).lone_atoms_deviation)


def test_scales_that_are_left_out_as_impossible_change_nothing(monkeypatch):
    rng = np.random.default_rng(11)
    images = [image(rng, rng.integers(0, 5, 12), s) for s in rng.normal(3.0, 0.15, 5)]
    found = fit_session(images, REFERENCE)
    image_evidence._kept_evidence.cache_clear()
    for limit in ("IMPOSSIBLE", "NEGLIGIBLE"):
        monkeypatch.setattr(image_evidence, limit, 1e9)
    whole = fit_session(images, REFERENCE)
    np.testing.assert_allclose(found.posterior, whole.posterior, atol=1e-9)
    for one, other in zip(found.images, whole.images, strict=True):
        np.testing.assert_allclose(one.shares, other.shares, atol=1e-9)


@pytest.mark.parametrize("kind", ["prior", "anchor"])
def test_the_scale_of_another_source_decides_between_solutions(kind):
    rng = np.random.default_rng(5)
    vague = replace(REFERENCE, scatter=0.4)
    known = (3.0, 0.05)
    clusters = image(rng, [1] * 20, 3.0, anchor=known if kind == "anchor" else None)
    (found,) = fit_session([clusters], vague, known if kind == "prior" else None).images
    assert found.log_scale[0] == pytest.approx(3.0, abs=0.08)
    assert found.shares[0].argmax() == 1


def test_an_image_without_clusters_gets_the_scale_of_the_session():
    rng = np.random.default_rng(6)
    nothing = ImageMeasurements(np.empty(0), np.empty(0))
    session = fit_session([nothing, *size_selected(rng, np.full(5, 3.0))], REFERENCE)
    empty = session.images[0]
    assert empty.weight @ empty.log_scale == pytest.approx(3.0, abs=0.15)
    (alone,) = fit_session([nothing], REFERENCE).images
    assert np.isfinite(alone.log_scale).all()


@pytest.mark.parametrize("factor", [1e-4, 1e6])
def test_the_unit_of_the_intensity_does_not_matter(factor):
    rng = np.random.default_rng(7)
    images = size_selected(rng, rng.normal(3.0, 0.1, 6))
    there = [ImageMeasurements(x.log_intensity + np.log(factor), x.log_size) for x in images]
    for a, b in zip(
        fit_session(images, REFERENCE).images, fit_session(there, REFERENCE).images, strict=True
    ):
        assert b.log_scale[0] - np.log(factor) == pytest.approx(a.log_scale[0], abs=0.02)
        assert b.weight[0] == pytest.approx(a.weight[0], abs=0.05)


def test_far_outliers_among_the_clusters_do_not_move_the_scale():
    rng = np.random.default_rng(8)
    clean = image(rng, np.arange(30) % 5, 3.0)
    with_outliers = ImageMeasurements(
        np.append(clean.log_intensity, [12.0, 0.0]), np.append(clean.log_size, [6.0, 1.0])
    )
    (found,) = fit_session([with_outliers], REFERENCE).images
    assert found.log_scale[0] == pytest.approx(3.0, abs=0.05)


def test_the_weights_of_the_solutions_are_calibrated():
    rng = np.random.default_rng(9)
    stated, right = [], []
    for _ in range(60):
        c, n = rng.integers(5), rng.integers(3, 25)
        true = rng.normal(3, 0.1)
        error = rng.normal(0, REFERENCE.scatter)
        (found,) = fit_session([image(rng, [c] * n, true, error)], REFERENCE).images
        stated.append(found.weight[0])
        right.append(abs(found.log_scale[0] - true) < 0.12)
    assert np.mean(right) == pytest.approx(np.mean(stated), abs=0.12)


def test_draws_have_the_weights_of_the_solutions_and_are_joint():
    """Images of one size: which size it is, is the same question for all of them."""
    rng = np.random.default_rng(6)
    vague = replace(REFERENCE, scatter=0.3)
    images = [image(rng, [2] * 20, s) for s in rng.normal(3.0, 0.02, 4)]
    session = fit_session(images, vague)
    assert session.draws.shape == (4, N_DRAWS)
    for modes, draws in zip(session.images, session.draws, strict=True):
        assert modes.weight[0] < 0.9
        seen = np.bincount(draws, minlength=len(modes.weight)) / N_DRAWS
        assert seen == pytest.approx(modes.weight, abs=0.1)
    scale = [x.log_scale[draws] for x, draws in zip(session.images, session.draws, strict=True)]
    assert np.corrcoef(scale)[np.triu_indices(4, 1)].min() > 0.6
    assert (fit_session(images, vague).draws == session.draws).all()
    mixtures = [image(rng, np.arange(40) % 5, 3.0) for _ in range(3)]
    assert not fit_session(mixtures, REFERENCE).draws.any()


# ---- what each source tells
NONE = np.empty(0)


def sources(images, prior=None):
    """Name of each source → mean and standard deviation of ln scale."""
    found = {}
    for source in fit_sources(images, REFERENCE, prior):
        mean = source.posterior @ source.grid
        assert source.posterior.sum() == pytest.approx(1)
        deviation = np.sqrt(source.posterior @ (source.grid - mean) ** 2)
        found[source.name] = (float(mean), float(deviation))
    return found


def test_each_source_tells_what_it_knows():
    rng = np.random.default_rng(0)
    images = size_selected(rng, rng.normal(3.0, 0.1, 10))
    images.append(image(rng, [1] * 20, 3.1, shares=np.eye(5)[1]))
    images.append(ImageMeasurements(NONE, NONE, None, (2.9, 0.1)))
    found = sources(images, (3.2, 0.15))
    assert list(found) == [
        "intensities", "intensities and sizes", "known samples", "lone atoms", "earlier session"
    ]  # fmt: skip
    assert found["intensities and sizes"][1] <= found["intensities"][1]
    assert found["known samples"][0] == pytest.approx(3.1, abs=0.06)
    assert found["lone atoms"][0] == pytest.approx(2.9, abs=0.06)
    assert found["earlier session"] == pytest.approx((3.2, 0.15), abs=0.01)


def test_images_of_one_size_tell_nothing_without_sizes():
    rng = np.random.default_rng(1)
    images = size_selected(rng, np.full(5, 3.0))[2:3]
    found = sources([replace(images[0], shares=np.eye(5)[2])])
    assert found["intensities"][1] > 2 * found["known samples"][1]


def test_only_what_took_part_is_there(monkeypatch):
    rng = np.random.default_rng(2)
    images = size_selected(rng, np.full(3, 3.0))
    assert list(sources(images)) == ["intensities"]  # with sizes, that is the session itself
    monkeypatch.setattr(session_images, "MAX_CLUSTERS", 50)
    assert sources(images, (3.0, 0.1)) == {}


@pytest.mark.parametrize("seed", range(5))
def test_noise_that_widens_the_intensities_of_a_session_is_seen(seed):
    rng = np.random.default_rng(seed)
    plain = [image(rng, rng.integers(0, 5, 30), s) for s in rng.normal(3.0, 0.1, 8)]
    wider = [
        replace(x, log_intensity=x.log_intensity + rng.normal(0, 1.2 * INTENSITY_SCATTER, 30))
        for x in plain
    ]
    as_is, noisy = (fit_session(images, REFERENCE).images[0] for images in (plain, wider))
    assert as_is.variance == 1.0
    assert 1.7 < noisy.variance < 3.0
    assert noisy.log_scale[0] == pytest.approx(as_is.log_scale[0], abs=0.1)


def test_sizes_that_blur_has_brought_nearer_to_each_other_are_sorted_by_their_intensities():
    right = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        images = size_selected(rng, rng.normal(3.0, 0.1, 10))
        blurred = [
            replace(x, log_size=x.log_size - 0.2 * (x.log_size - LOG_N.mean())) for x in images
        ]
        shares = [x.shares[0] for x in fit_session(blurred, REFERENCE).images]
        right.append(np.argmax(shares, axis=1) == np.arange(10) % 5)
    assert np.mean(right) > 0.95
