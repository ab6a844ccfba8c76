"""Measurements of one's own as columns of the cluster table."""

import numpy as np
import pytest

from napari_atomicity import ImageAnalysis
from napari_atomicity.core.cluster_table import conform, validate
from napari_atomicity.core.errors import TableError
from napari_atomicity.pipeline import measurements
from support import synthetic_analysis


def area_nm2(pixels, mask, pixel_size_nm):
    assert pixels.shape == mask.shape
    return mask.sum() * pixel_size_nm**2


def peak(pixels, mask, pixel_size_nm):
    return pixels[mask].max()


def test_a_measurement_is_a_column():
    analysis = ImageAnalysis.of(synthetic_analysis(6))
    found = analysis.measure(area_nm2=area_nm2, peak=peak)
    assert isinstance(found, ImageAnalysis)
    expected = np.pi * analysis.table["diameter_nm"] ** 2 / 4
    np.testing.assert_allclose(found.table["area_nm2"], expected, rtol=0.15)
    assert (found.table["peak"] > 120).all()  # discs of 160 on a background of 100
    assert "peak" not in analysis.table
    validate(found.table)
    assert "peak" in conform(found.table)


def test_columns_of_the_table_are_not_replaced():
    with pytest.raises(TableError, match="diameter_nm"):
        ImageAnalysis.of(synthetic_analysis(2)).measure(diameter_nm=area_nm2)


def test_an_image_without_clusters_has_the_column():
    found = measurements.measure_clusters(synthetic_analysis(0), peak=peak)
    assert found.table["peak"].dtype == float


def test_measurements_of_packages_are_added_and_failures_are_named(monkeypatch):
    def broken(pixels, mask, pixel_size_nm):
        raise ZeroDivisionError("no contrast")

    offered = {"peak": lambda: peak, "broken": lambda: broken}
    monkeypatch.setattr(measurements, "installed_measurements", lambda: offered)
    found = measurements.add_installed(synthetic_analysis(3))
    assert "peak" in found.table
    assert "broken" not in found.table
    assert "no contrast" in str(found.parameters["failed_statistics"])
