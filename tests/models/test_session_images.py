"""What the clusters and the lone atoms of an image tell of its scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.apparent_size import ApparentSize
from napari_atomicity.core.scale_reference import ScaleReference
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.models.scale.session_images import measure_image

SIZES = np.array([19, 30, 41, 55, 70])
COVARIANCE = (((0.005, 0.0), (0.0, 0.01)),) * 5
SCALE = ScaleReference(
    tuple(np.log(SIZES)), tuple(np.log(SIZES) / 3), COVARIANCE, diameter_scatter=0.06
)
REFERENCE = replace(ApparentSize.from_diameters(SCALE), lone_atoms=(0.1, 0.03))


def measure(reference: ApparentSize, lone_atoms: dict[str, float] | None, frame: object = 0):
    n = 12
    table = pd.DataFrame(
        {"integrated_intensity": 41.0 * 7.0, "diameter_nm": 1.2, "cluster_id": range(1, n + 1)}
    ).assign(frame=frame)
    return measure_image(conform(table), np.empty((n, 0)), reference, SCALE, lone_atoms)


def test_lone_atoms_anchor_the_scale_with_their_calibration():
    anchor = measure(REFERENCE, {"intensity": 7.0, "error": 0.04}).anchor
    assert anchor == pytest.approx((np.log(7.0) + 0.1, 0.05))


def test_there_is_no_anchor_without_atoms_or_calibration():
    assert measure(REFERENCE, None).anchor is None
    uncalibrated = ApparentSize.from_diameters(SCALE)
    assert measure(uncalibrated, {"intensity": 7.0, "error": 0.04}).anchor is None


@pytest.mark.parametrize("intensity", [0.7, 70.0])
def test_what_cannot_be_one_atom_of_the_clusters_is_no_anchor(intensity):
    assert measure(REFERENCE, {"intensity": intensity, "error": 0.04}).anchor is None


def test_of_a_stack_the_clusters_of_the_fullest_frame_count_once():
    assert measure(REFERENCE, None).distinct is None
    found = measure(REFERENCE, None, [0] * 3 + [1] * 5 + [2] * 4)
    assert found.distinct.tolist() == [False] * 3 + [True] * 5 + [False] * 4
    assert len(found.log_intensity) == 12 and len(found.distinct_log_intensity) == 5
