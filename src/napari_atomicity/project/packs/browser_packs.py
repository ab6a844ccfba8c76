"""Packs for a browser: one HTML file with the images and the program that marks atoms in them.

The file has everything in it: the manifest as JSON, each image as a grey PNG, and the program of
``data/annotate``. A content security policy with the hashes of the program and the style forbids
all else, and no name of a class or a file is ever part of the markup. The hash of a pack is that of
its manifest, which contains the hashes of the images, so that answers can be checked without it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Interval, Len

from ..._version import __version__
from ...core.errors import AtomicityError, TableError, UnsuitableImageError
from ...core.from_dict import Positive, dataclass_from_json
from ...core.palette import stretch
from ...core.progress import Progress, Stop, check, report
from ...core.text import pluralise
from ...io.files import read_document, write_text
from ...io.images import find_images, load, unique_names, valid_text
from ...io.pack_options import PackOptions
from ...statistics.annotators.agreement import NOT_A_CLUSTER
from ...statistics.annotators.annotation_sites import TOLERANCE_NM
from .annotation_packs import check_proposals, proposals_of

FORMAT = 1
_PACK = '<script type="application/json" id="pack">'
_MAX_PAGE_BYTES = 2_000_000_000
Name = Annotated[str, Len(1, 1000)]
_Place = Annotated[float, Interval(ge=-1, le=1e6)]
_Size = Annotated[int, Interval(ge=1, le=10**6)]
Task = Literal["atoms", "clusters"]
INSTRUCTIONS: dict[Task, str] = {
    "atoms": "Mark every metal atom that you see: a click or a tap sets a mark on the nearest "
    "bright spot. Set it to 'Not sure' if you doubt it. Mark what you see, not what you expect, "
    "and please don't compare with others before all are done.\n\nPress 'Seen completely' when you "
    "have searched the whole image, also if there is no atom in it: only then it counts.",
    "clusters": "Say for every cluster which class it belongs to. Set it to 'Not sure' if you "
    "doubt it. Judge each cluster by itself, and please don't compare with others before all are "
    "done.",
}
TITLES: dict[Task, str] = {
    "atoms": "Where are the atoms?",
    "clusters": "Which clusters are these?",
}
_EXAMPLE_NM, _EXAMPLES = 8.0, 2


@dataclass(frozen=True)
class PackCluster:
    """A cluster to be labelled; an example has its label."""

    cluster_id: int
    y_px: _Place
    x_px: _Place
    diameter_px: Positive
    label: str | None = None


@dataclass(frozen=True)
class PackImage:
    """An image of a pack."""

    name: Name
    sha256: str
    png_sha256: str
    height_px: _Size
    width_px: _Size
    pixel_size_nm: Annotated[float, Interval(ge=1e-4, le=1e4)]
    # low, high: grey values that are first shown black and white
    low: float
    high: float
    # positions (y, x) in pixels: proposals of a model, or the known atoms of an example
    points: tuple[tuple[_Place, _Place], ...] = ()
    clusters: tuple[PackCluster, ...] = ()


@dataclass(frozen=True)
class PackItem:
    """What a person is asked: an image, or one of its clusters."""

    image: Annotated[int, Interval(ge=0)]
    cluster: Annotated[int, Interval(ge=0)] | None = None
    repeat: bool = False  # asked a second time


@dataclass(frozen=True)
class Manifest:
    """Everything of a pack but its pixels."""

    format: int
    version: str
    title: str
    instructions: str
    task: Task
    classes: tuple[Name, ...]
    blind: bool
    tolerance_nm: Annotated[Positive, Interval(le=1e3)]
    images: tuple[PackImage, ...]
    items: tuple[PackItem, ...]
    examples: tuple[PackImage, ...] = ()
    annotator: str | None = None
    # part, parts: of the images, if they are in several files
    part: int = 1
    parts: int = 1

    @property
    def sha256(self) -> str:
        """Hash of the values, however the JSON is written."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, eq=False)
class PackRequest:
    """What goes into packs for a browser."""

    options: PackOptions = field(default_factory=PackOptions)
    instructions: str = ""  # "" for those of the task
    annotator: str | None = None
    tolerance_nm: float = TOLERANCE_NM
    pixel_size_nm: float | Mapping[Path, float] | None = None
    proposals: pd.DataFrame | None = None  # atoms to start from: ``image, y_px, x_px``
    clusters: pd.DataFrame | None = None  # cluster table, if clusters are to be labelled
    classes: tuple[str, ...] = ()  # of clusters; () for those of the table


