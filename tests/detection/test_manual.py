"""Split and merge: against images whose clusters are known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.detection import detect, measure_at, merge, split

PIXEL_NM = 0.05


def discs(*clusters: tuple[float, float, float, float], size: int = 300, seed: int = 0):
    """An image with discs (y, x, radius, height) on noise."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    image = rng.normal(100, 2, (size, size))
    for y, x, radius, height in clusters:
        image += height / (1 + np.exp((np.hypot(yy - y, xx - x) - radius) / 1.5))
    return Micrograph(image, PIXEL_NM)


def circle(y, x, radius):
    angle = np.linspace(0, 2 * np.pi, 40)
    return np.column_stack([y + radius * np.sin(angle), x + radius * np.cos(angle)])


def test_one_outline_becomes_the_two_clusters_that_are_there():
    micrograph = discs((150, 130, 13, 60), (150, 160, 13, 60), (60, 60, 12, 60))
    hull = circle(150, 145, 32)
    found = split(micrograph, 0, hull)
    at = found.table.sort_values("x_px")[["y_px", "x_px"]].to_numpy()
    np.testing.assert_allclose(at, [[150, 130], [150, 160]], atol=2)
    np.testing.assert_allclose(found.table["diameter_nm"], 26 * PIXEL_NM, rtol=0.15)
    assert found.table["touches_neighbour"].all()
    assert len(found.outlines) == 2


def test_the_halves_have_the_whole_intensity():
    alone = detect(discs((150, 130, 13, 60))).table["integrated_intensity"][0]
    micrograph = discs((150, 130, 13, 60), (150, 158, 13, 60))
    found = split(micrograph, 0, circle(150, 144, 32))
    assert found.table["integrated_intensity"].sum() == pytest.approx(2 * alone, rel=0.06)


def test_a_split_loses_no_third_cluster():
    places = [(150, 120), (150, 150), (125, 135)]
    micrograph = discs(*((y, x, 9, 60) for y, x in places))
    merged = merge(micrograph, 0, [circle(y, x, 9) for y, x in places])
    with pytest.raises(AtomicityError, match="neither of two"):
        split(micrograph, 0, merged.outlines[0])


def test_two_outlines_become_the_one_cluster_that_is_there():
    micrograph = discs((150, 150, 18, 60), (60, 60, 12, 60))
    whole = detect(micrograph).table.sort_values("diameter_nm").iloc[-1]
    found = merge(micrograph, 0, [circle(150, 141, 10), circle(150, 159, 10)])
    (row,) = found.table.to_dict("records")
    assert (row["y_px"], row["x_px"]) == pytest.approx((150, 150), abs=1.5)
    assert row["integrated_intensity"] == pytest.approx(whole["integrated_intensity"], rel=0.05)
    assert not row["touches_neighbour"]


def test_what_can_t_be_is_refused():
    micrograph = discs((150, 130, 13, 60))
    with pytest.raises(AtomicityError, match="too far"):
        merge(micrograph, 0, [circle(50, 50, 10), circle(250, 250, 10)])
    with pytest.raises(AtomicityError, match="two clusters"):
        split(micrograph, 0, circle(150, 130, 1))
    with pytest.raises(AtomicityError, match="outside"):
        split(micrograph, 0, circle(5000, 5000, 10))
    for place in ((-3, 150), (150, 303), (302, 20)):
        with pytest.raises(AtomicityError, match=r"point y -?\d+ px, x \d+ px is outside"):
            measure_at(micrograph, 0, *place)
    assert len(measure_at(micrograph, 0, 299, 1).table) == 1
    with pytest.raises(AtomicityError, match="no frame 3: it has 1 frame"):
        measure_at(micrograph, 3, 150, 150)


def test_nothing_is_measured_on_bare_support():
    micrograph = discs((150, 150, 13, 60))
    rng = np.random.default_rng(2)
    for y, x in [*rng.uniform(20, 110, (20, 2)), *rng.uniform(190, 280, (20, 2))]:
        (row,) = measure_at(micrograph, 0, y, x).table.to_dict("records")
        assert (row["y_px"], row["x_px"]) == (y, x) and np.isnan(row["diameter_nm"])
    (row,) = measure_at(micrograph, 0, 148, 152).table.to_dict("records")
    assert row["diameter_nm"] == pytest.approx(26 * PIXEL_NM, rel=0.1)


def test_in_a_stack_the_frame_counts():
    still = discs((150, 130, 13, 60), (150, 160, 13, 60)).data
    empty = np.random.default_rng(1).normal(100, 2, still.shape)
    found = split(Micrograph(np.stack([empty, still]), PIXEL_NM), 1, circle(150, 145, 32))
    assert found.table["frame"].tolist() == [1, 1]


def test_a_faint_cluster_of_separate_atoms_beside_a_bright_one_is_measured():
    """The basin of the bright one reaches over its atoms; its tail alone is no cluster."""
    atoms = [
        (y, x, 1.5, 60) for y in range(112, 137, 6) for x in range(138 + y % 4, 163 + y % 4, 6)
    ]
    bright = (157, 151, 15, 400)
    micrograph = discs(bright, *atoms)
    (row,) = measure_at(micrograph, 0, 124, 151).table.to_dict("records")
    assert row["diameter_nm"] == pytest.approx(34 * PIXEL_NM, rel=0.1)  # of a square of 30 px
    for angle in np.arange(0, 2 * np.pi, 0.5):
        for distance in (19, 21, 23, 26):
            y, x = 157 + distance * np.sin(angle), 151 + distance * np.cos(angle)
            beside = measure_at(discs(bright), 0, y, x).table["diameter_nm"][0]
            assert np.isnan(beside), (distance, angle, beside)
