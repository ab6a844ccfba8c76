"""Patches: register, units, the same at every magnification."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.detection.patches import extract_patches, local_contrast

SETTINGS = PatchSettings(field_of_view_nm=2.0, size_px=40)


def at(points, frame=0):
    return pd.DataFrame(
        {
            "frame": frame,
            "y_px": [float(p[0]) for p in points],
            "x_px": [float(p[1]) for p in points],
        }
    )


def blob(pixel_nm, size_nm=8.0, sigma_nm=0.25):
    n = round(size_nm / pixel_nm)
    yy, xx = (np.mgrid[:n, :n] - (n - 1) / 2) * pixel_nm
    return np.exp(-(yy**2 + xx**2) / (2 * sigma_nm**2)), (n - 1) / 2


def test_the_centre_of_the_cluster_is_the_centre_of_the_patch():
    image, middle = blob(0.04)
    patches = extract_patches(Micrograph(image, 0.04), at([(middle, middle)]), SETTINGS)
    for patch in (patches["raw"][0], patches["LCN"][0]):
        weight = np.clip(patch, 0, None) ** 2
        centre = ndimage.center_of_mass(weight)
        np.testing.assert_allclose(centre, (19.5, 19.5), atol=0.1)


@pytest.mark.parametrize("pixel_nm", [0.02, 0.03, 0.08])
def test_magnification_is_no_domain_shift(pixel_nm):
    reference_image, m = blob(0.05)
    reference = extract_patches(Micrograph(reference_image, 0.05), at([(m, m)]), SETTINGS)
    image, middle = blob(pixel_nm)
    patches = extract_patches(Micrograph(image, pixel_nm), at([(middle, middle)]), SETTINGS)
    np.testing.assert_allclose(patches["raw"], reference["raw"], atol=0.05)


def test_raw_integrates_to_the_number_of_atoms():
    image, middle = blob(0.04)
    counts_nm2 = image.sum() * 0.04**2
    per_atom = counts_nm2 / 19
    patches = extract_patches(
        Micrograph(image + 300, 0.04), at([(middle, middle)]), SETTINGS, per_atom
    )
    assert patches["raw"].sum() * (2.0 / 40) ** 2 == pytest.approx(19, rel=0.03)


def test_local_contrast_against_the_formula():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(80, 90)) + np.linspace(0, 5, 90)
    centred = image - ndimage.gaussian_filter(image, 6, truncate=6)
    spread = np.sqrt(ndimage.gaussian_filter(centred**2, 6, truncate=6))
    inner = (slice(25, -25), slice(25, -25))
    np.testing.assert_allclose(
        local_contrast(image.astype(np.float32), 6)[inner], (centred / spread)[inner], atol=5e-3
    )


def test_local_contrast_does_not_know_gain_and_offset():
    image = np.random.default_rng(1).normal(size=(60, 60)).astype(np.float32)
    np.testing.assert_allclose(
        local_contrast(image, 4), local_contrast(30 * image + 500, 4), atol=2e-3
    )


def test_a_constant_image_has_no_contrast():
    assert not local_contrast(np.full((30, 30), 9, np.float32), 4).any()


def test_frames_of_a_stack_and_borders():
    image, middle = blob(0.05)
    stack = np.stack([np.zeros_like(image), image])
    table = pd.concat([at([(middle, middle)], 1), at([(0, 0)], 0)], ignore_index=True)
    patches = extract_patches(Micrograph(stack, 0.05), table, SETTINGS)
    assert patches["raw"].shape == (2, 40, 40)
    assert patches["raw"][0].max() > 0.9
    assert not patches["raw"][1].any()
    assert np.isfinite(patches["LCN"]).all()


def test_no_clusters_no_patches():
    patches = extract_patches(Micrograph(np.zeros((50, 50)), 0.05), at([]), SETTINGS)
    assert {c: p.shape for c, p in patches.items()} == {"raw": (0, 40, 40), "LCN": (0, 40, 40)}
