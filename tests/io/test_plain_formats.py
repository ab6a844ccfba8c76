"""PNG, NumPy and MRC."""

import io

import imagecodecs
import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from napari_atomicity import load
from napari_atomicity.core.errors import AtomicityError, ReadError, UnsuitableImageError


def image(dtype=np.uint16, shape=(11, 13)):
    top = 250 if np.dtype(dtype).itemsize == 1 else 60_000
    return np.random.default_rng(1).integers(0, top, shape).astype(dtype)


def npy(data):
    file = io.BytesIO()
    np.save(file, data, allow_pickle=data.dtype == object)
    return file.getvalue()


def save_mrc(path, data, voxel_size=None):
    with mrcfile.new(path, data=data) as file:
        if voxel_size is not None:
            file.voxel_size = voxel_size
    return path


# ---- PNG
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_every_bit(tmp_path, dtype):
    path = tmp_path / "image.png"
    path.write_bytes(imagecodecs.png_encode(image(dtype)))
    read = load(path)
    np.testing.assert_array_equal(read.data, image(dtype))
    assert read.pixel_size_nm is None
    assert load(path, 0.04).pixel_size_nm == 0.04


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_png_is_refused(tmp_path, channels):
    path = tmp_path / "image.png"
    path.write_bytes(imagecodecs.png_encode(np.zeros((9, 8, channels), np.uint8)))
    with pytest.raises(UnsuitableImageError, match="colour"):
        load(path)


def test_grey_png_with_an_opaque_alpha_channel(tmp_path):
    path = tmp_path / "image.png"
    data = np.stack([image(np.uint8), np.full((11, 13), 255, np.uint8)], axis=-1)
    path.write_bytes(imagecodecs.png_encode(data))
    np.testing.assert_array_equal(load(path).data, image(np.uint8))
    data[2, 2, 1] = 0
    path.write_bytes(imagecodecs.png_encode(data))
    with pytest.raises(UnsuitableImageError, match="transparent"):
        load(path)


# ---- NumPy
@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4", ">f8"])
@pytest.mark.parametrize("shape", [(7, 9), (5, 7, 9), (1, 7, 9), (7, 9, 1), (5, 7, 9, 1)])
def test_npy(tmp_path, dtype, shape):
    path = tmp_path / "image.npy"
    data = (image(np.uint8, shape) % 100).astype(dtype)
    path.write_bytes(npy(data))
    read = load(path)
    assert read.data.dtype == np.float32
    np.testing.assert_array_equal(read.data, np.squeeze(data))


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (np.zeros((8, 9), complex), UnsuitableImageError, "complex"),
        (np.zeros((8, 9, 3)), UnsuitableImageError, "colour"),
        (np.zeros((2, 2, 8, 9)), UnsuitableImageError, "4 dimensions"),
        (np.zeros(8), UnsuitableImageError, "1 dimension"),
        (np.zeros((0, 9)), UnsuitableImageError, "no pixels"),
        (np.full((8, 9), np.nan), UnsuitableImageError, "finite"),
        (np.zeros((8, 9), "U3"), UnsuitableImageError, "not numbers"),
        (np.zeros((8, 9), [("a", "f4"), ("b", "f4")]), UnsuitableImageError, "not numbers"),
        (np.array([[None, 1]], object), ReadError, "NumPy"),
    ],
)
def test_arrays_that_are_no_image(tmp_path, data, error, reason):
    path = tmp_path / "image.npy"
    path.write_bytes(npy(data))
    with pytest.raises(error, match=reason) as caught:
        load(path)
    assert caught.value.path == path


def test_an_archive_called_npy_is_refused(tmp_path):
    path = tmp_path / "image.npy"
    with path.open("wb") as file:
        np.savez(file, image())
    with pytest.raises(ReadError, match="not a NumPy array"):
        load(path)


# ---- MRC
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float32])
def test_mrc(tmp_path, dtype):
    data = (image(np.uint8) % 100).astype(dtype)
    read = load(save_mrc(tmp_path / "image.mrc", data, 0.4))
    np.testing.assert_array_equal(read.data, data)
    assert read.pixel_size_nm == pytest.approx(0.04)
    assert read.metadata["calibration"].startswith("MRC")


def test_mrc_stack(tmp_path):
    data = image(np.int16, (3, 7, 9)) % 100
    np.testing.assert_array_equal(load(save_mrc(tmp_path / "image.mrc", data)).data, data)


@pytest.mark.parametrize("voxel_size", [None, 0.0, -10.0])
def test_mrc_without_voxel_size_is_not_calibrated(tmp_path, voxel_size):
    data = image(np.float32)
    assert load(save_mrc(tmp_path / "image.mrc", data, voxel_size)).pixel_size_nm is None


def test_oblong_mrc_is_refused(tmp_path):
    path = save_mrc(tmp_path / "image.mrc", image(np.float32), (0.4, 0.5, 1.0))
    with pytest.raises(UnsuitableImageError, match="not square"):
        load(path)


def test_complex_mrc_is_refused(tmp_path):
    path = save_mrc(tmp_path / "image.mrc", np.zeros((7, 9), np.complex64))
    with pytest.raises(UnsuitableImageError, match="complex"):
        load(path)


# ---- damaged
@pytest.mark.parametrize("suffix", [".png", ".npy", ".mrc"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.data())
@pytest.mark.filterwarnings("ignore::RuntimeWarning:mrcfile")
def test_a_truncated_file_is_refused_or_whole(tmp_path, suffix, cut):
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".mrc":
        if not whole.exists():
            save_mrc(whole, image(np.float32), 0.4)
    else:
        whole.write_bytes(imagecodecs.png_encode(image()) if suffix == ".png" else npy(image()))
    raw = whole.read_bytes()
    path = tmp_path / f"part{suffix}"
    path.write_bytes(raw[: cut.draw(st.integers(1, len(raw) - 1))])
    try:
        read = load(path)
    except AtomicityError as error:
        assert error.path == path
        assert error.advice
    else:
        np.testing.assert_array_equal(read.data, load(whole).data)
