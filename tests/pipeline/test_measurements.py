"""Measurements of one's own as columns of the cluster table."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy as np
import pytest

from napari_atomicity import ImageAnalysis
from napari_atomicity.core.errors import Cancelled, TableError
from napari_atomicity.core.tables.cluster_table import conform, validate
from napari_atomicity.pipeline import measurements
from napari_atomicity.pipeline.analysis import detect_clusters
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


@pytest.mark.parametrize("name", ["diameter_nm", "n_atoms", "p_Pt19", "label_mine", "a b", ""])
def test_columns_of_the_table_are_not_replaced(name):
    with pytest.raises(TableError, match=name or "''"):
        ImageAnalysis.of(synthetic_analysis(2)).measure(**{name: area_nm2})


def test_an_image_without_clusters_has_the_column():
    found = measurements.measure_clusters(synthetic_analysis(0), peak=peak)
    assert found.table["peak"].dtype == float


def test_a_measurement_that_fails_is_nan_and_named():
    analysis = synthetic_analysis(6)

    def picky(pixels, mask, pixel_size_nm):
        if area_nm2(pixels, mask, pixel_size_nm) > np.pi * 1.1**2 / 4:
            raise ZeroDivisionError("no contrast")
        return 1

    with pytest.warns(UserWarning, match="measurement picky: . of 6 clusters.*no contrast"):
        found = measurements.measure_clusters(analysis, picky=picky, peak=peak)
    assert 0 < found.table["picky"].isna().sum() < 6
    assert found.table["peak"].notna().all()
    with pytest.warns(UserWarning, match="rows: 6 of 6 clusters.*instead of one number"):
        found = measurements.measure_clusters(analysis, rows=lambda pixels, *_: pixels[0])
    assert found.table["rows"].isna().all()


def test_a_measurement_can_not_change_the_image():
    analysis = synthetic_analysis(3)
    before = analysis.micrograph.data.copy()

    def careless(pixels, mask, pixel_size_nm):
        pixels[:] = 0
        mask[:] = False
        return np.inf  # not a number that a file can hold

    found = measurements.measure_clusters(analysis, careless=careless, area_nm2=area_nm2)
    np.testing.assert_array_equal(analysis.micrograph.data, before)
    assert (found.table["area_nm2"] > 0).all() and found.table["careless"].isna().all()


def broken(pixels, mask, pixel_size_nm):
    raise ZeroDivisionError("no contrast")


def offer(monkeypatch, **offered):
    """Pretend that packages offer these functions."""
    points = tuple(
        SimpleNamespace(name=name, value=f"package:{name}", load=lambda f=f: f)
        for name, f in offered.items()
    )
    monkeypatch.setattr(measurements, "installed_measurements", lambda: points)
    return points


def test_measurements_of_packages_are_added_and_failures_are_named(monkeypatch):
    offer(monkeypatch, peak=peak, broken=broken, diameter_nm=peak)
    analysis = synthetic_analysis(3)
    found = measurements.add_installed(analysis)
    assert found.table["peak"].notna().all() and found.table["broken"].isna().all()
    np.testing.assert_array_equal(found.table["diameter_nm"], analysis.table["diameter_nm"])
    failed = found.parameters["failed_statistics"]
    assert "no contrast" in failed["measurement broken"]
    assert "cluster table" in failed["measurement diameter_nm (package:diameter_nm)"]


def test_of_two_packages_with_the_same_name_none_counts(monkeypatch):
    twice = 2 * offer(monkeypatch, peak=peak)
    monkeypatch.setattr(measurements, "installed_measurements", lambda: twice)
    found = measurements.add_installed(synthetic_analysis(3))
    assert "peak" not in found.table
    assert "several packages" in str(found.parameters["failed_statistics"])


def test_a_package_that_cannot_be_imported_is_named(monkeypatch):
    point = EntryPoint("gone", "no_such_package:gone", measurements.GROUP)
    monkeypatch.setattr(measurements, "installed_measurements", lambda: (point,))
    found = measurements.add_installed(synthetic_analysis(3))
    assert (
        "no_such_package"
        in found.parameters["failed_statistics"]["measurement gone (no_such_package:gone)"]
    )


def test_measuring_is_stopped():
    with pytest.raises(Cancelled):
        measurements._measure(synthetic_analysis(3), {"peak": peak}, lambda: True)


def test_detection_measures_too(monkeypatch):
    offer(monkeypatch, peak=peak)
    analysis = synthetic_analysis(8)
    found = detect_clusters(analysis.micrograph)
    assert len(found.table) and (found.table["peak"] > 120).all()
