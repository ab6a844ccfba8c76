"""Clipping and shading: intensities of changed copies against those of the image as recorded."""

from functools import lru_cache
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.spatial import cKDTree

from napari_atomicity import load
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.detection import detect, measure_at
from napari_atomicity.detection.frame import Frame, Tile
from napari_atomicity.detection.patches import extract_patches
from napari_atomicity.detection.recording import FAITHFUL, RecordingEffects, recording_of
from napari_atomicity.simulation.example_data import example_path

PIXEL_NM = 0.036


@lru_cache(maxsize=1)
def as_recorded():
    """The upper left quarter of the example, a simulated field with a black level of 420."""
    return np.asarray(load(example_path()).data[:600, :600])


def micrograph(pixels):
    return Micrograph(np.asarray(pixels, np.float32), PIXEL_NM)


def in_8_bits(pixels, saturated=0.35):
    """Stretch to 8 bits; a percentage of the pixels is saturated at each end."""
    low, high = np.percentile(pixels, [saturated, 100 - saturated])
    return np.clip(np.round((pixels - low) / (high - low) * 255), 0, 255).astype(np.uint8)


def as_jpeg(pixels):
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=90)
    return np.asarray(Image.open(content))


def shaded(pixels, corner):
    v, u = (np.linspace(-1, 1, n) for n in pixels.shape)
    return np.round(pixels * (1 - (1 - corner) * (v[:, None] ** 2 + u**2) / 2))


@lru_cache(maxsize=1)
def table_as_recorded():
    return detect(micrograph(as_recorded())).table


def log_ratio(table):
    """Return ln of the intensity over that as recorded, of whole clusters, without the gain."""
    before = table_as_recorded()
    before = before[~before["touches_border"] & ~before["touches_neighbour"]]
    apart, match = cKDTree(table[["y_px", "x_px"]]).query(before[["y_px", "x_px"]])
    found = apart < 5
    assert found.mean() > 0.9
    intensity = table["integrated_intensity"].to_numpy()[match[found]]
    ratio = np.log(intensity / before["integrated_intensity"].to_numpy()[found])
    return ratio - np.median(ratio)


def test_an_image_as_recorded_is_not_changed():
    image = micrograph(as_recorded())
    assert recording_of(image) == FAITHFUL
    assert recording_of(image).provenance() == {}
    assert not {"clipped", "response"} & set(table_as_recorded().columns)


@pytest.mark.parametrize("convert", [lambda x: x, as_jpeg])
def test_what_clipped_clusters_have_lost_is_estimated(convert, monkeypatch):
    image = micrograph(convert(in_8_bits(as_recorded())))
    clipping = recording_of(image).clipping
    assert clipping is not None
    assert clipping.fraction == pytest.approx(0.0035, rel=0.3)
    table = detect(image).table
    assert (table["clipped"] > 0).mean() > 0.5 and table["clipped"].max() < 0.6
    assert (table["response"] == 1).all()
    left = np.std(log_ratio(table))
    monkeypatch.setattr(RecordingEffects, "restore", lambda self, part, *_: part)
    lost = np.std(log_ratio(detect(image).table))
    assert left < 0.03 < lost and left < 0.7 * lost


def test_clipping_is_found_in_an_image_of_few_electrons():
    """The noise of the support then comes near the limit, and few grey levels are used."""
    signal = np.maximum(as_recorded() - 420.0, 0)
    electrons = 2 + 0.2 * signal / np.median(signal)
    counted = np.random.default_rng(0).poisson(electrons)
    assert recording_of(micrograph(counted)).clipping is None
    clipping = recording_of(micrograph(in_8_bits(counted))).clipping
    assert clipping is not None and clipping.excess > 0


def test_tiles_patches_and_manual_measurements_agree_with_the_whole():
    image = micrograph(in_8_bits(as_recorded()))
    recording = recording_of(image)
    frame = Frame(image.frame(), PIXEL_NM, recording=recording)
    everything = frame.values(Tile(0, 600, 0, 600))
    assert everything.max() > 255
    np.testing.assert_array_equal(
        frame.values(Tile(90, 200, 130, 290)), everything[90:200, 130:290]
    )
    table = detect(image).table
    row = table.loc[table["clipped"].idxmax()]
    patch = extract_patches(image, table.loc[[row.name]], PatchSettings())["raw"]
    plain = extract_patches(micrograph(as_recorded()), table.loc[[row.name]], PatchSettings())[
        "raw"
    ]
    gain = np.median(plain[patch > 50] / patch[patch > 50])
    assert patch.sum() * gain == pytest.approx(plain.sum(), rel=0.08)
    again = measure_at(image, 0, row["y_px"], row["x_px"]).table.iloc[0]
    assert again["clipped"] == pytest.approx(row["clipped"], abs=0.05)
    assert again["integrated_intensity"] == pytest.approx(row["integrated_intensity"], rel=0.05)


