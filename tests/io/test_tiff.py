import io

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings, strategies as st

from napari_atomicity import load
from napari_atomicity.core.errors import AtomicityError, ReadError, UnsuitableImageError

PIXEL_NM = 0.04
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def image(dtype="u2", shape=(17, 23), seed=0):
    """Values that every dtype, and float32, holds exactly."""
    top = 100 if np.dtype(dtype).itemsize == 1 else 2000
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def write(path, data=None, **options):
    data = image() if data is None else data
    tifffile.imwrite(path, data, **{"photometric": "minisblack", **options})
    return path


def imagej(path, unit, per_unit, data=None, **metadata):
    if not isinstance(per_unit, tuple):
        per_unit = (per_unit, per_unit)
    return write(
        path,
        data,
        imagej=True,
        resolution=per_unit,
        resolutionunit="NONE",
        metadata={"unit": unit, **metadata},
    )


def gatan_tags(unit, y, x):
    text, number = 2, 12
    return [
        (65003, text, 0, unit, True),
        (65004, text, 0, unit, True),
        (65009, number, 1, x, True),
        (65010, number, 1, y, True),
    ]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.tif"


# ---- pixels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_depths_and_compressions(path, dtype, compression, byteorder):
    data = image(dtype)
    write(path, data, compression=compression, byteorder=byteorder)
    read = load(path)
    assert read.data.dtype == np.float32
    np.testing.assert_array_equal(read.data, data)


@pytest.mark.parametrize("predictor", [True, False])
def test_tiles_and_predictor(path, predictor):
    data = image(shape=(40, 50))
    write(path, data, compression="zlib", predictor=predictor, tile=(16, 16))
    np.testing.assert_array_equal(load(path).data, data)


def test_jpeg(path):
    data = np.full((32, 32), 90, np.uint8)
    data[8:24, 8:24] = 180
    write(path, data, compression="jpeg")
    np.testing.assert_allclose(load(path).data, data, atol=12)


def test_one_bit(path):
    data = image("u1") > 50
    write(path, data)
    np.testing.assert_array_equal(load(path).data, data)


def test_bigtiff(path):
    write(path, bigtiff=True)
    np.testing.assert_array_equal(load(path).data, image())


def test_nan_is_kept(path):
    data = image("f4")
    data[3, 4] = np.nan
    write(path, data)
    np.testing.assert_array_equal(load(path).data, data)


def test_white_is_zero_is_turned_round(path):
    write(path, image("u1"), photometric="miniswhite")
    np.testing.assert_array_equal(load(path).data, 255 - image("u1"))


def test_grey_palette_of_gatan_is_grey(path):
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 255, (3, 1))
    write(path, image("u1"), photometric="palette", colormap=ramp)
    np.testing.assert_array_equal(load(path).data, image("u1"))


@pytest.mark.parametrize("shape", [(4, 17, 23), (1, 4, 17, 23), (4, 1, 17, 23), (1, 17, 23)])
def test_stacks(path, shape):
    data = image(shape=shape)
    write(path, data)
    np.testing.assert_array_equal(load(path).data, data.squeeze())


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "CYX"])
def test_imagej_stacks(path, axes):
    data = image(shape=(3, 17, 23))
    imagej(path, "nm", 25, data, axes=axes)
    read = load(path)
    assert read.pixel_size_nm == pytest.approx(PIXEL_NM)
    np.testing.assert_array_equal(read.data, data)


def test_pages_of_one_shape_are_a_stack(path):
    data = image(shape=(3, 17, 23))
    with tifffile.TiffWriter(path) as file:
        for frame in data:
            file.write(frame, contiguous=False, metadata=None)
    np.testing.assert_array_equal(load(path).data, data)


def test_of_pages_of_different_shapes_the_first_counts(path):
    with tifffile.TiffWriter(path) as file:
        file.write(image(), metadata=None)
        file.write(image(shape=(5, 6)), metadata=None)
    np.testing.assert_array_equal(load(path).data, image())


def test_a_thumbnail_before_the_image_is_passed_over(path):
    with tifffile.TiffWriter(path) as file:
        file.write(image(shape=(5, 6)), metadata=None, subfiletype=1)
        file.write(image(), metadata=None)
    np.testing.assert_array_equal(load(path).data, image())


