"""Image formation: conservation, resolution, counting, reproducibility."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.simulation.imaging import (
    Microscope,
    Scan,
    cross_section_nm2,
    probe,
    record,
    scan_positions,
    scatter_atoms,
    scatter_carbon,
    wavelength_nm,
)

STILL = Scan(row_jitter_px=0.0)


def test_wavelength_of_200_kv():
    assert wavelength_nm(200) == pytest.approx(2.508e-3, rel=1e-3)


def width_nm(intensity, pixel_nm):
    line = intensity[intensity.shape[0] // 2]
    return (line > line.max() / 2).sum() * pixel_nm


def test_probe_is_normalised_and_diffraction_limited():
    sharp = probe(Microscope(source_nm=1e-3, thermal_nm=0.0), 0.005, 200)
    assert sharp.sum() * 0.005**2 == pytest.approx(1, abs=0.03)
    # Airy disc: full width at half maximum 0.51 wavelength / convergence angle
    assert width_nm(sharp, 0.005) == pytest.approx(0.51 * 2.508e-3 / 25e-3, rel=0.15)


@pytest.mark.parametrize(
    "change", [{"defocus_nm": 8.0}, {"source_nm": 0.15}, {"astigmatism_nm": 8.0}, {"cs_um": 30.0}]
)
def test_every_aberration_lowers_the_peak(change):
    assert probe(Microscope(**change), 0.01, 60).max() < 0.9 * probe(Microscope(), 0.01, 60).max()


@settings(max_examples=20, deadline=None)
@given(st.floats(1.0, 1.6), st.floats(1.0, 1.6))
def test_an_atom_scatters_its_cross_section_wherever_it_lies(y, x):
    pixel = 0.04
    image = scatter_atoms(
        (64, 64), pixel, np.array([[y, x]]), np.array([2.2e-4]), Microscope(), (np.zeros(64),) * 2
    )
    assert image.sum() * pixel**2 == pytest.approx(2.2e-4, rel=0.05)
    yy, xx = np.mgrid[:64, :64]
    centre = (image * yy).sum() / image.sum(), (image * xx).sum() / image.sum()
    np.testing.assert_allclose(np.array(centre) * pixel, (y, x), atol=0.012)


def test_atoms_beyond_the_edge_do_not_wrap_around():
    image = scatter_atoms(
        (40, 40), 0.05, np.array([[-0.1, 1.0]]), np.array([1.0]), Microscope(), (np.zeros(40),) * 2
    )
    assert image[0, 20] > 0
    assert image[20:].max() == 0


def test_carbon_scatters_its_thickness():
    pixel = 0.05
    rng = np.random.default_rng(0)
    image = scatter_carbon(np.full((160, 160), 3.0), pixel, Microscope(), rng)
    assert image.mean() == pytest.approx(3.0 * 100 * cross_section_nm2("C"), rel=0.03)
    assert image.mean() == pytest.approx(5e-4, rel=0.1)  # about 0.05 % for 3 nm


def test_order_takes_long_waves_out_of_the_texture():
    def coarse(order):
        image = scatter_carbon(
            np.full((256, 256), 3.0), 0.05, Microscope(), np.random.default_rng(1), order
        )
        return image.reshape(16, 16, 16, 16).mean((1, 3)).std()

    assert coarse(0.9) < 0.5 * coarse(0.0)


def test_detector_counts_electrons():
    microscope = Microscope(dose_e_per_a2=1e4, gain=3.0, black_level=100, read_noise=0.0, lag=0.0)
    scattered = np.full((300, 300), 0.01)
    image = record(scattered, 0.04, microscope, STILL, np.random.default_rng(0)).astype(float)
    electrons = 0.01 * 1e4 * 0.4**2
    assert image.mean() == pytest.approx(100 + 3 * electrons, rel=0.01)
    assert image.var() == pytest.approx(9 * electrons, rel=0.05)


def test_counts_saturate_instead_of_wrapping():
    image = record(np.ones((8, 8)), 0.05, Microscope(gain=1e4), STILL, np.random.default_rng(0))
    assert (image == 65535).all()


def test_drift_displaces_rows_steadily():
    y, x = scan_positions((50, 60), Scan(0.0, (0.01, -0.02)), np.random.default_rng(0))
    np.testing.assert_allclose(np.diff(y), 0.01)
    np.testing.assert_allclose(np.diff(x), -0.02)


def test_afterglow_trails_along_the_row_and_into_the_next():
    spot = np.zeros((6, 100))
    spot[2, 90] = 1.0
    dry = Microscope(dose_e_per_a2=1e6, gain=0.1, black_level=0, read_noise=0.0, lag=0.0)
    glowing = replace(dry, afterglow=0.2, afterglow_px=20.0)
    plain, trail = (
        record(spot, 0.05, m, STILL, np.random.default_rng(0)).astype(float) for m in (dry, glowing)
    )
    assert plain[2, 90] > 0 and plain.sum() == plain[2, 90]
    assert trail[:2].sum() == trail[2, :90].sum() == 0
    assert trail[2, 90] == pytest.approx(0.8 * plain[2, 90], rel=0.02)
    assert trail[3, 10] / trail[2, 91] == pytest.approx(np.exp(-19 / 20), abs=0.02)
    assert trail.sum() == pytest.approx(plain.sum(), rel=0.02)


def test_afterglow_keeps_an_even_image_even():
    glowing = Microscope(afterglow=0.3, afterglow_px=200.0, read_noise=0.0, lag=0.0, gain=10.0)
    dry = replace(glowing, afterglow=0.0)
    even = np.full((60, 60), 0.01)
    images = [record(even, 0.05, m, STILL, np.random.default_rng(0)) for m in (dry, glowing)]
    assert images[1].mean() == pytest.approx(images[0].mean(), rel=0.01)
    assert images[1][0].mean() == pytest.approx(images[0].mean(), rel=0.05)


def test_another_device_gives_the_same_to_rounding():
    rng = np.random.default_rng(0)
    places, shape = rng.uniform(-0.3, 4, (50, 2)), (90, 80)
    stray = scan_positions(shape, Scan(0.3, (0.01, 0.02)), rng)
    here, there = (
        scatter_atoms(shape, 0.04, places, np.full(50, 2e-4), Microscope(), stray, device=d)
        for d in ("cpu", "cpu:0")  # the second is PyTorch's
    )
    np.testing.assert_allclose(there, here, atol=1e-5 * here.max())
    support = np.full(shape, 3.0)
    here, there = (
        scatter_carbon(support, 0.04, Microscope(), np.random.default_rng(1), device=d)
        for d in ("cpu", "cpu:0")
    )
    np.testing.assert_allclose(there, here, atol=1e-5 * here.max())


@pytest.mark.parametrize("drift", [0.0, 0.02, -0.05])
def test_a_drifting_beam_takes_no_intensity_away(drift):
    """Far down the image the beam is many pixels from where it should be."""
    rows = np.arange(600)
    image = scatter_atoms(
        (600, 200), 0.04, np.array([[20.0, 4.0]]), np.array([2e-4]), Microscope(),
        (np.zeros(600), drift * rows),
    )  # fmt: skip
    still = scatter_atoms(
        (600, 200), 0.04, np.array([[20.0, 4.0]]), np.array([2e-4]), Microscope(),
        (np.zeros(600), np.zeros(600)),
    )  # fmt: skip
    assert image.sum() == pytest.approx(still.sum(), rel=0.01)
    assert np.unravel_index(image.argmax(), image.shape)[1] == pytest.approx(
        100 - 500 * drift, abs=1
    )
