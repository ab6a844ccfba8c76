"""Formats of microscope makers, on files that the tests write."""

import builtins
import json
import sys

import numpy as np
import pytest

from microscope_files import axis, image, image_axes, save_berkeley, save_hspy, save_velox
from napari_atomicity import load
from napari_atomicity.core.errors import (
    CalibrationError,
    DependencyError,
    ReadError,
    UnsuitableImageError,
)
from napari_atomicity.io.images import READERS

MAKERS = [s for r in READERS if r.read.__module__.endswith("microscope") for s in r.suffixes]


# ---- hyperspy
@pytest.mark.parametrize(
    ("scale", "units"), [(0.04, "nm"), (4e-5, "µm"), (0.4, "Å"), (4e-11, "m"), (40.0, "pm")]
)
def test_hspy_units(tmp_path, scale, units):
    axes = image_axes((6, 7), scale=scale, units=units)
    read = load(save_hspy(tmp_path / "a.hspy", image(), axes))
    assert read.pixel_size_nm == pytest.approx(0.04)
    np.testing.assert_array_equal(read.data, image())


def test_hspy_instrument(tmp_path):
    told = {"beam_energy": 200.0, "microscope": "Titan", "dwell_time": 1e-5, "magnification": 0.0}
    path = save_hspy(tmp_path / "a.hspy", image(), image_axes((6, 7)), instrument=told)
    metadata = load(path).metadata
    assert metadata["voltage_kv"] == 200
    assert metadata["instrument"] == "Titan"
    assert metadata["dwell_time_us"] == pytest.approx(10)
    assert "magnification" not in metadata
    assert json.loads(json.dumps(dict(metadata))) == metadata


def test_hspy_without_units_is_not_calibrated(tmp_path):
    axes = image_axes((6, 7), scale=1.0, units="<undefined>")
    assert load(save_hspy(tmp_path / "a.hspy", image(), axes)).pixel_size_nm is None
    axes = image_axes((6, 7), scale=0.04, units="<undefined>")
    read = load(save_hspy(tmp_path / "a.hspy", image(), axes))
    with pytest.raises(CalibrationError, match=r"scale of 0\.04 has no unit.*--pixel-size-nm"):
        read.calibrated()


def test_hspy_stack(tmp_path):
    data = image((3, 6, 7))
    axes = [axis("time", 3, 1.0, "s", navigate=True), *image_axes((6, 7))]
    read = load(save_hspy(tmp_path / "a.hspy", data, axes))
    assert read.pixel_size_nm == pytest.approx(0.04)
    np.testing.assert_array_equal(read.data, data)


def test_hspy_map_of_one_value_per_position(tmp_path):
    axes = image_axes((6, 7), navigate=True)
    np.testing.assert_array_equal(load(save_hspy(tmp_path / "a.hspy", image(), axes)).data, image())


@pytest.mark.parametrize(
    ("data", "axes", "reason"),
    [
        (
            np.ones((4, 5, 9)),
            [*image_axes((4, 5), navigate=True), axis("energy", 9, 1, "eV")],
            "spectra or diffraction",
        ),
        (
            np.ones((4, 5, 6, 7)),
            [*image_axes((4, 5), navigate=True), *image_axes((6, 7), units="1/nm")],
            "spectra or diffraction",
        ),
        (np.ones(9), [axis("energy", 9, 1, "eV")], "spectra or diffraction"),
        (np.ones((6, 7)), image_axes((6, 7), units="mrad"), "diffraction pattern"),
        (np.ones((6, 7)), [axis("y", 6, 0.05), axis("x", 7, 0.04)], "not square"),
        (np.ones((6, 7), complex), image_axes((6, 7)), "complex"),
    ],
)
def test_hspy_refusals(tmp_path, data, axes, reason):
    path = save_hspy(tmp_path / "a.hspy", data, axes)
    with pytest.raises(UnsuitableImageError, match=rf"a\.hspy: .*{reason}"):
        load(path)