@dataclass(frozen=True, eq=False)
class BrowserPack:
    """A pack in memory: its manifest, and the PNG files of images and examples."""

    manifest: Manifest
    images: Sequence[bytes]
    examples: Sequence[bytes] = field(default=())

    def to_html(self, send: bool = False) -> str:
        """Return the page; ``send`` shows a button that sends answers to where it comes from."""
        program, style = _program(), _asset("style.css")
        policy = (
            f"default-src 'none'; script-src '{_csp_hash(program)}'; style-src "
            f"'{_csp_hash(style)}'; connect-src {_SELF if send else _NONE}; img-src data:; "
            f"base-uri 'none'; form-action 'none'"
        )
        pack = {"hash": self.manifest.sha256, "send": send, "manifest": asdict(self.manifest)}
        named = [*_named("image", self.images), *_named("example", self.examples)]
        parts = {
            "policy": policy,
            "style": style,
            "program": program,
            # "<" could end the element; JSON needs it nowhere but in text.
            "pack": json.dumps(pack, allow_nan=False).replace("<", "\\u003c"),
            "images": "\n".join(
                f'<script type="text/plain" id="{name}">{base64.b64encode(png).decode()}</script>'
                for name, png in named
            ),
        }
        return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))

    @property
    def size_mb(self) -> float:
        """Size of the page in MB."""
        n_bytes = sum(map(_encoded_size, (*self.images, *self.examples)))
        return (n_bytes + len(json.dumps(asdict(self.manifest))) + len(_program()) + 20_000) / 1e6


_SELF, _NONE = "'self'", "'none'"


def _named(kind: str, pngs: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [(f"{kind}-{i}", png) for i, png in enumerate(pngs)]


def _encoded_size(png: bytes) -> int:
    return 4 * len(png) // 3 + 60


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _asset(name: str) -> str:
    """Return a file of the page."""
    return (resources.files("napari_atomicity") / "data" / "annotate" / name).read_text("utf-8")


@cache
def _program() -> str:
    """Return the modules of the page as one program: imports come first, names are unique."""
    modules = ("png.js", "snap.js", "log.js", "answers.js", "view.js", "main.js")
    text = "\n".join(map(_asset, modules))
    text = re.sub(r"^import .*;\n", "", text, flags=re.M)
    return f'"use strict";\n{re.sub(r"^export ", "", text, flags=re.M)}'


# ---- from images to packs
def make_browser_packs(
    paths: Iterable[str | Path],
    request: PackRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[BrowserPack]:
    """Make packs in memory, as many as the largest size of a file asks for.

    Raises `AtomicityError` if an image is not suitable, or alone too large.
    """
    files = find_images(paths)
    names = [valid_text(name) for name in unique_names(files)]
    check_proposals(request.proposals, names)
    images, pngs = [], []
    for i, (file, name) in enumerate(zip(files, names, strict=True)):
        check(stop)
        report(progress, i, len(files), f"Packing {name}")
        image, png = _encode(file, name, request)
        image = _with_answers(image, request.proposals, request.clusters)
        if request.clusters is None or image.clusters:
            images.append(image)
            pngs.append(png)
    if not images:
        raise TableError("no cluster of the table is in these images")
    base = _manifest(request, images)
    options = request.options
    examples = _examples(base, options) if options.examples else []
    packs = []
    for part in _split(pngs, examples, options.max_mb, [image.name for image in images]):
        chosen = tuple(images[i] for i in part)
        items = _items(chosen, base.task, options)
        manifest = replace(base, images=chosen, items=items, examples=tuple(e[0] for e in examples))
        packs.append(BrowserPack(manifest, [pngs[i] for i in part], [e[1] for e in examples]))
    return [
        replace(pack, manifest=replace(pack.manifest, part=i, parts=len(packs)))
        for i, pack in enumerate(packs, 1)
    ]


def describe_packs(packs: Sequence[BrowserPack]) -> str:
    """Return how many images there are, and how large the files are."""
    n_images = sum(len(one.manifest.images) for one in packs)
    n_items = sum(len(one.manifest.items) for one in packs)
    again = sum(item.repeat for one in packs for item in one.manifest.items)
    asked = f", {n_items - again} clusters" if packs[0].manifest.task == "clusters" else ""
    size = sum(one.size_mb for one in packs)
    files = f" in {len(packs)} files" if len(packs) > 1 else ""
    return f"{pluralise(n_images, 'image')}{asked}, {again} asked twice; {size:.1f} MB{files}"


def pages_of(packs: Sequence[BrowserPack], path: Path) -> list[Path]:
    """Return ``path``, or ``NAME-1.html`` and so on if there are several packs."""
    if len(packs) == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, len(packs) + 1)]


def write_browser_packs(packs: Sequence[BrowserPack], path: Path) -> list[Path]:
    """Write the pages; see `pages_of` for their names."""
    pages = pages_of(packs, path)
    return [write_text(page, pack.to_html()) for page, pack in zip(pages, packs, strict=True)]