# ---- refused
@pytest.mark.parametrize(
    ("data", "options"),
    [
        (np.zeros((8, 9, 3), np.uint8), {"photometric": "rgb"}),
        (np.zeros((8, 9, 4), np.uint16), {"photometric": "rgb"}),
        (np.zeros((3, 8, 9), np.uint8), {"photometric": "rgb", "planarconfig": "separate"}),
        (
            np.zeros((8, 9), np.uint8),
            {
                "photometric": "palette",
                "colormap": np.arange(768, dtype=np.uint16).reshape(3, 256),
            },
        ),
    ],
)
def test_colour_is_refused(path, data, options):
    write(path, data, **options)
    with pytest.raises(UnsuitableImageError, match=r"image\.tif: .*colour.*greyscale"):
        load(path)


def test_complex_is_refused(path):
    write(path, image("f4").astype(np.complex64))
    with pytest.raises(UnsuitableImageError, match="complex"):
        load(path)


def test_more_dimensions_are_refused(path):
    write(path, image(shape=(2, 3, 17, 23)))
    with pytest.raises(UnsuitableImageError, match="4 dimensions"):
        load(path)


# ---- calibration
@pytest.mark.parametrize(
    ("unit", "per_unit"),
    [
        ("nm", 25),
        ("um", 25e3),
        ("micron", 25e3),
        ("\\u00B5m", 25e3),
        ("m", 25e9 / 64),
        ("A", 2.5),
        ("Angstrom", 2.5),
        ("pm", 0.025),
        ("cm", 25e7),
    ],
)
def test_imagej_units(path, unit, per_unit):
    imagej(path, unit, per_unit)
    expected = PIXEL_NM * (64 if unit == "m" else 1)  # TIFF's 32-bit rationals end there
    read = load(path)
    assert read.pixel_size_nm == pytest.approx(expected)
    assert read.metadata["calibration"].startswith("ImageJ unit")


def test_imagej_micro_sign_as_utf8(path):
    """Some programs write the micro sign as it is; tifffile itself would not."""
    description = "ImageJ=1.53k\nimages=1\nunit=µm\n".encode()
    write(
        path,
        metadata=None,
        resolution=(25e3, 25e3),
        resolutionunit="NONE",
        extratags=[(270, 2, 0, description, True)],
    )
    assert load(path).pixel_size_nm == pytest.approx(PIXEL_NM)


@pytest.mark.parametrize("unit", ["pixel", "inch", "cm", "", "furlong"])
def test_imagej_units_that_are_no_calibration(path, unit):
    imagej(path, unit, 72)
    assert load(path).pixel_size_nm is None


@pytest.mark.parametrize("dpi", [72, 96, 300, 1200])
@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER"])
def test_dots_per_inch_are_no_calibration(path, dpi, unit):
    write(path, resolution=(dpi, dpi), resolutionunit=unit)
    read = load(path)
    assert read.pixel_size_nm is None
    assert read.metadata["calibration"] == "none"


def test_resolution_of_a_microscope_is_a_calibration(path):
    write(path, resolution=(25e7, 25e7), resolutionunit="CENTIMETER")
    assert load(path).pixel_size_nm == pytest.approx(PIXEL_NM)


def test_resolution_without_unit_is_no_calibration(path):
    write(path, resolution=(25e7, 25e7), resolutionunit="NONE")
    assert load(path).pixel_size_nm is None


