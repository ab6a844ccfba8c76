"""The support mask on simulated and on real images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_atomicity.atoms.support import edit_mask, support_mask
from napari_atomicity.simulation.imaging import (
    Microscope,
    Scan,
    cross_section_nm2,
    record,
    scan_positions,
    scatter_atoms,
    scatter_carbon,
)

PIXEL_NM = 0.04
SHAPE = (320, 320)
STILL = Scan(row_jitter_px=0)


def imaged(thickness_nm: np.ndarray, seed: int = 0, atoms_per_nm2: float = 0.5) -> np.ndarray:
    """Carbon of this thickness with atoms on it."""
    rng = np.random.default_rng(seed)
    microscope = Microscope(dose_e_per_a2=8000)
    extent = np.array(thickness_nm.shape) * PIXEL_NM
    atoms = rng.uniform(0, 1, (rng.poisson(atoms_per_nm2 * extent.prod()), 2)) * extent
    on = np.minimum((atoms / PIXEL_NM).round().astype(int), np.array(thickness_nm.shape) - 1)
    atoms = atoms[thickness_nm[tuple(on.T)] > 0]
    image = scatter_carbon(thickness_nm, PIXEL_NM, microscope, rng)
    image += scatter_atoms(
        thickness_nm.shape, PIXEL_NM, atoms, np.full(len(atoms), cross_section_nm2("Pt")),
        microscope, scan_positions(thickness_nm.shape, STILL, rng),
    )  # fmt: skip
    return record(image, PIXEL_NM, microscope, STILL, rng)


def distance_nm(y_nm: float, x_nm: float) -> np.ndarray:
    y, x = np.indices(SHAPE) * PIXEL_NM
    return np.hypot(y - y_nm, x - x_nm)


@pytest.mark.parametrize("seed", range(3))
def test_a_corner_and_a_hole_are_vacuum(seed):
    there = (distance_nm(0, 0) > 5) & (distance_nm(9, 9) > 1.7)
    mask = support_mask(imaged(np.where(there, 3.0, 0.0), seed), PIXEL_NM)
    # the rim is blurred by 0.1 nm, and goes to the support
    assert (mask & there).sum() > 0.995 * there.sum()
    assert not mask[there.shape[0] - 95, there.shape[1] - 95]
    assert not mask[40:80, 40:80].any()
    assert mask.sum() == pytest.approx(there.sum(), rel=0.06)


@pytest.mark.parametrize("step", [1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("atoms_per_nm2", [0.0, 1.0])
def test_a_step_in_thickness_is_no_vacuum(step, atoms_per_nm2):
    thickness = np.where(distance_nm(0, 0) > 6, 2.0 * step, 2.0)
    assert support_mask(imaged(thickness, 1, atoms_per_nm2), PIXEL_NM).all()


def test_neither_gain_nor_black_level_nor_scan_lines_matter():
    image = imaged(np.where(distance_nm(0, 0) > 5, 3.0, 0.0)).astype(float)
    mask = support_mask(image, PIXEL_NM)
    assert not mask.all()
    assert (support_mask(4 * image + 1000, PIXEL_NM) == mask).all()
    lines = np.random.default_rng(0).normal(0, 0.1 * (np.median(image) - 500), (len(image), 1))
    assert (support_mask(image + lines, PIXEL_NM) == mask).mean() > 0.98


def test_atoms_in_the_dark_say_that_something_holds_them():
    dark = distance_nm(0, 0) < 8
    thickness = np.where(dark, 0.0, 3.0)
    image = imaged(thickness, atoms_per_nm2=0).astype(float)
    assert support_mask(image, PIXEL_NM)[distance_nm(0, 0) < 7].mean() < 0.02
    for y in np.arange(0.8, 7, 1.2):
        for x in np.arange(0.8, 7, 1.2):
            image += 600 * np.exp(-(distance_nm(y, x) ** 2) / 2 / 0.07**2)
    assert support_mask(image, PIXEL_NM).all()


def test_one_bright_spot_in_vacuum_is_kept():
    image = imaged(np.where(distance_nm(0, 0) > 8, 3.0, 0.0)).astype(float)
    image += 600 * np.exp(-(distance_nm(3, 3) ** 2) / 2 / 0.07**2)
    mask = support_mask(image, PIXEL_NM)
    assert mask[75, 75]
    assert not mask[40:60, 40:60].any()


def test_what_was_not_recorded_is_no_support():
    image = imaged(np.full(SHAPE, 3.0)).astype(float)
    image[:40] = np.nan
    mask = support_mask(image, PIXEL_NM)
    assert not mask[:40].any()
    assert mask[40:].all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (64, 64)])
def test_an_image_without_contrast_is_all_support(shape):
    assert support_mask(np.full(shape, 7.0), PIXEL_NM).all()
    assert support_mask(np.random.default_rng(0).normal(size=shape), PIXEL_NM).all()
    assert not support_mask(np.full(shape, np.nan), PIXEL_NM).any()


def test_a_person_has_the_last_word():
    mask = np.ones((20, 20), bool)
    square = np.array([[2, 2], [2, 9], [9, 9], [9, 2]])
    part = np.array([[4, 4], [4, 6], [6, 6], [6, 4]])
    without = edit_mask(mask, [(square, False)])
    assert mask.all()
    assert not without[3:9, 3:9].any()
    assert without[10:].all()
    again = edit_mask(mask, [(square, False), (part, True)])
    assert again[5, 5]
    assert not again[8, 8]
    # polygons may reach beyond the image
    beyond = np.array([[-5, -5], [-5, 30], [30, 30], [30, -5]])
    assert not edit_mask(mask, [(beyond, False)]).any()


# name of the image → share of support, found by eye on the stretched image to about 0.01
SEEN = {"021": 0.59, "025": 0.81, "034": 0.82, "038": 0.95, "045": 0.74, "048": 0.983, "049": 1.0}


@pytest.mark.parametrize("name", SEEN)
def test_real_images_with_and_without_vacuum(shared, name):
    import tifffile

    [path] = (shared / "atoms_ptnc/images").glob(f"{name}*.tif")
    mask = support_mask(tifffile.imread(path), 0.029296875)
    assert mask.mean() == pytest.approx(SEEN[name], abs=0.012)
    [label] = (shared / "atoms_ptnc/labels").glob(f"{name}*.csv")
    x, y = np.loadtxt(label, delimiter=",", skiprows=1, usecols=(1, 2)).astype(int).T
    assert mask[y, x].mean() > 0.98, "labelled atoms lie on the support"


@pytest.mark.parametrize("name", ["A_m3a_10", "A_m3b_12", "A_m5a_13"])
def test_clusters_are_not_the_support(shared, name):
    """The carbon under them has hardly any grain, and was taken for vacuum."""
    import tifffile

    assert support_mask(tifffile.imread(shared / f"clusters/mixed/{name}.tif"), 0.04).all()


@pytest.mark.parametrize("name", ["Ptporph1.tif", "Ptporph13.tif", "bpy_crop3.png"])
def test_real_images_of_molecules_have_no_vacuum(shared, name):
    from skimage.io import imread

    assert support_mask(imread(shared / "atoms_molecular/images" / name), 0.01603).all()
