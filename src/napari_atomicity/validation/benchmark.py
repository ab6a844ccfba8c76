"""A public benchmark: the sessions of `docs/explanation/accuracy.md`, written from seeds."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .._version import __version__
from ..core.errors import ReadError, SettingError
from ..core.micrograph import Micrograph
from ..core.processes import spawn_pool
from ..core.progress import Progress, Stop, check, checked, report
from ..io.files import plain, read_document, regular_file, write_json, write_text
from ..io.inputs import make_folder
from ..io.tables import read_table, write_table
from ..simulation.fields import Field
from ..simulation.recipes import write_pixels
from ..simulation.sessions import KINDS, OTHER_SIZES, SessionImage, draw_session, simulate_session
from ..simulation.structures import Isomer, isomer_library
from ..statistics.scores import atoms_of
from .data import IMAGES, TRUTH
from .request import BENCHMARK_SEED, BenchmarkSettings, ExistingResultsError

# ---- images of the benchmark: simulated sessions, also cropped, in 8 bits, and with lone atoms

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
"""Classes of the sessions; those of "other sizes" have `simulation.sessions.OTHER_SIZES`."""
N_IMAGES = 8
"""Images of a session, before it is cropped."""
WHOLE, EIGHT_BITS, CROPS, LONE_ATOMS = "whole", "8 bits", "crops", "lone atoms"
VARIED = ("mixture", "one size per image")
"""Kinds of sessions of which there are all forms."""
FORMS_OF = {
    **dict.fromkeys(VARIED, (WHOLE, EIGHT_BITS, CROPS, LONE_ATOMS)),
    "one size": (WHOLE, LONE_ATOMS),
}
"""Kind of sessions → its forms; the other kinds are only whole."""
CROP_PX = 256
CROPS_PER_IMAGE = 2
CLIPPED_PERCENT = 0.35
LONE_ATOMS_PER_NM2 = 0.1


@dataclass(frozen=True, eq=False)
class BenchmarkImage:
    """An image of a session with its truth."""

    micrograph: Micrograph
    truth: pd.DataFrame  # columns ``x_px, y_px, diameter_nm, label, n_atoms, border``
    kind: str
    sample: str
    composition: dict[str, float]  # nominal fractions of the sample


def session_name(kind: str, seed: int, form: str) -> str:
    """Return the name of a session, which is that of its folder and begins those of its images."""
    return f"{kind}_{seed}_{form}".replace(" ", "_")


def simulate_form(
    library: Sequence[Isomer], kind: str, seed: int, form: str
) -> Iterator[BenchmarkImage]:
    """Simulate a session in one form, image by image."""
    plan = draw_session(kind, CLASSES, N_IMAGES, seed)
    if form == LONE_ATOMS:
        plan = [
            replace(one, settings=replace(one.settings, lone_atoms_per_nm2=LONE_ATOMS_PER_NM2))
            for one in plan
        ]
    crop_rng = np.random.default_rng([BENCHMARK_SEED, seed])
    for i, (planned, field) in enumerate(zip(plan, simulate_session(library, plan), strict=True)):
        name = f"{session_name(kind, seed, form)}_{i + 1:02d}.tif"
        image = _image_of(planned, field, kind, name)
        if form == EIGHT_BITS:
            yield to_8_bit(image)
        elif form == CROPS:
            yield from crop_clusters(image, crop_rng)
        else:
            yield image


def _image_of(planned: SessionImage, field: Field, kind: str, name: str) -> BenchmarkImage:
    renamed = {"touches_border": "border", "touches_neighbour": "touching", "kind": "structure"}
    truth = field.truth.rename(columns=renamed)
    micrograph = replace(field.micrograph, name=name)
    return BenchmarkImage(micrograph, truth, kind, planned.sample, planned.settings.mixture)


def to_8_bit(image: BenchmarkImage) -> BenchmarkImage:
    """Return the image in 8 bits, 0.35 % of its pixels clipped at both ends."""
    data = image.micrograph.data
    low, high = np.percentile(data, [CLIPPED_PERCENT, 100 - CLIPPED_PERCENT])
    pixels = np.clip(np.round((data - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    micrograph = Micrograph(pixels, image.micrograph.pixel_size_nm, name=image.micrograph.name)
    return replace(image, micrograph=micrograph)


def crop_clusters(image: BenchmarkImage, rng: np.random.Generator) -> list[BenchmarkImage]:
    """Crop the image around whole clusters, as one would record them at high magnification."""
    data, pixel = image.micrograph.data, image.micrograph.calibrated()
    truth = image.truth
    whole = truth[~truth["border"]]
    if min(data.shape) <= CROP_PX or len(whole) == 0:
        return []
    chosen = whole.iloc[rng.permutation(len(whole))[:CROPS_PER_IMAGE]]
    out = []
    for k, (y, x) in enumerate(chosen[["y_px", "x_px"]].to_numpy(float)):
        centre = np.array([y, x]) + rng.uniform(-CROP_PX / 4, CROP_PX / 4, 2)
        corner = np.clip(centre - CROP_PX / 2, 0, np.array(data.shape) - CROP_PX).astype(int)
        place = truth[["y_px", "x_px"]].to_numpy() - corner
        radius = truth["diameter_nm"].to_numpy(float) / pixel / 2
        inside = np.minimum(place, CROP_PX - 1 - place).min(axis=1)
        own = truth.assign(
            y_px=place[:, 0], x_px=place[:, 1], border=truth["border"] | (inside < radius)
        )
        pixels = data[corner[0] : corner[0] + CROP_PX, corner[1] : corner[1] + CROP_PX]
        stem, _, suffix = image.micrograph.name.rpartition(".")
        micrograph = Micrograph(pixels.copy(), pixel, name=f"{stem}_crop{k}.{suffix}")
        out.append(replace(image, micrograph=micrograph, truth=own[inside > -radius]))
    return out


# ---- description that is written into the folder of a benchmark

_TEXT = """# Benchmark of cluster atomicity in HAADF-STEM images

