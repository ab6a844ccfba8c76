"""Images in memory: arrays, HyperSpy signals and xarray objects, and their units."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_atomicity import load
from napari_atomicity.core.errors import CalibrationError, UnsuitableImageError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.io.readers.arrays import unique_image_names

PIXELS = np.arange(24 * 32, dtype=float).reshape(24, 32)


class Signal:
    """What is used of a `hyperspy.signals.Signal2D`."""

    def __init__(self, data, scale=0.036, units="nm", navigation=None, title="field"):
        axes = []
        for index in range(data.ndim):
            signal = index >= data.ndim - 2
            axes.append(
                SimpleNamespace(
                    index_in_array=index,
                    name=("y", "x")[index - data.ndim + 2] if signal else "t",
                    scale=scale if signal else 0.5,
                    units=units if signal else "s",
                )
            )
        self.data = data
        self.axes_manager = SimpleNamespace(
            navigation_axes=tuple(axes[:-2]), signal_axes=tuple(axes[:-3:-1])
        )
        self.metadata = SimpleNamespace(as_dictionary=lambda: {"General": {"title": title}})


class Coordinate:
    def __init__(self, values, units):
        self.values, self.attrs = np.asarray(values), {"units": units}


class DataArray:
    """What is used of an `xarray.DataArray`."""

    def __init__(self, data, dims, coords, name="field"):
        self.values = self.data = data
        self.dims, self.coords, self.name = dims, coords, name
        self.shape, self.dtype, self.attrs = data.shape, data.dtype, {}

    def transpose(self, *dims):
        data = self.values.transpose([self.dims.index(d) for d in dims])
        return DataArray(data, dims, self.coords, self.name)


def data_array(step=0.36, units="Å", y=None):
    y = np.arange(24) * step if y is None else y
    coords = {"y": Coordinate(y, units), "x": Coordinate(np.arange(32) * step, units)}
    return DataArray(PIXELS, ("y", "x"), coords)


def test_an_array_with_its_pixel_size():
    image = load(PIXELS, pixel_size_nm=0.036, name="field")
    assert (image.pixel_size_nm, image.shape, image.name) == (0.036, (24, 32), "field")
    assert image.metadata["calibration"] == "given"


def test_a_list_is_an_array_and_a_micrograph_stays_itself():
    image = load(PIXELS.tolist(), 0.1)
    assert image.shape == (24, 32)
    assert load(image) is image
    assert load(image, 0.2).pixel_size_nm == 0.2
    assert load(image, name="other").name == "other"


def test_masked_pixels_are_not_numbers():
    masked = np.ma.masked_greater(PIXELS.astype(int), 700)
    image = load(masked, 0.1)
    assert np.isnan(image.data[-1, -1])
    assert np.isfinite(image.data[0]).all()


@pytest.mark.parametrize(
    "source", [np.ones((20, 20, 3)), np.array([["a", "b"]]), [[1, 2], [3]], np.ones(5)]
)
def test_what_is_no_image_is_refused(source):
    with pytest.raises(UnsuitableImageError):
        load(source, 0.1)


def test_an_array_without_a_pixel_size_names_the_argument():
    image = load(PIXELS)
    assert image.pixel_size_nm is None
    with pytest.raises(CalibrationError, match="pixel_size_nm"):
        image.calibrated()


@pytest.mark.parametrize(
    ("units", "scale"), [("nm", 0.036), ("Å", 0.36), ("pm", 36), ("µm", 3.6e-5), ("m", 3.6e-11)]
)
def test_the_units_of_a_signal_and_of_coordinates(units, scale):
    assert load(Signal(PIXELS, scale, units)).pixel_size_nm == pytest.approx(0.036)
    assert load(data_array(scale, units)).pixel_size_nm == pytest.approx(0.036)


def test_a_signal_has_its_title_and_a_stack_its_frame_time():
    assert load(Signal(PIXELS)).name == "field"
    stack = load(Signal(np.stack([PIXELS, PIXELS, PIXELS])))
    assert stack.shape == (3, 24, 32)
    assert stack.metadata["frame_time_s"] == 0.5


def test_objects_without_units_are_not_calibrated():
    assert load(Signal(PIXELS, 1.0, object())).pixel_size_nm is None
    assert load(DataArray(PIXELS, ("a", "b"), {})).pixel_size_nm is None
    assert load(Signal(PIXELS, 1.0, object()), 0.05).pixel_size_nm == 0.05


def test_a_scale_without_unit_is_named_with_the_argument_to_pass():
    """As in HyperSpy after ``axis.scale = 0.036``."""
    for image in (load(Signal(PIXELS, 0.036, object())), load(Signal(PIXELS, 0.036, ""))):
        with pytest.raises(CalibrationError, match=r"scale of 0\.036 has no unit.*pixel_size_nm"):
            image.calibrated()
    assert load(Signal(PIXELS, 0.036, object()), 0.036).calibrated() == 0.036


def test_diffraction_patterns_are_refused():
    with pytest.raises(UnsuitableImageError, match="diffraction"):
        load(Signal(PIXELS, 0.1, "1/nm"))
    with pytest.raises(UnsuitableImageError, match="diffraction"):
        load(data_array(0.1, "1/nm"))


def test_the_image_axes_of_a_data_array_are_found_by_their_names():
    coords = data_array().coords
    image = load(DataArray(PIXELS.T, ("x", "y"), coords))
    assert (image.data == PIXELS).all()


def test_uneven_coordinates_are_refused():
    with pytest.raises(UnsuitableImageError, match="uneven"):
        load(data_array(y=0.36 * np.arange(24) ** 1.2))


def test_hyperspy_and_xarray_themselves():
    xarray = pytest.importorskip("xarray")
    hyperspy = pytest.importorskip("hyperspy.api")
    signal = hyperspy.signals.Signal2D(PIXELS)
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = 0.36, "Å"
    assert load(signal).pixel_size_nm == pytest.approx(0.036)
    y, x = (("y", np.arange(24) * 0.036), ("x", np.arange(32) * 0.036))
    array = xarray.DataArray(PIXELS, coords=[y, x])
    array["y"].attrs["units"] = array["x"].attrs["units"] = "nm"
    assert load(array).pixel_size_nm == pytest.approx(0.036)


def test_names_are_unique():
    names = unique_image_names(["a", "a", "b", "a"])
    assert len(set(names)) == 4
    assert names[0] == "a"


def test_a_micrograph_has_a_short_repr():
    assert len(repr(Micrograph(PIXELS, 0.1, name="field.tif"))) < 100