def has_pack(page: Path) -> bool:
    """Return whether a page is a pack, be it damaged, unlike another page such as a report."""
    with suppress(OSError):
        return _PACK.encode() in read_document(page, _MAX_PAGE_BYTES)
    return False


def read_manifest(page: str) -> Manifest:
    """Return the manifest of a page; raises `ValueError` if it is none."""
    found = re.search(f"{_PACK}(.*?)</script>", page, re.S)
    if found is None:
        raise ValueError("it is not a pack for a browser")
    return dataclass_from_json(_Pack, found[1]).manifest


@dataclass(frozen=True)
class _Pack:
    manifest: Manifest


def _encode(file: Path, name: str, request: PackRequest) -> tuple[PackImage, bytes]:
    sizes = request.pixel_size_nm
    micrograph = load(file, sizes.get(file) if isinstance(sizes, Mapping) else sizes, name=name)
    if micrograph.n_frames > 1:
        raise UnsuitableImageError(
            f"it has {micrograph.n_frames} frames", file, "Save the frame to be marked by itself"
        )
    pixel_size = micrograph.calibrated()
    pixels = next(micrograph.frames())
    image, png = _encode_pixels(pixels, name, pixel_size, request.options)
    return replace(image, sha256=micrograph.sha256 or ""), png


def _encode_pixels(
    pixels: np.ndarray, name: str, pixel_size_nm: float, options: PackOptions
) -> tuple[PackImage, bytes]:
    """Encode an image as PNG; its record has no hash of a file."""
    import imagecodecs

    low, high = options.black, options.white
    if options.bits == "8":
        grey = (255 * stretch(pixels, low, high)).astype(np.uint8)
        shown = (0.0, 255.0)
    else:
        grey = (65535 * stretch(pixels, 0, 100)).astype(np.uint16)
        black, white = np.percentile(grey, [low, high])
        shown = float(black), float(white)
    png = bytes(imagecodecs.png_encode(grey))
    height, width = grey.shape
    digest = hashlib.sha256(png).hexdigest()
    return PackImage(name, "", digest, height, width, float(pixel_size_nm), *shown), png


def _with_answers(
    image: PackImage, proposals: pd.DataFrame | None, clusters: pd.DataFrame | None
) -> PackImage:
    """Add the proposed atoms and the clusters of an image."""
    points: tuple[tuple[float, float], ...] = ()
    found: tuple[PackCluster, ...] = ()
    if proposals is not None:
        places = proposals_of(proposals, image.name, (image.height_px, image.width_px))
        points = tuple((y, x) for y, x in places.tolist())
    if clusters is not None:
        columns = ["cluster_id", "y_px", "x_px", "diameter_nm"]
        here = clusters.loc[clusters["image"] == image.name, columns]
        found = tuple(
            PackCluster(int(i), y, x, max(d, 0.1) / image.pixel_size_nm)
            # Of a cluster that was added where none can be measured, the place is shown.
            for i, y, x, d in here.fillna({"diameter_nm": 1.0}).to_numpy(float).tolist()
        )
    return replace(image, points=points, clusters=found)


def _manifest(request: PackRequest, images: Sequence[PackImage]) -> Manifest:
    """Return a manifest without items and examples."""
    clusters = request.clusters
    task: Task = "atoms" if clusters is None else "clusters"
    classes = request.classes or (() if clusters is None else classes_of(clusters))
    classes = tuple(name for name in classes if name != NOT_A_CLUSTER)
    if task == "clusters" and not classes:
        raise AtomicityError("the classes are not known", advice="Name them (--classes)")
    return Manifest(
        FORMAT,
        __version__,
        request.options.title.strip() or TITLES[task],
        request.instructions.strip() or INSTRUCTIONS[task],
        task,
        classes,
        request.proposals is None or task == "clusters",
        request.tolerance_nm,
        tuple(images),
        (),
        annotator=request.annotator,
    )


def classes_of(clusters: pd.DataFrame) -> tuple[str, ...]:
    """Return the classes of a cluster table: of its probabilities, else of its labels."""
    named = [name.removeprefix("p_") for name in clusters.columns if name.startswith("p_")]
    labels = set(clusters["label"].dropna().astype(str)) if "label" in clusters else set()
    return tuple(named or sorted(labels - {""}))