# ---- EMD
def test_velox_takes_the_haadf_image(tmp_path):
    haadf, other = image((1, 6, 7), np.uint16), image((1, 8, 8), np.uint16)
    images = {"BF": (other, 4e-11, "m"), "HAADF": (haadf, 4e-11, "m"), "DF4": (other, 4e-11, "m")}
    read = load(save_velox(tmp_path / "a.emd", images))
    np.testing.assert_array_equal(read.data, haadf[0])
    assert read.pixel_size_nm == pytest.approx(0.04)
    assert read.metadata["title"] == "HAADF"
    assert read.metadata["image_in_file"] == "2 of 3"
    assert read.metadata["dwell_time_us"] == pytest.approx(1)
    assert read.metadata["voltage_kv"] == pytest.approx(300)
    assert read.metadata["camera_length_mm"] == pytest.approx(115)
    assert (read.metadata["detector"], read.metadata["gain"]) == ("HAADF", 26.5)


def test_velox_takes_the_first_image_without_haadf(tmp_path):
    first, second = image((1, 6, 7), np.uint16), image((1, 8, 8), np.uint16)
    images = {"DF4": (first, 4e-11, "m"), "BF": (second, 4e-11, "m")}
    assert load(save_velox(tmp_path / "a.emd", images)).shape_px == (6, 7)


def test_velox_prefers_an_image_to_its_transform(tmp_path):
    data = image((1, 6, 7), np.uint16)
    images = {"HAADF FFT": (data, 1e9, "1/m"), "BF": (data, 4e-11, "m")}
    read = load(save_velox(tmp_path / "a.emd", images))
    assert read.metadata["title"] == "BF"
    assert read.pixel_size_nm == pytest.approx(0.04)


def test_velox_frames(tmp_path):
    data = image((3, 6, 7), np.uint16)
    read = load(save_velox(tmp_path / "a.emd", {"HAADF": (data, 4e-11, "m")}))
    np.testing.assert_array_equal(read.data, data)


@pytest.mark.parametrize(("units", "expected"), [("[n_m]", 0.04), ("nm", 0.04), ("[]", None)])
def test_berkeley(tmp_path, units, expected):
    pytest.importorskip("rsciio.emd", reason="needs the extra microscopes")
    read = load(save_berkeley(tmp_path / "a.emd", image(), units, 0.04))
    np.testing.assert_array_equal(read.data, image())
    assert read.pixel_size_nm == (expected and pytest.approx(expected))


def test_berkeley_reciprocal(tmp_path):
    pytest.importorskip("rsciio.emd", reason="needs the extra microscopes")
    path = save_berkeley(tmp_path / "a.emd", image(), "[n_m^-1]", 0.04)
    with pytest.raises(UnsuitableImageError, match="diffraction"):
        load(path)


# ---- damaged, and without the extra
@pytest.mark.parametrize("suffix", MAKERS)
def test_text_is_refused(tmp_path, suffix):
    pytest.importorskip("rsciio", reason="needs the extra microscopes")
    path = tmp_path / f"a{suffix}"
    path.write_text("this is not an image")
    with pytest.raises(ReadError, match=f"a{suffix}") as caught:
        load(path)
    assert caught.value.advice


@pytest.mark.parametrize("suffix", MAKERS)
def test_without_the_extra_it_says_how_to_get_it(tmp_path, monkeypatch, read_here, suffix):
    real_import = builtins.__import__

    def no_rsciio(name, *args, **kwargs):
        if name.partition(".")[0] == "rsciio":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *args, **kwargs)

    for name in [n for n in sys.modules if n.partition(".")[0] == "rsciio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rsciio", None)
    monkeypatch.setattr(builtins, "__import__", no_rsciio)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(DependencyError) as caught:
        load(path)
    assert 'pip install "napari-atomicity[microscopes]"' in str(caught.value)
    assert "rosettasciio" in str(caught.value)
    assert caught.value.path == path
