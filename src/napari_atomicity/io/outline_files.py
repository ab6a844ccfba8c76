"""Outlines of clusters in files of other programs: ImageJ ROIs, GeoJSON and label images.

In this package the centre of the top-left pixel is (0, 0). In ImageJ, Fiji and QuPath its corner
is: ROIs and GeoJSON have coordinates that are larger by half a pixel.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import palette
from ..core.errors import AtomicityError, ReadError, reason_of
from ..core.tables import cluster_table as tables
from ..core.text import pluralise
from .files import RESULT, atomic_write, plain, read_document, write_text
from .images import read_pixels, resolved, sha256_of
from .inputs import Input

_CORNER_PX = 0.5
"""Coordinate of the centre of the top-left pixel in programs that count from its corner."""
_MAX_UINT16 = np.iinfo(np.uint16).max


def write_outlines(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],
    shape: tuple[int, ...],
    pixel_size_nm: float | None = None,
) -> Path:
    """Write the outlines of the clusters of one image, in the format of the suffix.

    Parameters
    ----------
    path : path-like
        ``.zip`` for ImageJ ROIs, ``.geojson`` for GeoJSON, ``.tif`` or ``.tiff`` for a label
        image.
    outlines : sequence of ndarray
        N polygons, each (M, 2) in pixels (y, x).
    shape : tuple of int
        Shape (Y, X) or (T, Y, X) of the image.
    pixel_size_nm : float, optional
        Pixel size of the image in nm.

    Raises
    ------
    AtomicityError
        If the suffix is not one of these, there are no outlines, or the file can not be written.
    """
    path = Path(path)
    write = OUTLINE_WRITERS.get(path.suffix.lower())
    if write is None:
        raise AtomicityError(
            f"outlines can't be {path.suffix or 'files without suffix'}",
            path,
            f"Use one of {', '.join(OUTLINE_WRITERS)}",
        )
    if not len(table):
        raise AtomicityError("there are no outlines to write", path, "Analyse the image first")
    return write(path, table, outlines, shape, pixel_size_nm)


def write_imagej_rois(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],  # N polygons, each (M, 2) in pixels (y, x)
    shape: tuple[int, ...],  # (Y, X) or (T, Y, X) of the image
    pixel_size_nm: float | None = None,  # not stored in this format
) -> Path:
    """Write outlines as a ZIP file of ROIs, which the ROI Manager of ImageJ and Fiji opens.

    ROIs are named ``<cluster_id> <label>``, have the colour of the label and, in a stack, the
    number of their frame.
    """
    from roifile import ImagejRoi, roiwrite

    path, is_stack = Path(path), len(shape) == 3
    rgb_of = _label_colours(table)
    rois = []
    for cluster_id, label, frame, polygon in _clusters(table, outlines):
        name = f"{cluster_id:05d} {plain_name(label)}".strip()
        position = frame if is_stack else None
        roi = ImagejRoi.frompoints(_corner_xy(polygon), name=name, position=position)
        roi.stroke_color = b"\xff" + rgb_of(label)
        rois.append(roi)
    with atomic_write(path) as temporary:
        roiwrite(temporary, rois, mode="w")
    return path


def _label_colours(table: pd.DataFrame) -> Callable[[str], bytes]:
    """Return a function from a label of the table to its colour: red, green and blue."""
    colours = palette.colours(tables.classes_of(table))
    return lambda label: bytes.fromhex(colours.get(label, palette.UNKNOWN_COLOUR)[1:])


def write_geojson(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],  # N polygons, each (M, 2) in pixels (y, x)
    shape: tuple[int, ...],  # (Y, X) or (T, Y, X) of the image
    pixel_size_nm: float | None = None,  # length of a pixel in nm, for the properties
) -> Path:
    """Write outlines as GeoJSON polygons in pixels, with the columns of the table as properties.

    QuPath opens the file and shows the labels as classifications.
    """
    rgb_of = _label_colours(table)
    records = table.to_dict("records")
    features = []
    for record, (_, label, _, polygon) in zip(records, _clusters(table, outlines), strict=True):
        properties = {
            "objectType": "annotation",
            "classification": {"name": label or "unlabelled", "color": list(rgb_of(label))},
            **record,
        }
        ring = _corner_xy(polygon).tolist()
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                "properties": properties,
            }
        )
    collection: dict[str, Any] = {
        "type": "FeatureCollection",
        "unit": "pixel",
        "origin": "corner of the top-left pixel",
        "pixel_size_nm": pixel_size_nm,
        "features": features,
    }
    # One line: indented coordinates would be four times as long.
    return write_text(path, json.dumps(plain(collection), ensure_ascii=False) + "\n")


def write_label_image(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],  # N polygons, each (M, 2) in pixels (y, x)
    shape: tuple[int, ...],  # (Y, X) or (T, Y, X) of the image
    # Length of a pixel in nm, for the resolution of the TIFF file
    pixel_size_nm: float | None = None,
) -> Path:
    """Write a TIFF label image: each pixel has the ``cluster_id`` of its cluster, or 0.

    The type is uint16, or uint32 if an id is larger than 65,535.
    """
    return write_labels(path, label_image(table, outlines, shape), pixel_size_nm)


def label_image(
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],  # N polygons, each (M, 2) in pixels (y, x)
    shape: tuple[int, ...],  # (Y, X) or (T, Y, X) of the image
) -> np.ndarray:  # the ``cluster_id`` of each pixel, 0 outside all clusters
    """Return the clusters as a label image; a pixel is in a cluster if its centre is inside."""
    from skimage.draw import polygon as pixels_inside

    largest = int(table["cluster_id"].max()) if len(table) else 0
    labels = np.zeros(shape, np.uint16 if largest <= _MAX_UINT16 else np.uint32)
    frames = labels.reshape(-1, *shape[-2:])
    for cluster_id, _, frame, polygon in _clusters(table, outlines):
        y_px, x_px = polygon.T
        frames[frame][pixels_inside(y_px, x_px, shape=shape[-2:])] = cluster_id
    return labels


def write_labels(
    path: str | os.PathLike[str],
    labels: np.ndarray,  # (Y, X) or (T, Y, X): integers of at least 0
    pixel_size_nm: float | None = None,
) -> Path:  # the file: an ImageJ TIFF of uint16, or an OME-TIFF of uint32 if a label is larger
    """Write a label image as TIFF with the pixel size in nm.

    Raises `AtomicityError` if the file can not be written.
    """
    from tifffile import imwrite

    path, axes = Path(path), "TYX"[-labels.ndim :]
    is_small = labels.max(initial=0) <= _MAX_UINT16
    options: dict[str, Any] = {"metadata": {"axes": axes}, "software": RESULT}
    if pixel_size_nm is not None and is_small:
        options["resolution"] = (1 / pixel_size_nm, 1 / pixel_size_nm)
        options["metadata"]["unit"] = "nm"
    elif pixel_size_nm is not None:
        for axis in "XY":
            options["metadata"] |= {f"PhysicalSize{axis}": pixel_size_nm}
            options["metadata"] |= {f"PhysicalSize{axis}Unit": "nm"}
    kind = np.uint16 if is_small else np.uint32
    with atomic_write(path) as temporary:
        # ImageJ has no images of uint32.
        imwrite(temporary, labels.astype(kind), imagej=is_small, ome=not is_small, **options)
    return path


OUTLINE_WRITERS: dict[str, Callable[..., Path]] = {
    ".zip": write_imagej_rois,
    ".geojson": write_geojson,
    ".tif": write_label_image,
    ".tiff": write_label_image,
}
"""Formats of outlines by suffix."""


def _clusters(
    table: pd.DataFrame, outlines: Sequence[np.ndarray]
) -> Iterator[tuple[int, str, int, np.ndarray]]:
    """Yield id, label, frame and outline of each cluster."""
    columns = (table["cluster_id"].tolist(), table["label"].tolist(), table["frame"].tolist())
    for cluster_id, label, frame, outline in zip(*columns, outlines, strict=True):
        polygon = np.asarray(outline, float).reshape(-1, 2)
        is_closed = len(polygon) > 1 and (polygon[0] == polygon[-1]).all()
        yield int(cluster_id), str(label), int(frame), polygon[:-1] if is_closed else polygon


def _corner_xy(polygon: np.ndarray) -> np.ndarray:
    """Return a polygon (M, 2) as (x, y) relative to the corner of the top-left pixel."""
    return polygon[:, ::-1] + _CORNER_PX


def plain_name(label: str) -> str:
    """Return a label without characters that are no part of a file name."""
    return re.sub(r"[^\w .+-]", "_", label)[:60]


# ---- outlines that other programs have drawn

MAX_OBJECTS = 200_000
"""More objects than an image has clusters: then the file is no label image."""
_MAX_ROI_BYTES = 1_000_000_000
_LABEL_SUFFIXES = (".tif", ".tiff", ".btf", ".png", ".npy", ".npz")
_ENDINGS = re.compile(
    # Cellpose, ilastik, ImageJ and QuPath, and our own export of several images
    r"[ _.-]*(cp_masks|masks?|segmentation|seg|labels?|rois?|roiset|outlines?|objects?|clusters?"
    r"|object[ _]identities|ome)$",
    re.IGNORECASE,
)
_BEGINNINGS = re.compile(r"^(clusters|outlines)-", re.IGNORECASE)
_NOT_READABLE = "Export the objects again, as a label image, as GeoJSON, or as ImageJ ROIs"


@dataclass(frozen=True, eq=False)
class GivenOutlines:
    """Outlines of one image that another program or a person has drawn.

    Either polygons, each (M, 2) in pixels (y, x), with the frame of each, or a label image.
    """

    source: str  # file, or what they are, for messages and the record
    polygons: tuple[np.ndarray, ...] = ()
    frames: tuple[int | None, ...] = ()  # None if the file does not say it
    labels: np.ndarray | None = None  # (Y, X) or (T, Y, X): 0 outside all objects
    sha256: str | None = None

    def provenance(self) -> dict[str, Any]:
        """Return where they are from, for the record of an analysis."""
        n = len(self.polygons) if self.labels is None else int(self.labels.max())
        return {"source": self.source, "sha256": self.sha256, "objects": n}

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "labels", _checked_labels(self.labels, self.source))
        elif not self.polygons:
            raise ReadError("there are no outlines", self.source, "Export the objects again")
        _check_number(len(self.polygons), self.source)
        for number, polygon in enumerate(self.polygons, 1):
            if polygon.ndim != 2 or len(polygon) < 3 or not np.isfinite(polygon).all():
                raise ReadError(
                    f"object {number} is no polygon of finite coordinates",
                    self.source,
                    "Remove the object, or export the objects again",
                )


def _check_number(n: int, source: str) -> None:
    if n > MAX_OBJECTS:
        raise ReadError(
            f"it has {n:,} objects, more than {MAX_OBJECTS:,}",
            source,
            "Check that it is a label image and not an image of intensities or probabilities",
        )


def _checked_labels(labels: np.ndarray, source: str) -> np.ndarray:
    """Return a label image with the numbers 1 to N; a mask is divided into its connected parts."""
    from scipy import ndimage

    kind = labels.dtype.kind
    whole = kind in "biu" or (
        kind == "f" and bool(np.isfinite(labels).all() and (labels == np.rint(labels)).all())
    )
    if labels.ndim not in (2, 3) or not whole or labels.min(initial=0) < 0:
        raise ReadError(
            "this is no label image: the pixels of an object have its number, all others are 0",
            source,
            "Export labels or masks, not probabilities or intensities",
        )
    values, places = np.unique(labels, return_inverse=True)
    n = int((values != 0).sum())
    if not n:
        raise ReadError("there are no outlines: all labels are 0", source, _NOT_READABLE)
    if n == 1:
        frames = (labels != 0).reshape(-1, *labels.shape[-2:])
        # The parts of each frame are numbered by themselves.
        parts = np.stack([ndimage.label(frame)[0] for frame in frames])
        _check_number(int(parts.max()), source)
        return parts.reshape(labels.shape)
    _check_number(n, source)
    return (places + (0 if values[0] == 0 else 1)).reshape(labels.shape).astype(np.int32)


def read_outlines(path: str | os.PathLike[str]) -> GivenOutlines:
    """Read the objects of another program, in the format of the suffix.

    Parameters
    ----------
    path : path-like
        A label image (TIFF, PNG, NPY or NPZ), GeoJSON (``.geojson``, ``.json``), or ImageJ ROIs
        (``.roi``, ``.zip``).

    Raises
    ------
    AtomicityError
        If the file is missing, damaged or of another format, or contains no areas.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _LABEL_SUFFIXES:
        return GivenOutlines(str(path), labels=read_pixels(path), sha256=sha256_of(path))
    if suffix not in OUTLINE_READERS:
        what = f"outlines can't be read from {suffix or 'a file without suffix'}"
        raise ReadError(what, path, f"Use one of {', '.join([*_LABEL_SUFFIXES, *OUTLINE_READERS])}")
    try:
        found = OUTLINE_READERS[suffix](read_document(path))
        polygons = tuple(np.asarray(polygon, float)[:, 1::-1] - _CORNER_PX for polygon, _ in found)
        frames = tuple(frame for _, frame in found)
        return GivenOutlines(str(path), polygons, frames, sha256=sha256_of(path))
    except AtomicityError as error:
        raise type(error)(error.what, path, error.advice) from error
    except OSError as error:
        what = f"it can't be opened ({reason_of(error)})"
        raise ReadError(what, path, "Check the path") from error
    # Libraries raise any exception for damaged files.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:200].rstrip(".")
        raise ReadError(f"it can't be read ({reason})", path, _NOT_READABLE) from error