def _split(
    pngs: Sequence[bytes], examples: Sequence[tuple[PackImage, bytes]], max_mb: float, names: list
) -> list[list[int]]:
    """Distribute images over as few files as possible, each as large as the others."""
    fixed = sum(_encoded_size(png) for _, png in examples) + 150_000
    room = max_mb * 1e6 - fixed
    sizes = [_encoded_size(png) + 2000 for png in pngs]
    if max(sizes) > room:
        name = names[int(np.argmax(sizes))]
        raise AtomicityError(
            f"{name} alone needs {(max(sizes) + fixed) / 1e6:.0f} MB, more than {max_mb:g} MB",
            advice="Allow larger files (--max-mb), or cut the image",
        )
    n_parts = int(np.ceil(sum(sizes) / room))
    while True:
        limit = max(sum(sizes) / n_parts, max(sizes)) * 1.02
        parts: list[list[int]] = [[]]
        for i, size in enumerate(sizes):
            if parts[-1] and sum(sizes[j] for j in parts[-1]) + size > min(limit, room):
                parts.append([])
            parts[-1].append(i)
        if len(parts) <= n_parts:
            return parts
        n_parts += 1


def _items(images: Sequence[PackImage], task: Task, options: PackOptions) -> tuple[PackItem, ...]:
    """Return what is asked, with the repeated ones, drawn at random, at the end."""
    once = [
        PackItem(i, j)
        for i, image in enumerate(images)
        for j in ([None] if task == "atoms" else range(len(image.clusters)))
    ]
    n = int(options.repeats * len(once) + 0.5)
    rng = np.random.default_rng(options.seed)
    again = sorted(rng.choice(len(once), min(n, len(once)), replace=False).tolist())
    return (*once, *(replace(once[i], repeat=True) for i in again))


# ---- worked examples
def _examples(manifest: Manifest, options: PackOptions) -> list[tuple[PackImage, bytes]]:
    """Simulate images with known answers, with the pixel size of the pack."""
    pixel_nm = float(np.median([image.pixel_size_nm for image in manifest.images]))
    size = int(np.clip(_EXAMPLE_NM / pixel_nm, 128, 512))
    make = _atom_example if manifest.task == "atoms" else _cluster_example
    found = (make(manifest, size, pixel_nm, options, seed) for seed in range(_EXAMPLES))
    return [example for example in found if example is not None]


def _atom_example(
    manifest: Manifest, size: int, pixel_nm: float, options: PackOptions, seed: int
) -> tuple[PackImage, bytes]:
    from ...simulation.atom_fields import AtomFieldSettings, simulate_atoms

    # So many atoms that one tells a good eye; the second image is noisier than the first.
    density = float(np.clip(20 / (size * pixel_nm) ** 2, 0.02, 0.4))
    settings = AtomFieldSettings(
        (size, size), pixel_nm, "inhibited", density, apart_nm=0.7, contrast=(0.5, 0.35)[seed],
        atom_scatter=0.2, atom_fwhm_nm=max(0.21, 2 * pixel_nm),
    )  # fmt: skip
    field_ = simulate_atoms(settings, 40 + seed)
    name = f"example {seed + 1}"
    image, png = _encode_pixels(field_.micrograph.data, name, pixel_nm, options)
    places = field_.truth[["y_px", "x_px"]].to_numpy(float)
    inside = ((places >= 0) & (places <= size - 1)).all(axis=1)
    points = tuple((round(y, 2) + 0.0, round(x, 2) + 0.0) for y, x in places[inside].tolist())
    return replace(image, points=points), png


def _cluster_example(
    manifest: Manifest, size: int, pixel_nm: float, options: PackOptions, seed: int
) -> tuple[PackImage, bytes] | None:
    """Simulate clusters of the classes; None unless all classes are counted platinum atoms."""
    from ...simulation.example_data import lattice_pieces
    from ...simulation.field_settings import FieldSettings
    from ...simulation.fields import simulate_field

    counts = [re.fullmatch(r"Pt(\d{1,3})", name) for name in manifest.classes]
    sizes = [int(found[1]) for found in counts if found is not None]
    if len(sizes) < len(counts) or not all(2 <= n <= 400 for n in sizes):
        return None
    size = int(np.clip(16.0 / pixel_nm, 256, 640))
    mixture = {f"Pt{n}": 1 / len(sizes) for n in sizes}
    settings = FieldSettings(
        (size, size), pixel_nm, 5 / (size * pixel_nm) ** 2, mixture, touching=0.0
    )
    made = simulate_field(lattice_pieces(sizes, 3), settings, 70 + seed)
    image, png = _encode_pixels(made.micrograph.data, f"example {seed + 1}", pixel_nm, options)
    rows = made.truth[["cluster_id", "y_px", "x_px", "diameter_nm", "label"]]
    inside = rows["y_px"].between(0, size - 1) & rows["x_px"].between(0, size - 1)
    clusters = tuple(
        PackCluster(int(i), float(y), float(x), max(float(d), 0.3) / pixel_nm, str(label))
        for i, y, x, d, label in rows[inside].head(6).itertuples(index=False, name=None)
    )
    return (replace(image, clusters=clusters), png) if clusters else None
