"""The map of the density of atoms, corrected for the edges of the support."""

from __future__ import annotations

import numpy as np
import pytest

from napari_atomicity.statistics.points.windows import ObservationWindow, map_density

PX = 0.1


def test_even_atoms_have_an_even_density_up_to_the_edges():
    mask = np.ones((200, 260), bool)
    mask[:80, :90] = False
    window = ObservationWindow(mask, PX)
    lattice = np.stack(np.meshgrid(np.arange(0.05, 20, 0.2), np.arange(0.05, 26, 0.2)), -1)
    points = lattice.reshape(-1, 2)
    found = map_density(points[window.contains(points)], window, bandwidth_nm=1.0)
    assert found.cell_nm == pytest.approx(2 * PX)
    on = np.isfinite(found.density_per_nm2)
    np.testing.assert_array_equal(on, mask[::2, ::2])
    np.testing.assert_allclose(found.density_per_nm2[on], 25)


def test_a_heap_is_where_it_is_and_atoms_off_the_support_count_nothing():
    window = ObservationWindow(np.pad(np.ones((100, 100), bool), ((0, 20), (0, 0))), PX)
    heap = np.random.default_rng(0).normal((3, 7), 0.3, (50, 2))
    found = map_density(np.concatenate([heap, [[11.0, 5.0]] * 200]), window)
    highest = np.unravel_index(np.nanargmax(found.density_per_nm2), found.density_per_nm2.shape)
    assert np.array(highest) * found.cell_nm == pytest.approx((3, 7), abs=0.3)
    assert 0 < found.bandwidth_nm < 0.3
    # The correction for the edge is negligible here, so that the map sums to the atoms.
    assert np.nansum(found.density_per_nm2) * found.cell_nm**2 == pytest.approx(50, rel=0.01)


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_atoms(n):
    window = ObservationWindow(np.ones((30, 30), bool), PX)
    found = map_density(np.full((n, 2), 1.5), window)
    assert np.isfinite(found.density_per_nm2).all()
    assert found.density_per_nm2.sum() * found.cell_nm**2 == pytest.approx(n, rel=0.05)
