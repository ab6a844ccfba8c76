"""The incoherent images against multislice, where abTEM is installed."""

from dataclasses import replace

import numpy as np
import pytest

import multislice
from napari_atomicity.core.errors import DependencyError
from napari_atomicity.simulation.imaging import Microscope, cross_section_nm2
from napari_atomicity.simulation.structures import Isomer

SKEWED = Microscope(defocus_nm=4.0, astigmatism_nm=6.0, astigmatism_rad=0.4, source_nm=0.08)
FAST = {"pixel_nm": 0.06, "angles_mrad": (68.0, 100.0)}


def isomer(*positions):
    return Isomer("Pt", "fcc", np.array(positions, np.float32))


def test_the_cell_holds_the_isomer_in_its_middle(library):
    n, atoms = multislice.cell_of(library[2], 0.05)
    middle = (atoms.min(axis=0) + atoms.max(axis=0)) / 2
    np.testing.assert_allclose(middle, [n * 0.025, n * 0.025, 0], atol=1e-5)
    assert atoms[:, :2].min() >= multislice.MARGIN_NM - 1e-6
    assert atoms[:, :2].max() <= n * 0.05 - multislice.MARGIN_NM + 1e-6


def test_incoherent_images_count_atoms_and_lines(library):
    pixel = 0.05
    one = multislice.incoherent_image(library[0], Microscope(), pixel, channelling=0.0)
    sigma = cross_section_nm2("Pt")
    assert one.sum() * pixel**2 == pytest.approx(19 * sigma, rel=0.05)
    column = isomer([0, 0, 0], [0, 0, 0.28])
    plain, focused = (
        multislice.incoherent_image(column, Microscope(), pixel, channelling=c).sum()
        for c in (0.0, 0.1)
    )
    assert focused == pytest.approx(1.05 * plain, rel=1e-5)


def test_multislice_sees_the_same_atoms_through_the_same_probe():
    pytest.importorskip("abtem", reason="the extra 'multislice' is not installed")
    three = isomer([0, 0, 0], [0.1, 0.28, 0.1], [-0.25, 0.1, 0])
    ours = multislice.incoherent_image(three, SKEWED, 0.06)
    exact = multislice.multislice_image(three, SKEWED, configurations=1, **FAST)
    assert exact.shape == ours.shape

    def likeness(image):
        return np.corrcoef(image.ravel(), exact.ravel())[0, 1]

    mirrored = replace(SKEWED, astigmatism_rad=-0.4)
    assert likeness(ours) > 0.97
    assert likeness(ours) > likeness(multislice.incoherent_image(three, mirrored, 0.06)) + 0.005
    assert likeness(ours) > likeness(ours.T) + 0.05
    # the ring to 100 mrad gets 0.36 of our cross-section, which is for 68 to 280 mrad
    assert exact.sum() / ours.sum() == pytest.approx(0.36, abs=0.04)


def test_without_abtem_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "abtem", None)
    with pytest.raises(DependencyError, match=r"\[multislice\]"):
        multislice.multislice_image(isomer([0, 0, 0]), Microscope())
