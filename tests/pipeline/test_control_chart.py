"""The chart of a session: quiet by chance, rings where conditions change."""

import json

import numpy as np
import pytest

from napari_atomicity.models.domain_shift import FeatureSummary, domain_shift
from napari_atomicity.pipeline.live.control_chart import (
    FIRST,
    IMAGES_PER_FALSE_ALARM,
    MAX_REFERENCE_IMAGES,
    ControlChart,
    images_per_false_alarm,
)

D = 16


def images(n, rng, at=0.0, clusters=20, spread=0.3):
    """Mean residuals about a place of the session, with the scatter that they say."""
    middle = np.zeros(D)
    middle[0] = at
    scatter = D / clusters
    here = middle + rng.normal(0, spread, (n, D)) + rng.normal(0, clusters**-0.5, (n, D))
    return [FeatureSummary(residual, scatter) for residual in here]


def test_false_alarms_are_as_rare_as_stated():
    rng = np.random.default_rng(0)
    rang = judged = 0
    for _ in range(60):
        chart = ControlChart()
        for image in images(FIRST + 60, rng):
            reading = chart.add(image)
            judged += np.isfinite(reading.change)
            if reading.rings:
                rang += 1
                break
    assert judged > 3000  # 3.4 alarms are expected
    assert rang <= 10


def test_the_limit_is_that_of_the_stated_rate():
    assert images_per_false_alarm() == pytest.approx(IMAGES_PER_FALSE_ALARM, rel=0.01)
    # without memory it is Shewhart's: one in 1 / (1 - Φ(3))
    assert images_per_false_alarm(1.0, 3.0) == pytest.approx(740.8, rel=1e-3)


def test_a_change_rings_until_it_is_over():
    rng = np.random.default_rng(1)
    chart = ControlChart()
    before = [chart.add(image) for image in images(25, rng)]
    assert not any(reading.rings for reading in before)
    assert all(np.isnan(r.change) for r in before[: FIRST - 1]) and before[-1].reference == 25
    after = [chart.add(image).rings for image in images(12, rng, at=4.0)]
    assert not after[0] and all(after[2:])
    assert chart.images == 25  # what is outside does not become the reference
    again = [chart.add(image).rings for image in images(12, rng)]
    assert not again[-1]


def test_one_odd_image_neither_rings_nor_joins_the_reference():
    rng = np.random.default_rng(1)
    chart = ControlChart()
    for image in images(25, rng):
        chart.add(image)
    odd = chart.add(images(1, rng, at=4.0)[0])
    assert not odd.joined and not odd.rings and odd.reference == 25
    assert not any(chart.add(image).rings for image in images(12, rng))


def test_the_reference_grows_no_further_than_it_needs():
    rng = np.random.default_rng(8)
    chart = ControlChart(4)
    for image in images(MAX_REFERENCE_IMAGES + 20, rng):
        reading = chart.add(image)
    assert reading.reference == chart.images == MAX_REFERENCE_IMAGES and reading.joined


def test_a_change_step_by_step_rings():
    rng = np.random.default_rng(2)
    chart = ControlChart()
    quiet = [chart.add(image).rings for image in images(20, rng)]
    steps = [chart.add(images(1, rng, at=0.1 * i)[0]).rings for i in range(40)]
    assert not any(quiet) and any(steps)


def test_as_far_from_the_training_in_another_direction_is_a_change():
    rng = np.random.default_rng(3)
    chart = ControlChart()
    for image in images(15, rng, at=3.0):
        chart.add(image)
    turned = images(4, rng, at=-3.0)
    assert np.mean([w.drift for w in turned]) == pytest.approx(9 + D * 0.09, rel=0.4)
    assert [chart.add(image).rings for image in turned][-1]


def test_drift_of_the_session_has_the_scatter_taken_off():
    rng = np.random.default_rng(4)
    chart = ControlChart()
    known = images(200, rng, spread=0.0)
    far = [chart.add(image).drift for image in [*known, *images(40, rng, at=2.0, spread=0.0)]]
    assert np.mean(far[20:200]) == pytest.approx(0.0, abs=0.06)
    assert np.mean(far[204:]) == pytest.approx(4.0, rel=0.15)


def test_few_clusters_say_nothing_and_nothing_need_be_judged():
    chart = ControlChart(4)
    rng = np.random.default_rng(5)
    for image in images(4, rng):
        chart.add(image)
    reading = chart.add(None)
    assert reading.reference == 4 and not reading.rings and np.isnan(reading.drift)
    never = ControlChart(0)
    for at in (0.0, 90.0):
        assert not any(never.add(image).rings for image in images(20, rng, at=at))
    with pytest.raises(ValueError, match="at least 4"):
        ControlChart(3)


def test_accepted_conditions_are_the_reference():
    rng = np.random.default_rng(6)
    chart = ControlChart(5)
    for image in images(20, rng):
        chart.add(image)
    new = images(20, rng, at=5.0)
    assert [chart.add(image).rings for image in new[:3]][-1]
    chart.begin_anew()
    assert not any(chart.add(image).rings for image in new) and chart.images == 20
    assert [chart.add(image).rings for image in images(3, rng)][-1]


def test_identical_images_are_no_division_by_zero():
    chart = ControlChart(4)
    same = FeatureSummary(np.ones(D), 0.5)
    with np.errstate(all="raise"):
        assert not any(chart.add(same).rings for _ in range(8))
        assert chart.add(FeatureSummary(np.full(D, 9.0), 0.5)).change > 0.5


def test_whereabouts_are_those_of_the_shift_test_and_travel():
    rng = np.random.default_rng(7)
    tensors = {"ood.mean": rng.normal(size=(3, D)), "ood.whitening": rng.normal(size=(D, D))}
    embedding, label = rng.normal(size=(12, D)), rng.integers(3, size=12)
    embedding[4] = np.nan
    found = FeatureSummary.of(embedding, label, tensors)
    assert found.drift == pytest.approx(domain_shift(embedding, label, tensors))
    back = FeatureSummary.from_dict(json.loads(json.dumps(found.to_dict())))
    assert (back.residual == found.residual).all() and back.scatter == found.scatter
    assert FeatureSummary.of(embedding[:8], label[:8], tensors) is None
