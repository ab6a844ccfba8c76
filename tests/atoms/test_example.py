"""The shipped model on the bundled example: the whole of it, from the file to counted clusters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity import load
from napari_atomicity.atoms.analysis import find_atoms
from napari_atomicity.atoms.dispersion import DispersionSettings, compute_image_dispersion
from napari_atomicity.atoms.marks import ImageAtoms
from napari_atomicity.atoms.summary import summary
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.reporting.plots.dispersion import extent_data
from napari_atomicity.simulation.example_data import atom_example_path, atom_example_truth_path
from napari_atomicity.statistics.matching import match


@pytest.fixture(scope="module")
def found():
    return find_atoms(load(atom_example_path()))


@pytest.fixture(scope="module")
def truth():
    return pd.read_csv(atom_example_truth_path())


def test_most_atoms_are_found_and_few_others(found, truth):
    isolated = truth.loc[truth["which"] == "lone", ["y_nm", "x_nm"]].to_numpy()
    clusters = truth[truth["which"] == "cluster"]
    table = found.table
    place = table[["y_nm", "x_nm"]].to_numpy()
    pairs = match(place, isolated, 0.15)
    assert len(pairs) > 0.7 * len(isolated)
    assert np.median(pairs.distance) < 0.04
    # What is reported away from atoms lies in clusters, which are atoms too.
    far = np.delete(place, pairs.first, axis=0)
    reach = np.linalg.norm(far[:, None] - clusters[["y_nm", "x_nm"]].to_numpy(), axis=2)
    assert (reach.min(axis=1) > 1.0).sum() < 0.15 * len(isolated)


def test_detections_on_bright_clusters_are_said_and_left_out(found, truth):
    atoms = ImageAtoms(found.micrograph.name, found.pixel_size_nm, found)
    clusters = truth.loc[truth["which"] == "cluster", ["y_nm", "x_nm"]].to_numpy()
    place = found.table[["y_nm", "x_nm"]].to_numpy()
    apart = np.linalg.norm(place[:, None] - clusters[None], axis=2).min(axis=1)
    told = summary(atoms)
    assert 0 < (apart < 0.3).sum() <= told.n_on_clusters <= (apart < 1.5).sum()
    assert told.kinds["atoms"].sum() == len(place) - told.n_on_clusters - told.n_off_support
    in_groups = told.kinds.query("kind != 'isolated'")["groups"].sum()
    assert extent_data(atoms.on_support)["groups"].sum() == in_groups
    spread = compute_image_dispersion(atoms, DispersionSettings(simulations=1))
    assert spread.dispersion.n_off_support == told.n_on_clusters + told.n_off_support
    assert told.area_nm2 == pytest.approx(spread.dispersion.area_nm2)
    # Support that somebody draws there counts.
    corners = np.array([(0, 0), (0, 1e4), (1e4, 1e4), (1e4, 0)])
    assert summary(replace(atoms, support_added=(corners,))).n_on_clusters == 0


def test_neither_the_support_nor_the_density_depend_on_the_threshold(found):
    image = found.micrograph
    strict = find_atoms(image, precision=1.0)
    np.testing.assert_array_equal(strict.bright_clusters, found.bright_clusters)
    again = strict.with_threshold(found.threshold)
    areas = [
        summary(ImageAtoms(image.name, image.pixel_size_nm, a)).area_nm2 for a in (again, found)
    ]
    assert areas[0] == areas[1]


def test_pixels_without_a_value_are_no_support(found):
    image = found.micrograph
    padded = np.pad(np.asarray(image.data, np.float32), 40, constant_values=np.nan)
    framed = find_atoms(Micrograph(padded, image.pixel_size_nm))
    assert not framed.support[np.isnan(padded)].any()
    assert framed.support.sum() == pytest.approx(found.support.sum(), rel=0.15)


def test_the_vacuum_is_seen(found):
    assert 0.02 < 1 - found.support.mean() < 0.2


@pytest.mark.parametrize("scale", [1e18, 1e-25])
def test_neither_scale_nor_hot_pixels_change_the_atoms(scale):
    image = load(atom_example_path())
    pixels = image.data[:200, :200].astype(float)
    size = image.pixel_size_nm
    expected = find_atoms(Micrograph(pixels, size))
    changed = pixels * scale
    changed[10, 190] = 1e5 * changed.max()
    changed[100, 30] = -1e3 * changed.max()
    found = find_atoms(Micrograph(changed, size))
    assert found.parameters["outlier_pixels"] == 2
    assert len(found.table) == len(expected.table) > 4
    for column, tolerance in (("y_px", 0.05), ("x_px", 0.05), ("confidence", 0.02)):
        np.testing.assert_allclose(found.table[column], expected.table[column], atol=tolerance)
    ratio = found.table["intensity"] / scale / expected.table["intensity"]
    assert np.allclose(ratio, 1, rtol=0.02)
    assert (found.support == expected.support).mean() > 0.999
