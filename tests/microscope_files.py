"""Write small files in formats of microscope makers."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest


def axis(name, size, scale=0.04, units="nm", navigate=False, index=0):
    return {
        "name": name,
        "size": size,
        "scale": scale,
        "offset": 0.0,
        "units": units,
        "navigate": navigate,
        "index_in_array": index,
        "is_binned": False,
        "_type": "UniformDataAxis",
    }


def image_axes(shape, **options):
    return [axis("y", shape[-2], **options), axis("x", shape[-1], **options)]


def signal(data, axes, title="HAADF", instrument=None):
    metadata = {"General": {"title": title}, "Signal": {"signal_type": ""}}
    if instrument:
        metadata["Acquisition_instrument"] = {"TEM": instrument}
    return {
        "data": data,
        "axes": [{**a, "index_in_array": i} for i, a in enumerate(axes)],
        "metadata": metadata,
        "original_metadata": {},
        "learning_results": {},
        "attributes": {"_lazy": False, "ragged": False},
        "package_info": {"package": "test", "package_version": "0"},
        "models": {},
        "tmp_parameters": {},
    }


def image(shape=(6, 7), dtype=np.float32):
    return np.random.default_rng(2).integers(0, 1000, shape).astype(dtype)


def save_hspy(path, *args, **options):
    writer = pytest.importorskip("rsciio.hspy", reason="needs the extra microscopes").file_writer
    writer(str(path), signal(*args, **options))
    return path


def save_velox(path, images):
    """The least that makes a Velox file: title → (pixels (T, Y, X), pixel size in m, unit)."""
    h5py = pytest.importorskip("h5py", reason="needs the extra microscopes")
    pytest.importorskip("rsciio.emd", reason="needs the extra microscopes")

    def text(group, name, value):
        raw = json.dumps(value).encode()
        group.create_dataset(name, data=np.array([raw], dtype=f"S{len(raw)}"))

    with h5py.File(path, "w") as file:
        text(file, "Version", {"format": "Velox", "version": "11"})
        for i, (title, (data, size, unit)) in enumerate(images.items()):
            uuid = f"{i:032x}"
            group = file.create_group(f"Data/Image/{uuid}")
            group.create_dataset("Data", data=np.moveaxis(data, 0, -1))
            metadata = json.dumps(
                {
                    "BinaryResult": {
                        "PixelSize": {"width": str(size), "height": str(size)},
                        "Offset": {"x": "0", "y": "0"},
                        "PixelUnitX": unit,
                        "PixelUnitY": unit,
                        "DetectorIndex": "0",
                    },
                    "Detectors": {
                        "Detector-0": {"DetectorName": title, "DetectorType": "", "Gain": "26.5"}
                    },
                    "Scan": {"DwellTime": "1e-06", "FrameTime": "1.5"},
                    "Optics": {"AccelerationVoltage": "300000", "CameraLength": "0.115"},
                    "Instrument": {"InstrumentModel": "Spectra", "InstrumentId": "1"},
                    "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1600000000"}},
                }
            ).encode()
            padded = np.zeros((60_000, data.shape[0]), np.uint8)
            padded[: len(metadata)] = np.frombuffer(metadata, np.uint8)[:, None]
            group.create_dataset("Metadata", data=padded)
            reference = f"/SharedProperties/ImageSeriesDataReference/{uuid}"
            text(file, reference, {"dataPath": f"/Data/Image/{uuid}"})
            display = {"id": title, "data": reference}
            text(file.require_group("Displays/ImageDisplay"), uuid, display)
    return path


def save_berkeley(path, data, units, scale):
    """One image as the 2014 description of the format has it."""
    h5py = pytest.importorskip("h5py", reason="needs the extra microscopes")
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", data=data)
        for i, (size, name) in enumerate(zip(data.shape, "yx", strict=True), 1):
            dim = group.create_dataset(f"dim{i}", data=np.arange(size) * scale)
            dim.attrs["name"], dim.attrs["units"] = name, units
    return path


# ---- DigitalMicrograph
def save_dm(path: Path, data: np.ndarray, version: int = 4, scale: float = 0.04) -> Path:
    """Write a DM3 or DM4 file with one image of float32, calibrated in nm."""
    size = "q" if version == 4 else "i"  # of sizes, numbers of tags and types

    def number(value: int) -> bytes:
        return struct.pack(f">{size}", value)

    def tag(kind: int, name: str, content: bytes) -> bytes:
        length = struct.pack(">q", len(content)) if version == 4 else b""
        return struct.pack(">bh", kind, len(name)) + name.encode() + length + content

    def group(name: str, tags: list[bytes]) -> bytes:
        return tag(20, name, b"\0\0" + number(len(tags)) + b"".join(tags))

    def leaf(name: str, info: list[int], raw: bytes) -> bytes:
        return tag(21, name, b"%%%%" + number(len(info)) + b"".join(map(number, info)) + raw)

    def of_int(name: str, value: int) -> bytes:
        return leaf(name, [5], struct.pack("<I", value))

    def of_float(name: str, value: float) -> bytes:
        return leaf(name, [6], struct.pack("<f", value))

    def of_text(name: str, text: str) -> bytes:
        return leaf(name, [20, 4, len(text)], text.encode("utf-16-le"))

    def axis_tags(name: str, units: str, scale: float) -> bytes:
        tags = [of_float("Origin", 0.0), of_float("Scale", scale), of_text("Units", units)]
        return group(name, tags)

    axes = group("Dimension", [axis_tags("", "nm", scale) for _ in data.shape])
    calibrations = group("Calibrations", [axis_tags("Brightness", "", 1.0), axes])
    pixels = leaf("Data", [20, 6, data.size], data.astype("<f4").tobytes())
    dimensions = group("Dimensions", [of_int("", n) for n in data.shape[::-1]])
    kind = [of_int("DataType", 2), of_int("PixelDepth", 4)]
    image_data = group("ImageData", [calibrations, pixels, *kind, dimensions])
    entry = group("", [image_data, group("ImageTags", []), of_text("Name", "HAADF")])
    tags = [group("ImageList", [entry]), of_int("InImageMode", 1)]
    root = b"\0\0" + number(len(tags)) + b"".join(tags)
    head = struct.pack(">i", version) + number(len(root)) + struct.pack(">i", 1)
    path.write_bytes(head + root + bytes(8))
    return path


# ---- TIA
def save_ser(path: Path, data: np.ndarray, pixel_size_m: float = 4e-11) -> Path:
    """Write a .ser file with one image of float32."""
    dimension = struct.pack("<IddIII", 1, 0.0, 1.0, 0, 0, 0)
    offsets = 30 + len(dimension)
    first = offsets + 8
    element = struct.pack("<ddIddI", 0.0, pixel_size_m, 0, 0.0, pixel_size_m, 0)
    element += struct.pack("<HII", 7, data.shape[1], data.shape[0]) + data.astype("<f4").tobytes()
    head = struct.pack("<HHHIIIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 1, 1, offsets, 1)
    places = struct.pack("<II", first, first + len(element))
    path.write_bytes(head + dimension + places + element + struct.pack("<HHI", 0x4152, 0, 0))
    return path
