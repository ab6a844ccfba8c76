"""Files of microscope manufacturers, read by RosettaSciIO (the extra ``microscopes``)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError, UnsuitableImageError, require_extra
from .raw_image import RawImage, known_entries
from .units import AxisScale, is_reciprocal, seconds


# ---- references of HDF5 files to other files, which are never followed outside their folder
def check_links(
    path: Path,  # HDF5 file
) -> None:
    """Check that an HDF5 file refers to no file outside its folder.

    External links, external storage and virtual datasets are such references. A file from somebody
    else could name any file that the user may read. A file that cannot be opened is not checked:
    its reader says what is wrong.

    Raises `ReadError` if it refers to a file outside its folder.
    """
    try:
        import h5py
    except ImportError:
        return
    folder = Path(os.path.realpath(path.parent))
    try:
        with h5py.File(path, "r") as file:
            names = list(_references(file))
    except (OSError, RuntimeError, KeyError, ValueError):
        return
    for name in names:
        target = Path(os.path.realpath(folder / name))
        if not target.is_relative_to(folder):
            raise ReadError(
                f"it refers to another file outside its folder ({name[:200]})",
                path,
                "Copy the data into one file, or both files into one folder",
            )


def _references(file: Any) -> Iterator[str]:
    """Yield the names of the files that the links and datasets of an open file refer to."""
    import h5py

    links: list[str] = []
    datasets: list[Any] = []

    def add_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            links.append(str(link.filename))

    def add_dataset(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            datasets.append(entry)

    file.visititems_links(add_link)
    file.visititems(add_dataset)
    yield from links
    for dataset in datasets:
        yield from (str(name) for name, _, _ in dataset.external or ())
        if dataset.is_virtual:
            # "." is the file itself.
            yield from (s.file_name for s in dataset.virtual_sources() if s.file_name != ".")


def read_dm(path: Path) -> RawImage:
    """Read a DigitalMicrograph file (.dm3, .dm4)."""
    return image_of_signals(_signals("digitalmicrograph", path), path)


def read_emd(path: Path) -> RawImage:
    """Read an EMD file of Velox (images only, no spectra) or of Berkeley Lab."""
    check_links(path)
    return image_of_signals(_signals("emd", path, select_type="images"), path)


def read_hspy(path: Path) -> RawImage:
    """Read a file of hyperspy."""
    check_links(path)
    return image_of_signals(_signals("hspy", path), path)


def read_prz(path: Path) -> RawImage:
    """Read a file of Panta Rhei."""
    return image_of_signals(_signals("pantarhei", path), path)


def read_tia(path: Path) -> RawImage:
    """Read a TIA image: .ser files contain the pixels, the .emi file describes the instrument."""
    if path.suffix.lower() == ".ser":
        return image_of_signals(_with_description(path, _signals("tia", path)), path)
    signals = _signals("tia", path)
    if not signals:
        raise ReadError(
            "the .ser file of this .emi file is missing",
            path,
            f"Copy {path.stem}_1.ser into the same folder",
        )
    return image_of_signals(signals, path)


def emi_of(ser: Path) -> Path | None:
    """Return the path of the .emi file of a .ser file, None if the name has no such form."""
    match = re.fullmatch(r"(.+)_\d+", ser.stem)
    return ser.with_name(match[1] + ".emi") if match else None


def _with_description(path: Path, signals: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    emi = emi_of(path)
    if emi is None or not emi.is_file():
        return signals
    # The pixels are complete without the .emi file, which may be damaged.
    with suppress(Exception):
        for described in _signals("tia", emi):
            if _get(described["metadata"], "General.original_filename") == path.name:
                return [described]
    return signals


def _signals(plugin: str, path: Path, **options: Any) -> list[dict[str, Any]]:
    with require_extra("microscopes", f"reading {path.suffix} files with rosettasciio", path):
        reader: Callable[..., list[dict[str, Any]]] = import_module(f"rsciio.{plugin}").file_reader
        return list(reader(str(path), **options))


# ---- selection of the signal
def image_of_signals(
    # Signals in the form of RosettaSciIO: ``data``, ``axes``, ``metadata``
    signals: Sequence[dict[str, Any]],
    path: Path,
) -> RawImage:
    """Return the image with HAADF in its title, otherwise the first image.

    Raises `UnsuitableImageError` if there is no image.
    """
    if not signals:
        raise UnsuitableImageError("the file contains no image", path)
    images = [(s, axes) for s in signals if (axes := _image_axes(s)) is not None]
    images.sort(key=lambda image: (_is_reciprocal(*image), "haadf" not in _title(image[0]).lower()))
    if not images:
        shapes = ", ".join(str(np.shape(s["data"])) for s in signals)
        raise UnsuitableImageError(
            f"the file contains spectra or diffraction data (shape {shapes}), not an image",
            path,
            "Open the HAADF image that was recorded with it",
        )
    signal, (frames, y, x) = images[0]
    data = np.transpose(np.asarray(signal["data"]), [*frames, y, x])
    axes = signal["axes"]
    metadata = _instrument(signal)
    if len(signals) > 1:
        metadata["image_in_file"] = f"{_index(signals, signal) + 1} of {len(signals)}"
    for axis in (axes[i] for i in frames if np.shape(signal["data"])[i] > 1):
        metadata |= known_entries(frame_time_s=seconds(axis.get("scale"), str(axis.get("units"))))
    scales = _scale(axes[y]), _scale(axes[x])
    return RawImage(data, *scales, f"{path.suffix[1:]} axes ({scales[1].unit})", metadata)


def _index(signals: Sequence[dict[str, Any]], signal: dict[str, Any]) -> int:
    return next(i for i, s in enumerate(signals) if s is signal)


def _image_axes(signal: dict[str, Any]) -> tuple[list[int], int, int] | None:
    """Return the indices of the axes of frames, y and x; None if the signal is no image."""
    data, axes = signal["data"], signal["axes"]
    if len(axes) != np.ndim(data):
        return None
    used = [i for i in range(len(axes)) if np.shape(data)[i] > 1]
    navigation = [i for i in used if axes[i].get("navigate")]
    image = [i for i in used if not axes[i].get("navigate")]
    if not image:  # a map with one value per beam position
        navigation, image = [], navigation
    if len(image) != 2 or len(navigation) > 1:
        return None
    if [str(axes[i].get("name")).lower() for i in image] == ["x", "y"]:  # some EMD files
        image.reverse()
    single = [i for i in range(len(axes)) if i not in used]
    return [*single, *navigation], image[0], image[1]


def _is_reciprocal(signal: dict[str, Any], axes: tuple[list[int], int, int]) -> bool:
    """Return whether the signal is not in real space, such as a Fourier transform."""
    units = [signal["axes"][i].get("units") for i in axes[1:]]
    return np.iscomplexobj(signal["data"]) or any(map(is_reciprocal, units))


def _title(signal: dict[str, Any]) -> str:
    return str(_get(signal.get("metadata", {}), "General.title") or "")


def _scale(axis: Mapping[str, Any]) -> AxisScale:
    unit = axis.get("units")
    return AxisScale(float(axis.get("scale", 0.0)), "" if unit is None else str(unit))


# ---- instrument
_DETECTORS = (
    "DetectorMetadata.DetectorName",
    "ImageList.TagGroup0.ImageTags.DataBar.Signal Name",
)
"""Name of the detector in metadata of Velox and DigitalMicrograph."""
_GAIN = "DetectorMetadata.Gain"
"""Gain of the detector in metadata of Velox."""


def _get(tree: Any, path: str) -> Any:
    """Return an entry of nested mappings by its dotted path, None if there is none."""
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def _mapped(signal: dict[str, Any]) -> dict[str, Any]:
    """Return the entries, dotted path → value, that the reader translates from raw metadata."""
    original = signal.get("original_metadata", {})
    found = {}
    for source, (target, translate) in signal.get("mapping", {}).items():
        value = _get(original, source)
        if value is not None:
            with suppress(Exception):  # entries of an unknown form are skipped
                found[target] = translate(value) if translate else value
    return found


def _instrument(signal: dict[str, Any]) -> dict[str, Any]:
    metadata, mapped = signal.get("metadata", {}), _mapped(signal)

    def entry(path: str) -> Any:
        value = _get(metadata, path)
        return mapped.get(path) if value is None else value

    def number(value: Any, factor: float = 1.0) -> float | None:
        with suppress(TypeError, ValueError):
            return float(value) * factor or None  # many programs write zero for unknown values
        return None

    tem = "Acquisition_instrument.TEM."
    original = signal.get("original_metadata", {})
    dwell_s = entry(tem + "dwell_time") or _get(original, "Scan.DwellTime")
    return known_entries(
        title=_title(signal),
        date=entry("General.date"),
        time=entry("General.time"),
        instrument=entry(tem + "microscope"),
        acquisition_mode=entry(tem + "acquisition_mode"),
        voltage_kv=number(entry(tem + "beam_energy")),
        dwell_time_us=number(dwell_s, 1e6),
        magnification=number(entry(tem + "magnification")),
        camera_length_mm=number(entry(tem + "camera_length")),
        detector=next(filter(None, (_get(original, path) for path in _DETECTORS)), None),
        gain=number(_get(original, _GAIN)),
    )
