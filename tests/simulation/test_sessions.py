"""Sessions: common conditions, images that scatter about them, samples of every kind."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.sessions import (
    GAIN_SPREAD,
    KINDS,
    MAX_FEW,
    draw_samples,
    draw_session,
    random_image_settings,
    simulate_session,
)

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
SMALL = FieldSettings(shape_px=(256, 256), clusters_per_nm2=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_a_session(kind):
    one, same, other = (draw_session(kind, CLASSES, 8, seed) for seed in (3, 3, 4))
    assert one == same
    assert one != other
    assert len({image.name for image in one}) == len({image.seed for image in one}) == 8


def test_images_of_a_session_are_recorded_alike():
    images = draw_session("mixture", CLASSES, 300, 1)
    assert len({image.settings.pixel_size_nm for image in images}) == 1
    assert len({image.settings.microscope.voltage_kv for image in images}) == 1
    microscopes = [image.settings.microscope for image in images]
    assert np.std(np.log([m.dose_e_per_a2 for m in microscopes])) == pytest.approx(0.1, rel=0.2)
    assert np.std([m.defocus_nm for m in microscopes]) == pytest.approx(2, rel=0.2)
    gain = np.std(np.log([m.gain for m in microscopes]))
    assert 0.8 * GAIN_SPREAD[0] < gain < 1.2 * GAIN_SPREAD[1]
    assert 0.1 < np.std([image.log_scale for image in images]) < 0.2


def test_without_a_spread_the_gain_is_the_sessions():
    own = random_image_settings(SMALL, np.random.default_rng(0))
    assert own.microscope.gain == SMALL.microscope.gain
    assert own.microscope.dose_e_per_a2 != SMALL.microscope.dose_e_per_a2


def test_samples_of_every_kind():
    rng = np.random.default_rng(0)
    drawn = {kind: draw_samples(kind, CLASSES, 10, rng) for kind in KINDS}
    assert len({name for name, _ in drawn["mixture"]}) == 2
    assert all(set(mixture) == set(CLASSES) for _, mixture in drawn["mixture"])
    assert sorted(name for name, _ in drawn["one size per image"]) == sorted(CLASSES * 2)
    assert len({name for name, _ in drawn["one size"]}) == 1
    assert all(len(mixture) == 2 for _, mixture in drawn["two sizes"])
    sizes = {size for _, mixture in drawn["other sizes"] for size in mixture}
    assert sizes == {"Pt25", "Pt48"}
    for samples in drawn.values():
        assert all(sum(mixture.values()) == pytest.approx(1) for _, mixture in samples)


def test_an_unknown_kind_is_refused():
    with pytest.raises(AtomicityError, match="kind"):
        draw_session("three sizes", CLASSES, 3, 0)


def test_the_scale_of_an_image_is_that_of_its_field(library):
    images = draw_session("one size per image", ("Pt19", "Pt70"), 4, 2, SMALL)
    made = list(simulate_session(library, images))
    own = np.log([field.intensity_per_atom("Pt19") for field in made])
    relative = own - [image.log_scale for image in images]
    np.testing.assert_allclose(relative, relative[0])
    for image, field in zip(images, made, strict=True):
        assert field.micrograph.name == image.name
        assert set(field.truth["label"]) <= {image.sample}


def test_images_of_few_clusters_have_few_whole_ones(library):
    images = draw_session("few clusters", ("Pt19", "Pt70"), 6, 5)
    for field in simulate_session(library, images):
        assert 1 <= (~field.truth["touches_border"]).sum() <= MAX_FEW


def test_a_session_is_simulated_alike_each_time(library):
    images = draw_session("two sizes", ("Pt19", "Pt70"), 2, 5, replace(SMALL, touching=0.0))
    for one, same in zip(*(simulate_session(library, images) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one.micrograph.data, same.micrograph.data)
        pd.testing.assert_frame_equal(one.truth, same.truth)
