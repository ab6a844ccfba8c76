"""TIFF files, also of ImageJ, OME, Gatan, hyperspy, Thermo Fisher (FEI) and Zeiss."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from ..core.errors import ReadError, UnsuitableImageError
from .lazy import inverted, is_large, tiff_pixels
from .plain_formats import GREY
from .raw_image import RawImage, known_entries
from .units import AxisScale, seconds

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

Scales = tuple[AxisScale, AxisScale]
"""Along y and x."""

_MINISWHITE, _MINISBLACK, _PALETTE = 0, 1, 3
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_COLOUR_MAP = 320
_X_UNIT, _Y_UNIT, _X_SCALE, _Y_SCALE = 65003, 65004, 65009, 65010
_NM_PER_PRINT_UNIT = {"inch": 2.54e7, "in": 2.54e7, "cm": 1e7}
_TAG_UNIT = {2: "inch", 3: "cm"}
# Resolutions in dots per inch refer to printing; finer ones are calibrations of a microscope.
_FINEST_PRINT_NM = 1000.0


def read_tiff(path: Path) -> RawImage:
    """Read an image or a stack of frames of any integer or float type."""
    from tifffile import TiffFile

    with TiffFile(path) as file:
        series = _first_image(file)
        page = series.keyframe
        _check_greyscale(page, path)
        _check_complete(file, series, path)
        data = _frames(series, list(file.series).index(series), path)
        metadata = _instrument(file)
        if page.photometric == _MINISWHITE and data.dtype.kind in "bu" and not file.is_imagej:
            # In files of ImageJ this inverts only the display.
            if is_large(data.shape):
                data = inverted(data)
            else:
                data = ~data if data.dtype.kind == "b" else np.iinfo(data.dtype).max - data
            metadata["inverted"] = "white was stored as zero"
        for name, find in CALIBRATIONS.items():
            scales = find(file, page)
            if scales is not None:
                return RawImage(data, *scales, f"{name} ({scales[1].unit})", metadata)
    return RawImage(data, metadata=metadata)


# ---- pixels
def _first_image(file: TiffFile) -> TiffPageSeries:
    """Return the first series that is not a thumbnail."""
    series = list(file.series)
    return next((s for s in series if not s.keyframe.is_reduced), series[0])


def _frames(series: TiffPageSeries, number: int, path: Path) -> Any:
    if sum(n > 1 for n in series.shape[:-2]) > 1:
        raise UnsuitableImageError(
            f"the file has {len(series.shape)} dimensions ({series.axes}, {series.shape})",
            path,
            "Save one image, or one stack of frames",
        )
    return (
        tiff_pixels(series, number, path)
        if is_large(series.shape)
        else np.asarray(series.asarray())
    )


def _check_greyscale(page: TiffPage, path: Path) -> None:
    grey = page.photometric in (_MINISWHITE, _MINISBLACK)
    if page.photometric == _PALETTE:
        # Gatan writes grey images with a grey palette: indices are intensities.
        palette = page.tags.valueof(_COLOUR_MAP)
        grey = palette is not None and bool((np.asarray(palette) == palette[0]).all())
    if not grey or page.samplesperpixel > 1:
        raise UnsuitableImageError("the image is in colour", path, GREY)


def _check_complete(file: TiffFile, series: TiffPageSeries, path: Path) -> None:
    """Check that no data are missing, which would be read as zeros or skipped."""
    handle = file.filehandle
    if series.dataoffset is not None:
        complete = series.dataoffset + series.nbytes <= handle.size
    else:
        complete = all(page is not None and _has_its_data(page, handle.size) for page in series)
    if not complete or not _chain_ends(file):
        raise ReadError(
            "the file is incomplete: it is damaged or was copied only in part",
            path,
            "Copy or export it again",
        )


def _has_its_data(page: Any, size: int) -> bool:
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    return len(segments) >= math.prod(page.keyframe.chunked) and all(
        offset + count <= size for offset, count in segments
    )


def _chain_ends(file: TiffFile) -> bool:
    """Return whether the list of pages ends with an end mark."""
    position = file.pages.next_page_offset
    if position is None:
        return True
    handle = file.filehandle
    handle.seek(position)
    raw = handle.read(file.tiff.offsetsize)
    return len(raw) == file.tiff.offsetsize and (struct.unpack(file.tiff.offsetformat, raw)[0] == 0)


# ---- calibration
def _ome(file: TiffFile, page: TiffPage) -> Scales | None:
    if not file.is_ome or file.ome_metadata is None:
        return None
    for element in ElementTree.fromstring(file.ome_metadata).iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            x, y = element.get("PhysicalSizeX"), element.get("PhysicalSizeY")
            if x is None and y is None:
                return None
            unit_x = element.get("PhysicalSizeXUnit", "µm")
            unit_y = element.get("PhysicalSizeYUnit", "µm")
            if x is None or y is None:
                x, y = x or y, y or x
                unit_x = unit_y = unit_x if element.get("PhysicalSizeX") else unit_y
            return AxisScale(float(str(y)), unit_y), AxisScale(float(str(x)), unit_x)
    return None


def _gatan(file: TiffFile, page: TiffPage) -> Scales | None:
    """Read private tags of DigitalMicrograph, also written by hyperspy."""
    x, y = page.tags.valueof(_X_SCALE), page.tags.valueof(_Y_SCALE)
    unit_x, unit_y = page.tags.valueof(_X_UNIT), page.tags.valueof(_Y_UNIT)
    if x is None or y is None or not (unit_x and unit_y):
        return None
    return AxisScale(float(y), str(unit_y)), AxisScale(float(x), str(unit_x))


def _fei(file: TiffFile, page: TiffPage) -> Scales | None:
    metadata = (file.fei_metadata if file.is_fei else None) or {}
    for section in ("Scan", "EScan", "Image"):
        found = metadata.get(section, {})
        if found.get("PixelWidth") and found.get("PixelHeight"):
            return AxisScale(float(found["PixelHeight"]), "m"), AxisScale(
                float(found["PixelWidth"]), "m"
            )
    return None


def _zeiss(file: TiffFile, page: TiffPage) -> Scales | None:
    metadata = (file.sem_metadata if file.is_sem else None) or {}
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = metadata.get(key)
        if entry is not None and len(entry) == 3:
            return (scale := AxisScale(float(entry[1]), str(entry[2]))), scale
    return None


def _imagej(file: TiffFile, page: TiffPage) -> Scales | None:
    """Read pixels per unit from the resolution tags, and the unit from the description."""
    if not file.is_imagej:
        return None
    metadata = file.imagej_metadata or {}
    unit = str(metadata.get("unit", ""))
    pixels = _resolution(page)
    if not unit or pixels is None:
        return None
    if unit.lower() in _NM_PER_PRINT_UNIT:
        return _finer_than_print(pixels, unit.lower())
    unit_y = str(metadata.get("yunit", unit))
    return AxisScale(1 / pixels[0], unit_y), AxisScale(1 / pixels[1], unit)


def _resolution_tags(file: TiffFile, page: TiffPage) -> Scales | None:
    pixels = _resolution(page)
    unit = _TAG_UNIT.get(int(page.tags.valueof(_RESOLUTION_UNIT, default=2)))
    if pixels is None or unit is None or (file.imagej_metadata or {}).get("unit"):
        return None
    return _finer_than_print(pixels, unit)


def _resolution(page: TiffPage) -> tuple[float, float] | None:
    """Return pixels per unit along y and x."""
    values = []
    for code in (_Y_RESOLUTION, _X_RESOLUTION):
        value = page.tags.valueof(code)
        if not isinstance(value, tuple) or len(value) != 2 or 0 in value:
            return None
        values.append(value[0] / value[1])
    return values[0], values[1]


def _finer_than_print(pixels: tuple[float, float], unit: str) -> Scales | None:
    y, x = (_NM_PER_PRINT_UNIT[unit] / value for value in pixels)
    if max(y, x) > _FINEST_PRINT_NM:
        return None
    return AxisScale(y, "nm"), AxisScale(x, "nm")


CALIBRATIONS: dict[str, Callable[[TiffFile, TiffPage], Scales | None]] = {
    "OME PhysicalSize": _ome,
    "Gatan tags": _gatan,
    "FEI metadata": _fei,
    "Zeiss metadata": _zeiss,
    "ImageJ unit": _imagej,
    "TIFF resolution": _resolution_tags,
}
"""Calibrations of a TIFF file in order of priority."""


# ---- instrument
def _instrument(file: TiffFile) -> dict[str, Any]:
    page = file.pages.first
    metadata = known_entries(
        software=page.tags.valueof("Software"),
        date=page.tags.valueof("DateTime"),
        instrument=page.tags.valueof("Model"),
    )
    if file.is_fei:
        fei = file.fei_metadata or {}
        volts = fei.get("Beam", {}).get("HV")
        dwell = fei.get("Scan", {}).get("Dwelltime")
        detector = fei.get("Detectors", {}).get("Name")
        metadata |= known_entries(
            instrument=fei.get("System", {}).get("SystemType"),
            voltage_kv=volts / 1e3 if isinstance(volts, (int, float)) else None,
            dwell_time_us=dwell * 1e6 if isinstance(dwell, (int, float)) else None,
            detector=detector,
            gain=fei.get(detector, {}).get("Contrast"),  # sets the gain of the photomultiplier
        )
    return metadata | known_entries(frame_time_s=_frame_time_s(file))


def _frame_time_s(file: TiffFile) -> float | None:
    """Return the time between frames in s from metadata of ImageJ or OME."""
    if file.is_imagej:
        # The entry "fps" is the display rate, not the recording rate.
        return seconds((file.imagej_metadata or {}).get("finterval"), "s")
    if file.is_ome and file.ome_metadata is not None:
        for element in ElementTree.fromstring(file.ome_metadata).iter():
            if element.tag.rpartition("}")[2] == "Pixels":
                return seconds(element.get("TimeIncrement"), element.get("TimeIncrementUnit", "s"))
    return None
