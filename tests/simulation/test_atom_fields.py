"""Simulated fields of atoms: what they are said to be, measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.simulation import atom_fields
from napari_atomicity.simulation.atom_fields import AtomFieldSettings, contrast_of, simulate_atoms
from napari_atomicity.simulation.imaging import Microscope, Scan, cross_section_nm2
from napari_atomicity.statistics.points.nearest_neighbours import nearest_neighbours
from napari_atomicity.statistics.points.windows import ObservationWindow

STILL = Scan(row_jitter_px=0.0, row_noise=0.0)
CLEAN = Microscope(dose_e_per_a2=1e6, gain=1.0, black_level=100.0, lag=0.0)
SMALL = AtomFieldSettings(shape_px=(160, 200), atoms_per_nm2=0.4, microscope=CLEAN, scan=STILL)
WINDOW = ObservationWindow(np.ones((100, 120), bool), 0.2)


@pytest.mark.parametrize(
    "settings",
    [
        AtomFieldSettings(pattern="random", atoms_per_nm2=0.5),
        AtomFieldSettings(pattern="clustered", atoms_per_nm2=0.5, parents_per_nm2=0.2),
        AtomFieldSettings(pattern="inhibited", atoms_per_nm2=0.5, apart_nm=0.6),
    ],
    ids=lambda s: s.pattern,
)
def test_a_pattern_has_its_density_up_to_the_edges(settings):
    counts, rim, narrow = [], 0, 2.0
    for seed in range(60):
        points = atom_fields.lone_atoms(settings, WINDOW, np.random.default_rng(seed))
        assert WINDOW.contains(points).all()
        counts.append(len(points))
        rim += int((WINDOW.boundary_nm(points) < narrow).sum())
    area = WINDOW.area_nm2
    error = np.std(counts) / area / np.sqrt(60)
    assert np.mean(counts) / area == pytest.approx(0.5, abs=4 * error)
    rim_area = area - (20 - 2 * narrow) * (24 - 2 * narrow)
    assert rim / 60 / rim_area == pytest.approx(0.5, rel=0.08)


def test_inhibited_atoms_are_apart_and_too_many_are_refused():
    rng = np.random.default_rng(0)
    points = atom_fields.inhibited_points(WINDOW, 0.5, 0.7, rng)
    assert nearest_neighbours(points).min() > 0.7
    with pytest.raises(AtomicityError, match="room"):
        atom_fields.inhibited_points(WINDOW, 1.0, 0.7, rng)


@pytest.mark.parametrize("pattern", atom_fields.PATTERNS)
def test_k_is_the_integral_of_g(pattern):
    settings = AtomFieldSettings(pattern=pattern, atoms_per_nm2=0.4)
    r = np.linspace(0, 4, 8001)
    integrand = 2 * np.pi * r * atom_fields.pair_correlation(settings, r)
    k = np.concatenate([[0], np.cumsum((integrand[1:] + integrand[:-1]) / 2 * np.diff(r))])
    np.testing.assert_allclose(atom_fields.ripley_k(settings, r), k, atol=0.01)


def test_the_same_seed_gives_the_same_pixels():
    one, other, third = (simulate_atoms(SMALL, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.micrograph.data, other.micrograph.data)
    assert one.truth.equals(other.truth)
    assert (one.micrograph.data != third.micrograph.data).any()


def test_an_atom_is_as_wide_and_as_bright_as_it_is_said_to_be():
    settings = replace(SMALL, roughness=1e-6, order=1.0, carbon_nm=200.0, atom_scatter=1e-6)
    stacked, level = [], []
    for seed in range(4):
        field = simulate_atoms(settings, seed)
        data = field.micrograph.data - CLEAN.black_level
        lone = field.truth[nearest_neighbours(field.lone_nm) > 1.0]
        for y, x in lone[["y_px", "x_px"]].to_numpy():
            if 12 < y < 147 and 12 < x < 187:
                i, j = round(y), round(x)
                yy, xx = np.mgrid[i - 12 : i + 13, j - 12 : j + 13]
                distance = np.hypot(yy - y, xx - x).ravel() * settings.pixel_size_nm
                stacked.append(np.stack([distance, data[yy, xx].ravel()], axis=1))
        level.append(np.median(data))
    distance, value = np.concatenate(stacked).T
    base = float(np.median(level))
    height = (value[distance < 0.02].mean() - base) / base
    assert height == pytest.approx(settings.contrast, rel=0.15)
    half = value[np.abs(distance - settings.atom_fwhm_nm / 2) < 0.01].mean()
    assert (half - base) / base == pytest.approx(settings.contrast / 2, rel=0.2)
    inside = (value[distance < 0.35] - base).mean() * np.pi * 0.35**2
    assert inside == pytest.approx(field.intensity_per_atom, rel=0.15)


def test_intensities_scatter_as_said_and_clusters_have_that_of_their_atoms():
    settings = replace(SMALL, shape_px=(400, 400), atoms_per_nm2=3.0, clusters=(19, 55))
    truth = simulate_atoms(settings, 3).truth
    lone, clusters = (truth[truth["which"] == which] for which in ("lone", "cluster"))
    assert lone["intensity_atoms"].mean() == pytest.approx(1, abs=0.06)
    assert lone["intensity_atoms"].std() == pytest.approx(0.35, abs=0.06)
    assert (lone["n"] == 1).all() and clusters["n"].tolist() == [19, 55]
    assert clusters["intensity_atoms"].to_numpy() / [19, 55] == pytest.approx([1, 1], abs=0.3)
    # No lone atom lies on a cluster.
    centres, others = (t[["y_nm", "x_nm"]].to_numpy() for t in (clusters, lone))
    apart = np.linalg.norm(centres[:, None] - others[None], axis=2)
    assert apart.min() > 0.4


def test_there_is_no_atom_and_no_carbon_in_vacuum():
    settings = replace(SMALL, vacuum=0.25, step=0.5)
    field = simulate_atoms(settings, 4)
    assert field.support.mean() == pytest.approx(0.75, abs=0.01)
    assert ObservationWindow(field.support, settings.pixel_size_nm).contains(field.lone_nm).all()
    data = field.micrograph.data - CLEAN.black_level
    assert data[~field.support].mean() < 0.1 * data[field.support].mean()
    assert field.micrograph.shape == field.support.shape == settings.shape_px


def test_what_is_not_possible_is_refused():
    with pytest.raises(AtomicityError, match="pattern"):
        simulate_atoms(replace(SMALL, pattern="even"))
    with pytest.raises(AtomicityError, match="room"):
        simulate_atoms(replace(SMALL, clusters=(55,) * 40))


def test_the_contrast_by_cross_sections_is_that_of_the_image():
    thin = AtomFieldSettings(shape_px=(200, 200), carbon_nm=4.0, roughness=0.0)
    contrast = contrast_of("Pt", thin)
    assert contrast_of("Fe", thin) / contrast == pytest.approx((26 / 78) ** 1.7)
    assert contrast_of("Pt", replace(thin, carbon_nm=8.0)) == pytest.approx(contrast / 2)
    field = simulate_atoms(replace(thin, contrast=contrast), 0)
    per_electron = thin.microscope.dose_e_per_a2 * 100 * thin.pixel_size_nm**2
    cross_section = field.intensity_per_atom / per_electron / thin.microscope.gain
    assert cross_section == pytest.approx(cross_section_nm2("Pt"), rel=0.05)