def test_one_bright_pixel_or_a_full_range_is_not_clipped():
    assert recording_of(micrograph(in_8_bits(as_recorded(), 0))).clipping is None
    pixels = as_recorded().copy()
    pixels[10, 10] = 65535
    assert recording_of(micrograph(pixels)).clipping is None


def test_a_scale_bar_is_told_but_lends_clusters_no_intensity():
    pixels = in_8_bits(as_recorded(), 0)
    pixels[560:575, 400:560] = 255
    clipping = recording_of(micrograph(pixels)).clipping
    assert clipping is not None and clipping.excess == 0


@pytest.mark.parametrize("corner", [0.7, 0.8])
def test_shading_is_corrected(corner):
    image = micrograph(shaded(as_recorded(), corner))
    shading = recording_of(image).shading
    assert shading is not None
    assert shading.smallest == pytest.approx(corner, abs=0.02)
    table = detect(image).table
    assert np.std(log_ratio(table)) < 0.03
    assert table["response"].min() < 0.95 < 1.02 < table["response"].max()
    assert not table["clipped"].any()


def test_thickness_is_not_shading():
    """The noise of a wedge goes as the square root of its level, here with a black level of 0."""
    rng = np.random.default_rng(3)
    level = np.linspace(40, 80, 256) * np.ones((256, 1))
    assert recording_of(micrograph(rng.poisson(level))).shading is None
    step = np.where(np.arange(256) < 100, 50, 80) * np.ones((256, 1))
    assert recording_of(micrograph(rng.poisson(step))).shading is None
    response = np.linspace(1, 0.7, 256) * np.ones((256, 1))
    assert recording_of(micrograph(response * (500 + rng.poisson(60, (256, 256))))).shading


@pytest.mark.parametrize(
    ("power", "provenance"), [(0, {}), (2, {"ambiguous_shading": True})], ids=["offset", "unclear"]
)
def test_shading_that_noise_does_not_confirm_is_not_corrected(power, provenance):
    """Noise that is the same everywhere belongs to a changing offset, which needs no mention."""
    rng = np.random.default_rng(4)
    level = np.linspace(500, 700, 256) * np.ones((256, 1))
    noise = rng.normal(0, 1, level.shape) * (level / 600) ** power
    assert recording_of(micrograph(level + 3 * noise)).provenance() == provenance


def test_levels_after_a_gamma_are_not_linear():
    plain = in_8_bits(as_recorded(), 0)
    bright = np.round(255 * (plain / 255) ** 0.5)
    assert recording_of(micrograph(bright)).nonlinear
    assert not recording_of(micrograph(plain)).nonlinear
    assert not recording_of(micrograph(in_8_bits(as_recorded()))).nonlinear


def test_a_support_at_the_lower_limit_is_told():
    pixels = in_8_bits(as_recorded())
    floor = np.percentile(pixels, 20)
    found = recording_of(micrograph(np.maximum(pixels, floor) - floor))
    assert found.floor == pytest.approx(0.2, abs=0.1)
    counting = np.random.default_rng(5).poisson(1.0, (200, 200))
    assert recording_of(micrograph(counting)) == FAITHFUL


@pytest.mark.parametrize(
    "change",
    [
        lambda x: 3.5 * x + 200,
        lambda x: np.rot90(x),
        lambda x: x[:, ::-1],
        lambda x: x.reshape(300, 2, 300, 2).mean(axis=(1, 3)),
    ],
    ids=["gain and offset", "rotation", "flip", "binning"],
)
def test_ordinary_copies_are_faithful(change):
    image = micrograph(np.ascontiguousarray(change(as_recorded())))
    assert recording_of(image) == FAITHFUL
    table = detect(Micrograph(image.data, PIXEL_NM * 600 / image.shape[0])).table
    assert len(table) == pytest.approx(len(table_as_recorded()), abs=1)


def test_a_mixed_stack_has_the_columns_of_its_clipped_frame():
    pixels = in_8_bits(as_recorded())
    stack = np.stack([as_recorded()[:300, :300], pixels[:300, :300]])
    table = detect(micrograph(stack)).table
    clipped = table.groupby("frame")["clipped"]
    assert np.isnan(clipped.min()[0]) and clipped.max()[1] > 0
    assert isinstance(table, pd.DataFrame)