Simulated images of platinum clusters with known numbers of atoms on amorphous carbon, in sessions \
of images that are recorded alike. The task: find the clusters and give each a class ({classes}).

Written by `atomicity benchmark` of napari-atomicity {version}, seed {seed}, rounds {rounds}, \
{n_images} images. SHA-256 of the data: `{sha256}`.

## Licence

BSD 3-Clause, as the program that writes it. Please state the SHA-256 and the version when you \
publish scores, and cite napari-atomicity (CITATION.cff in its repository).

## Files

| file | content |
|---|---|
| `images/SESSION/*.tif` | grey images (TIFF, uncompressed) with the pixel size in nm (ImageJ); \
intensities in counts, 16 bit, or 8 bit in the sessions of that form |
| `images.csv` | a row for each image |
| `truth.csv` | a row for each true cluster |
| `manifest.json` | SHA-256 of each file, settings, versions |

`images.csv`: `image`; `file`, its path; `session`; `kind` and `form` of the session; `sample`; \
`px_nm`, the pixel size in nm; `n_clusters`; `nominal_Pt19` ..., the nominal fractions of the \
sample, from which the drawn clusters differ.

`truth.csv`: `image`; `x_px` and `y_px`, column and row of the centre, where the centre of the \
top-left pixel is 0, 0; `label`, such as `Pt19`, or `aggregate` for two overlapping clusters; \
`n_atoms`; `diameter_nm`, in projection; `border`, 1 if the border of the image cuts the cluster; \
`touching`, 1 if it touches a neighbour; `structure` before relaxation.

## Sessions

Each session has {sessions} images before it is cropped. Its conditions are drawn once. Between \
its images, gain, dose, focus and support differ a little.

{kinds}

The forms are `whole`; `8 bits`: {clipped} % of the pixels clipped at both ends; `crops`: {crops} \
crops of {crop} pixels around clusters of each image; `lone atoms`: simulated again with {lone} \
single atoms per nm² between the clusters. The classes {other} are in `other sizes` only.

## Rules

Do not train, calibrate or choose settings on these images. `truth.csv`, the samples and the \
nominal fractions are for scoring only. Pixel sizes, and which images form a session, may be used.

## Score

```
pip install napari-atomicity
atomicity benchmark --score predictions.csv --data FOLDER
```