Rings = list[tuple[Any, int | None]]
"""Polygons (x, y) relative to the corner of the image, each with its frame."""


def _read_rois(data: bytes) -> Rings:
    """Read the ROIs of an archive of ImageJ, one file each."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [one for one in archive.infolist() if one.filename.lower().endswith(".roi")]
        _check_number(len(members), "")
        if sum(one.file_size for one in members) > _MAX_ROI_BYTES:
            raise ReadError("the ROIs in it are larger than ROIs are", None, _NOT_READABLE)
        return [ring for one in members for ring in _read_roi(archive.read(one))]


def _read_roi(data: bytes) -> Rings:
    """Read one ROI of ImageJ; of a composite one, the largest part."""
    from roifile import ROI_TYPE, ImagejRoi

    roi = ImagejRoi.frombytes(data)
    areas = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL)
    if roi.roitype not in areas:
        what = f"the ROI {roi.name} is a {roi.roitype.name.lower()}, not an area"
        raise ReadError(what, None, "Delete it in the ROI Manager, or draw a polygon")
    frame = max(roi.position, roi.t_position, roi.z_position)  # from 1; 0 or less if unknown
    ring = max(roi.coordinates(multi=True), key=area_of)
    return [(ring, frame - 1 if frame > 0 else None)]


def _read_geojson(data: bytes) -> Rings:
    """Read the polygons of a GeoJSON file; of several in one object, the largest."""
    content = json.loads(data)
    features = content if isinstance(content, list) else content.get("features", [content])
    _check_number(len(features), "")
    rings: Rings = []
    for number, feature in enumerate(features, 1):
        shape = feature.get("geometry", feature)
        kind, corners = shape.get("type"), shape.get("coordinates")
        if kind not in ("Polygon", "MultiPolygon"):
            what = f"object {number} is a {kind}, not a polygon"
            raise ReadError(what, None, "Remove it, or change it into a polygon")
        outer = [corners[0]] if kind == "Polygon" else [polygon[0] for polygon in corners]
        plane, properties = shape.get("plane") or {}, feature.get("properties") or {}
        of_plane = max(plane.get("t", 0), plane.get("z", 0)) if plane else None  # QuPath
        frame = properties.get("frame", of_plane)
        rings.append((max(outer, key=area_of), None if frame is None else int(frame)))
    return rings


def area_of(polygon: Any) -> float:
    """Return the area of a polygon (M, 2)."""
    a, b = np.asarray(polygon, float).T[:2]
    return float(abs(a @ np.roll(b, 1) - b @ np.roll(a, 1)) / 2)


OUTLINE_READERS: dict[str, Callable[[bytes], Rings]] = {
    ".zip": _read_rois,
    ".roi": _read_roi,
    ".geojson": _read_geojson,
    ".json": _read_geojson,
}
"""Formats of outlines that are not images, by suffix."""


SUFFIXES = (*OUTLINE_READERS, *_LABEL_SUFFIXES)
"""Suffixes of files with outlines."""


def outlines_file(source: str | os.PathLike[str], image: str, path: Path | None) -> Path:
    """Return the file with the outlines of an image: the source itself, or the match in a folder.

    A file matches if its name is that of the image, also with the ending of a program such as
    ``_cp_masks``. An image in a subfolder, ``day1/a.tif``, has its outlines in that subfolder.
    Raises `ReadError` if there is none, or more than one.
    """
    source = Path(source)
    if not source.is_dir():
        return source
    folder, stem = source / Path(image).parent, Path(image).stem
    known = _files_in(folder, folder.stat().st_mtime_ns) if folder.is_dir() else {}
    own = None if path is None else resolved(path)
    files = [file for file in known.get(_bare(stem), []) if resolved(file) != own]
    if len(files) != 1:
        listed = ": " + ", ".join(file.name for file in files) if files else ""
        raise ReadError(
            f"it has {pluralise(len(files), 'file')} with outlines of {image}{listed}",
            source,
            f"Name one file in {folder} like the image, such as {stem}.zip or {stem}_masks.tif",
        )
    return files[0]


def without_outlines(inputs: Sequence[Input], *sources: str | None) -> list[Input]:
    """Return the images without the files among them that are outlines of others.

    Raises `ReadError` if a source is missing, or one file for several images.
    """
    given = [source for source in sources if source is not None]
    files: set[Path] = set()
    for source in given:
        if not Path(source).exists():
            raise ReadError("there is no such file or folder", source, "Check the path")
        for item in inputs:
            with suppress(ReadError):  # an error of this image, when it is analysed
                if _bare(item.path.stem) == item.path.stem and resolved(item.path) not in files:
                    files.add(resolved(outlines_file(source, item.name, item.path)))
    images = [item for item in inputs if not files or resolved(item.path) not in files]
    for source in given:
        if len(images) > 1 and not Path(source).is_dir():
            raise ReadError(
                f"this is one file of outlines for {len(images)} images",
                source,
                "Give a folder with one file per image, or one image",
            )
    return images


def match_outlines(
    files: Sequence[str | os.PathLike[str]], images: Sequence[str]
) -> dict[str, Path]:
    """Return the file of each image by its name, also with the ending of a program.

    An export of several images has a name before theirs, such as ``day-a.zip`` for ``a.tif``.
    Raises `ReadError` if a file belongs to no image or several, or an image has several files.
    """
    found: dict[str, Path] = {}
    for file in map(Path, files):
        own = [name for name in images if _bare(Path(name).stem) == _bare(file.stem)]
        if not own:
            of_export = [name for name in images if file.stem.endswith(f"-{Path(name).stem}")]
            longest = max((len(Path(name).stem) for name in of_export), default=0)
            own = [name for name in of_export if len(Path(name).stem) == longest]
        if len(own) != 1 or own[0] in found:
            what = f"its name is that of {pluralise(len(own), 'image')}"
            if len(own) == 1:
                what = f"{found[own[0]].name} has the outlines of {own[0]} as well"
            raise ReadError(
                what,
                file,
                "Name each file like its image, such as a.zip or a_masks.tif for a.tif, or choose "
                "one file for the open image",
            )
        found[own[0]] = file
    return found


def _bare(stem: str) -> str:
    """Return the name of an image without suffix from that of its outlines."""
    short = _BEGINNINGS.sub("", stem)
    while (shorter := _ENDINGS.sub("", short)) not in (short, ""):
        short = shorter
    return short


@lru_cache(maxsize=4)
def _files_in(folder: Path, _: int) -> dict[str, list[Path]]:
    """Return the files that may have outlines, by the name of their image.

    Those of an export of several images, ``day-a.zip`` and ``day-b.zip``, are of ``a`` and ``b``
    unless the images have these names themselves.
    """
    found: dict[str, list[Path]] = {}
    files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in SUFFIXES and f.is_file()]
    beginning = os.path.commonprefix([file.stem for file in files])  # noqa: RUF071 (of names)
    of_export = "".join(beginning.rpartition("-")[:2]) if len(files) > 1 else ""
    for file in files:
        for name in {_bare(file.stem), _bare(file.stem.removeprefix(of_export))}:
            found.setdefault(name, []).append(file)
    return found