@pytest.mark.parametrize(
    ("size", "unit"), [(0.04, "nm"), (4e-5, "µm"), (4e-5, None), (0.4, "Å"), (4e-11, "m")]
)
def test_ome(tmp_path, size, unit):
    path = tmp_path / "image.ome.tif"
    units = {} if unit is None else {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    metadata = {"axes": "TYX", "PhysicalSizeX": size, "PhysicalSizeY": size, **units}
    data = image(shape=(2, 17, 23))
    write(path, data, ome=True, metadata=metadata)
    read = load(path)
    assert read.pixel_size_nm == pytest.approx(PIXEL_NM)
    assert read.metadata["calibration"].startswith("OME")
    np.testing.assert_array_equal(read.data, data)


def test_ome_with_one_scale(tmp_path):
    path = tmp_path / "image.ome.tif"
    write(path, ome=True, metadata={"PhysicalSizeY": 0.04, "PhysicalSizeYUnit": "nm"})
    assert load(path).pixel_size_nm == pytest.approx(PIXEL_NM)


@pytest.mark.parametrize(("unit", "size"), [("nm", 0.04), ("µm", 4e-5), ("m", 4e-11)])
def test_gatan_tags(path, unit, size):
    # The private tags of Gatan hold UTF-8, which TIFF does not foresee.
    write(path, extratags=gatan_tags(unit.encode(), size, size))
    read = load(path)
    assert read.pixel_size_nm == pytest.approx(PIXEL_NM)
    assert read.metadata["calibration"].startswith("Gatan tags")


def test_gatan_tags_win_over_dots_per_inch(path):
    write(path, extratags=gatan_tags("nm", 0.04, 0.04), resolution=(72, 72), resolutionunit="INCH")
    assert load(path).pixel_size_nm == pytest.approx(PIXEL_NM)


def test_gatan_scale_without_unit_is_no_calibration(path):
    write(path, extratags=gatan_tags("nm", 1.0, 1.0)[2:])
    assert load(path).pixel_size_nm is None


def test_fei_metadata(path):
    text = (
        "[User]\nDate=01/02/2020\n[System]\nSystemType=Titan\n[Beam]\nHV=200000\n"
        "[Scan]\nPixelWidth=4e-11\nPixelHeight=4e-11\nDwelltime=1e-05\n"
        "[Detectors]\nNumber=1\nName=HAADF\n[HAADF]\nContrast=26.5\nBrightness=40\n"
    )
    write(path, extratags=[(34682, 2, 0, text, True)])
    read = load(path)
    assert read.pixel_size_nm == pytest.approx(PIXEL_NM)
    assert read.metadata["instrument"] == "Titan"
    assert read.metadata["voltage_kv"] == pytest.approx(200)
    assert read.metadata["dwell_time_us"] == pytest.approx(10)
    assert (read.metadata["detector"], read.metadata["gain"]) == ("HAADF", 26.5)


def test_zeiss_metadata(path):
    text = "\r\n".join(["", "0", "AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 40.0 pm", ""])
    write(path, extratags=[(34118, 2, 0, text, True)])
    assert load(path).pixel_size_nm == pytest.approx(PIXEL_NM)


def test_a_given_pixel_size_overrides(path):
    imagej(path, "nm", 10)
    read = load(path, pixel_size_nm=PIXEL_NM)
    assert read.pixel_size_nm == PIXEL_NM
    assert read.metadata["calibration"] == "given"
    assert read.metadata["pixel_size_nm_in_file"] == pytest.approx(0.1)
    # What a person enters later is not of the file either; what agrees with it is.
    of_file = load(path)
    assert of_file.origin_of_pixel_size == "ImageJ unit (nm)"
    assert of_file.with_pixel_size(0.11).origin_of_pixel_size == "given"
    assert of_file.with_pixel_size(0.11).with_pixel_size(0.1).origin_of_pixel_size != "given"
    write(path)
    assert load(path).origin_of_pixel_size == "none"
    assert load(path).with_pixel_size(0.11).origin_of_pixel_size == "given"


def test_a_pixel_size_that_is_not_plausible_can_be_overridden(path):
    imagej(path, "m", 1)
    with pytest.raises(AtomicityError, match="not plausible"):
        load(path)
    assert load(path, pixel_size_nm=PIXEL_NM).pixel_size_nm == PIXEL_NM


@pytest.mark.parametrize("given_nm", [None, PIXEL_NM])
@pytest.mark.parametrize("kind", ["imagej", "ome", "gatan"])
def test_oblong_pixels_are_refused(path, kind, given_nm):
    if kind == "imagej":
        imagej(path, "nm", (25, 20))
    elif kind == "ome":
        size = {"PhysicalSizeX": 0.04, "PhysicalSizeY": 0.05}
        unit = {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}
        write(path, ome=True, metadata={**size, **unit})
    else:
        write(path, extratags=gatan_tags("nm", 0.05, 0.04))
    with pytest.raises(UnsuitableImageError, match=r"0\.04 nm wide.*0\.05 nm high"):
        load(path, given_nm)


@pytest.mark.parametrize("given_nm", [None, PIXEL_NM])
def test_reciprocal_space_is_refused(path, given_nm):
    imagej(path, "1/nm", 25)
    with pytest.raises(UnsuitableImageError, match="diffraction"):
        load(path, given_nm)


# ---- damaged
def encoded(data=None, multipage=False, **options):
    file = io.BytesIO()
    if multipage:
        with tifffile.TiffWriter(file) as writer:
            for frame in image(shape=(3, 17, 23)):
                writer.write(frame, contiguous=False, metadata=None, **options)
    else:
        write(file, data, **options)
    return file.getvalue()


def last_directory_first(raw):
    """The directory behind the pixels, as libtiff writes it."""
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        assert len(file.pages) == 1
        page = file.pages.first
        data = raw[page.dataoffsets[0] : page.dataoffsets[0] + page.databytecounts[0]]
        entries = [
            (256, 4, page.imagewidth),
            (257, 4, page.imagelength),
            (258, 3, page.bitspersample),
            (259, 3, 1),
            (262, 3, 1),
            (273, 4, 8),
            (277, 3, 1),
            (278, 4, page.imagelength),
            (279, 4, len(data)),
        ]
    body = b"".join(
        code.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + (1).to_bytes(4, "little")
        + int(value).to_bytes(4, "little")
        for code, kind, value in entries
    )
    header = b"II*\0" + (8 + len(data)).to_bytes(4, "little")
    return header + data + len(entries).to_bytes(2, "little") + body + bytes(4)


WHOLE = {
    "plain": encoded(),
    "zlib": encoded(compression="zlib"),
    "strips": encoded(rowsperstrip=4),
    "lzw strips": encoded(rowsperstrip=4, compression="lzw"),
    "pages": encoded(multipage=True),
    "compressed pages": encoded(multipage=True, compression="zlib"),
    "imagej": encoded(imagej=True, resolution=(25, 25), metadata={"unit": "nm"}),
    "jpeg": encoded(image("u1"), compression="jpeg", rowsperstrip=8),
    "directory last": last_directory_first(encoded()),
}


@pytest.mark.parametrize("kind", WHOLE)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.data())
def test_a_truncated_file_is_refused_or_whole(tmp_path, kind, cut):
    raw = WHOLE[kind]
    path = tmp_path / "whole.tif"
    path.write_bytes(raw)
    whole = load(path)
    path.write_bytes(raw[: cut.draw(st.integers(1, len(raw) - 1))])
    try:
        read = load(path)
    except AtomicityError as error:
        assert error.path == path
        assert error.advice
    else:
        np.testing.assert_array_equal(read.data, whole.data)


@pytest.mark.parametrize("kind", ["pages", "jpeg"])
def test_what_the_library_would_fill_up_is_refused(tmp_path, kind):
    """Cut at the start of a page, or within compressed data, it is silent about the loss."""
    raw = WHOLE[kind]
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        cuts = [page.offset + d for page in file.pages for d in (0, 1) if page.index > 0]
    path = tmp_path / "part.tif"
    for cut in cuts or range(len(raw) - 40, len(raw)):
        path.write_bytes(raw[:cut])
        with pytest.raises(ReadError):
            load(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.integers(8, 400), byte=st.integers(0, 255))
def test_a_wrong_byte_gives_an_image_or_a_typed_error(tmp_path, where, byte):
    raw = bytearray(WHOLE["zlib"])
    raw[where % len(raw)] = byte
    path = tmp_path / "damaged.tif"
    path.write_bytes(raw)
    try:
        assert load(path).data.ndim in (2, 3)
    except AtomicityError as error:
        assert error.path == path


def test_text_called_tif(path):
    path.write_text("this is not an image")
    with pytest.raises(ReadError, match=r"image\.tif: .*TIFF.*misnamed") as caught:
        load(path)
    assert caught.value.__cause__ is not None