`predictions.csv` has a row for each found cluster: `image`, `x_px`, `y_px`, `label` (a class, \
`unknown` or `aggregate`), and optionally the probabilities `p_Pt19` ... of the classes, and \
`n_atoms`, a number of atoms. A predicted cluster matches a true one within half of its diameter, \
at least 0.35 nm, one to one. Clusters that the border cuts are not scored.
"""


def readme(seed: int, rounds: int, n_images: int, sha256: str) -> str:
    """Return the description of a benchmark as Markdown."""
    return _TEXT.format(
        classes=", ".join(CLASSES),
        other=" and ".join(OTHER_SIZES),
        version=__version__,
        seed=seed,
        rounds=rounds,
        n_images=n_images,
        sha256=sha256,
        sessions=N_IMAGES,
        kinds="\n".join(f"- `{kind}`: {samples}" for kind, samples in KINDS.items()),
        clipped=CLIPPED_PERCENT,
        crops=CROPS_PER_IMAGE,
        crop=CROP_PX,
        lone=LONE_ATOMS_PER_NM2,
    )


MANIFEST, README, FOLDER = "manifest.json", "README.md", "images"
ISOMERS_PER_CLASS = 40
LABELS = (*CLASSES, *OTHER_SIZES)
"""Labels of true clusters that are not aggregates."""
PACKAGES = ("numpy", "scipy", "ase")
"""Packages whose version may change pixels."""
TRUTH_COLUMNS = (
    "image", "x_px", "y_px", "label", "n_atoms", "diameter_nm", "border", "touching", "structure",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Written:
    """Rows of the tables, and path → SHA-256, of the images of a session."""

    images: pd.DataFrame
    truth: pd.DataFrame
    files: dict[str, str]


# ---- writing
def write_benchmark(
    folder: Path,
    settings: BenchmarkSettings | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Write a benchmark, or check its files if the folder has it.

    After an interruption the same call begins again.

    Parameters
    ----------
    folder : Path
        The folder.
    settings : BenchmarkSettings, optional
        Default: the published benchmark.
    workers : int, optional
        Number of processes; the files are the same for any number.
    overwrite : bool, optional
        Whether another or a damaged benchmark is replaced.
    progress, stop : callable, optional
        Called between isomers and sessions.

    Returns
    -------
    dict of str to Any
        Content of ``manifest.json``.

    Raises
    ------
    SettingError
        If a kind is unknown.
    ExistingResultsError
        If the folder has anything but this benchmark.
    ReadError
        If files of this benchmark are missing or have changed.
    DependencyError
        If ASE is not installed.
    """
    settings = _with_kinds(settings or BenchmarkSettings())
    if (folder / MANIFEST).is_file() and not overwrite:
        found = read_manifest(folder)
        if found["settings"] != plain(asdict(settings)):
            raise ExistingResultsError(folder)
        if found["files"]:
            check_files(folder, found["files"], progress, stop)
            return found
    elif folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise ExistingResultsError(folder)
        _remove(folder)
    make_folder(folder)
    _write_manifest(folder, settings, {})
    return _write(folder, settings, workers, progress, stop)


def _with_kinds(settings: BenchmarkSettings) -> BenchmarkSettings:
    """Return the settings with the names of all kinds if none is given."""
    unknown = [kind for kind in settings.kinds if kind not in KINDS]
    if unknown:
        raise SettingError(
            f"there are no sessions of the kind {unknown[0]!r}",
            ["kinds"],
            f"The kinds are {', '.join(KINDS)}",
        )
    return replace(settings, kinds=settings.kinds or tuple(KINDS))


def sessions_of(settings: BenchmarkSettings) -> list[tuple[str, int, str]]:
    """Return kind, seed and form of each session."""
    return [
        (kind, settings.seed + number, form)
        for kind in settings.kinds
        for number in range(settings.rounds)
        for form in FORMS_OF.get(kind, (WHOLE,))
    ]


def _remove(folder: Path) -> None:
    """Remove the images of an earlier benchmark, and its manifest first."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in sorted((folder / FOLDER).glob("*/*.tif")):
        path.unlink()


def _write(
    folder: Path,
    settings: BenchmarkSettings,
    workers: int,
    progress: Progress | None,
    stop: Stop | None,
) -> dict[str, Any]:
    check_and_report = checked(progress, stop)
    sizes = [atoms_of(label) or 0 for label in LABELS]
    library = isomer_library(
        "Pt", sizes, ISOMERS_PER_CLASS, settings.seed, workers, check_and_report
    )
    sessions = sessions_of(settings)
    found = []
    with closing(_write_sessions(folder, library, sessions, workers)) as written:
        for i, one in enumerate(written):
            found.append(one)
            check_and_report(i + 1, len(sessions), "Writing sessions")
    files = dict(chain.from_iterable(one.files.items() for one in found))
    for name, tables in ((IMAGES, [o.images for o in found]), (TRUTH, [o.truth for o in found])):
        write_table(pd.concat(tables, ignore_index=True), folder / name)
        files[name] = hash_file(folder / name)
    text = readme(settings.seed, settings.rounds, len(files) - 2, hash_files(files))
    write_text(folder / README, text)
    return _write_manifest(folder, settings, files)


def _write_sessions(
    folder: Path,
    library: Sequence[Isomer],
    sessions: Sequence[tuple[str, int, str]],
    workers: int,
) -> Generator[_Written, None, None]:
    """Write sessions in order; those that have not begun are left out when this is closed."""
    arguments = list(zip(*((folder, library, *one) for one in sessions), strict=True))
    if workers == 1:
        yield from map(write_session, *arguments)
        return
    with spawn_pool(workers) as pool:
        try:
            yield from pool.map(write_session, *arguments)
        finally:
            pool.shutdown(cancel_futures=True)


def _write_manifest(
    folder: Path, settings: BenchmarkSettings, files: dict[str, str]
) -> dict[str, Any]:
    """Write and return the manifest; it has no files until all are written."""
    manifest = {
        "program": "napari-atomicity",
        "version": __version__,
        "sha256": hash_files(files),
        "settings": asdict(settings),
        "environment": environment(),
        "files": files,
    }
    write_json(folder / MANIFEST, manifest)
    return dict(plain(manifest))


def write_session(
    folder: Path, library: Sequence[Isomer], kind: str, seed: int, form: str
) -> _Written:
    """Simulate and write the images of a session."""
    images = simulate_form(library, kind, seed, form)
    return write_images(folder, session_name(kind, seed, form), form, images)


def write_images(
    folder: Path, session: str, form: str, images: Iterable[BenchmarkImage]
) -> _Written:
    """Write the images of a session."""
    (folder / FOLDER / session).mkdir(parents=True, exist_ok=True)
    rows, truths, files = [], [], {}
    for image in images:
        file = f"{FOLDER}/{session}/{image.micrograph.name}"
        pixel = round(image.micrograph.calibrated(), 8)  # as in the table
        pixels = image.micrograph.data.astype(np.uint8 if form == EIGHT_BITS else np.uint16)
        write_pixels(folder / file, pixels, pixel)
        files[file] = hash_file(folder / file)
        truths.append(_truth(image))
        nominal = {f"nominal_{c}": round(image.composition.get(c, 0.0), 6) for c in LABELS}
        about = {
            "image": image.micrograph.name, "file": file, "session": session, "kind": image.kind,
            "form": form, "sample": image.sample, "px_nm": pixel, "n_clusters": len(image.truth),
        }  # fmt: skip
        rows.append({**about, **nominal})
    truth = pd.concat(truths, ignore_index=True) if truths else pd.DataFrame()
    return _Written(pd.DataFrame(rows), truth, files)


def _truth(image: BenchmarkImage) -> pd.DataFrame:
    """Return the truth of an image, rounded so that it does not depend on the processor."""
    truth = image.truth.assign(image=image.micrograph.name)[list(TRUTH_COLUMNS)]
    flags = {name: truth[name].astype(int) for name in ("border", "touching")}
    n_atoms = truth["n_atoms"].astype(int)
    return truth.assign(**flags, n_atoms=n_atoms).round({"x_px": 3, "y_px": 3, "diameter_nm": 4})


def environment() -> dict[str, str]:
    """Return the versions on which the last bits of a simulation may depend."""
    packages = {name: version(name) for name in PACKAGES}
    return {**packages, "python": platform.python_version(), "machine": platform.machine()}


# ---- hashes
def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(files: dict[str, str]) -> str:
    """Return the SHA-256 of the lines "SHA-256, two spaces, path", sorted by path."""
    lines = (f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a benchmark.

    Raises `ReadError` if there is none, or it is damaged.
    """
    path = folder / MANIFEST
    advice = "Write the benchmark with atomicity benchmark --out FOLDER"
    try:
        manifest = json.loads(read_document(path))
        if manifest["sha256"] != hash_files(manifest["files"]) or not manifest["settings"]:
            raise ValueError("its hashes do not fit together")
    except OSError as error:
        raise ReadError("there is no benchmark in this folder", folder, advice) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f"this is not the manifest of a benchmark ({error})", path) from error
    return dict(manifest)


def check_files(
    folder: Path,
    files: dict[str, str],  # path → SHA-256
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> None:
    """Check that files have their SHA-256.

    Raises `ReadError` if some are missing or have changed.
    """
    wrong = []
    for i, (name, expected) in enumerate(files.items()):
        check(stop)
        report(progress, i, len(files), "Checking files")
        path = folder / name
        if not path.is_file() or hash_file(path) != expected:
            wrong.append(name)
    if wrong:
        raise ReadError(
            f"{len(wrong)} files of the benchmark are missing or have changed, such as {wrong[0]}",
            folder,
            "Write it again with --overwrite",
        )


# ---- reading
def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the tables of images and of true clusters after checking them.

    Raises `ReadError` if a table is missing or has changed.
    """
    files = read_manifest(folder)["files"]
    if not files:
        advice = "Continue with the command that wrote it"
        raise ReadError("the benchmark in this folder is not complete", folder, advice)
    check_files(folder, {name: files[name] for name in (IMAGES, TRUTH)})
    images, truth = read_table(folder / IMAGES), read_table(folder / TRUTH)
    return images, truth.astype({"border": bool, "touching": bool})


def read_session(
    folder: Path, tables: tuple[pd.DataFrame, pd.DataFrame], session: str
) -> Iterator[BenchmarkImage]:
    """Read the images of a session."""
    from ..io.images import load

    images, truth = tables
    for row in images[images["session"] == session].to_dict("records"):
        shares = {label: row[f"nominal_{label}"] for label in LABELS}
        yield BenchmarkImage(
            load(folder / row["file"], row["px_nm"]),
            truth[truth["image"] == row["image"]].reset_index(drop=True),
            row["kind"],
            row["sample"],
            {label: share for label, share in shares.items() if share > 0},
        )
