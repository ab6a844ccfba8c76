"""Small files under the names that the documentation uses, and quick substitutes for slow steps."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from microscope_files import save_dm
from napari_atomicity import Project, analyse, load
from napari_atomicity.atoms.table import conform as conform_atoms
from napari_atomicity.core.tables.cluster_table import settle_labels
from napari_atomicity.detection import detect
from napari_atomicity.io.outline_files import write_outlines
from napari_atomicity.io.tables import read_clusters, write_clusters
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs.batch import run_batch
from napari_atomicity.project import EditKind, ImageEdit
from napari_atomicity.project.packs.annotation_packs import export_pack
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.metals import composition
from napari_atomicity.simulation.recipes import draw_recipe, write_recipe
from napari_atomicity.simulation.structures import Isomer
from napari_atomicity.training.prepared_sets import from_simulation
from napari_atomicity.validation.benchmark import write_benchmark
from napari_atomicity.validation.request import BenchmarkSettings
from pipeline.test_comparison import write_atoms as write_atom_results, write_results
from support import lattice_isomer

SIZE_PX, PX_NM = 360, 0.04
CALIBRATION = {"resolution": (1 / PX_NM, 1 / PX_NM), "metadata": {"unit": "nm"}}
MIXTURE = {"Pt19": 0.4, "Pt55": 0.6}
MAX_ISOMERS = 10
"""The fewest that a training accepts."""
ATOMS = [(20, 20), (20, 70), (60, 40), (70, 90), (100, 60)]
ATOM_IMAGE = "021_HAADF_15nm_Sample_PtNC_21Oct20.tif"
RESULTS = ("results", "live")
"""Folders that a page reads in some commands and writes in others."""


# ---- substitutes for slow steps
def quick_library(classes, per_class=2, seed=0, *_, **__) -> list[Isomer]:
    """Pieces of a lattice instead of relaxed structures."""
    library = []
    for name in classes:
        parts = composition(name)
        symbols = np.repeat(list(parts), list(parts.values()))
        for number in range(min(per_class, MAX_ISOMERS)):
            piece = lattice_isomer(len(symbols), seed + number)
            mixed = symbols if len(parts) > 1 else None
            library.append(replace(piece, element="".join(parts), symbols=mixed))
    return library


def quick_platinum(path, sizes, per_size, seed=0, *_, **__) -> list[Isomer]:
    """As `quick_library`, by the sizes of platinum clusters."""
    return quick_isomers("Pt", sizes, per_size, seed)


def quick_isomers(element, sizes, per_size, seed=0, *_, **__) -> list[Isomer]:
    """As `quick_library`, by the sizes of clusters of a metal."""
    return quick_library([f"{element}{n}" for n in sizes], per_size, seed)


def quick_fields(library, classes, n_fields, seed, settings, workers, progress, stop, draw):
    """Few and small fields for a training."""

    def small(names, rng):
        drawn = draw(names, rng)
        return replace(drawn, shape_px=(400, 400), pixel_size_nm=0.05, clusters_per_nm2=0.08)

    return from_simulation(library, classes, min(n_fields, 3), seed, settings, draw=small)


# ---- images
def _pixels(mixture, seed: int) -> np.ndarray:
    settings = FieldSettings(
        shape_px=(SIZE_PX, SIZE_PX), clusters_per_nm2=0.08, pixel_size_nm=PX_NM, mixture=mixture
    )
    field = simulate_field(quick_library(mixture), settings, seed)
    return field.micrograph.data.astype(np.uint16)


def write_field(path: Path, seed: int = 0, mixture=None) -> Path:
    """A calibrated image of clusters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, _pixels(mixture or MIXTURE, seed), imagej=True, **CALIBRATION)
    return path


def write_atoms(path: Path, seed: int = 0) -> Path:
    """A small image of single atoms."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:120, :120]
    pixels = np.random.default_rng(seed).normal(1000, 20, y.shape)
    for cy, cx in ATOMS:
        pixels += 500 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 5)
    tifffile.imwrite(path, pixels.astype(np.uint16), imagej=True, **CALIBRATION)
    return path


def _write_outlines(image: Path, path: Path) -> None:
    """The outlines of the first clusters of an image."""
    path.parent.mkdir(exist_ok=True)
    found = detect(load(image))
    table = found.table.head(5).assign(label="")
    write_outlines(path, table, found.outlines[:5], (SIZE_PX, SIZE_PX), PX_NM)


# ---- everything else
def _write_project(path: Path, image: Path) -> None:
    analysed = analyse(image, device="cpu", umap=False)
    own = {name: getattr(analysed, name) for name in Analysis.__dataclass_fields__}
    with Project(path) as project:
        project.add_paths([image])
        project.image_files.update_metadata(analysed.micrograph)
        project.record(ImageEdit(image.name, EditKind.ANALYSIS, "Ada"), None, Analysis(**own))
        project.flush()


def _write_atom_tables(root: Path) -> None:
    """Images of atoms with marks of three people, of a model, and the truth."""
    images = [write_atoms(root / "morning" / f"{n}.tif", seed) for seed, n in enumerate("ab")]
    with Project(root / "morning" / "morning.atomicity") as project:
        project.add_paths(images)
        for image in images:
            project.image_files.update_metadata(load(image))
    rows = "\n".join(f"{x},{y}," for y, x in ATOMS)
    for who in ("anna", "ben", "cleo"):
        export_pack(images, root / who, who.title(), True)
        for image in images:
            table = root / who / "tables" / f"{image.name}.csv"
            table.write_text(f"X,Y,uncertain\n{rows}\n")
        if who != "cleo":
            (root / f"{who}.zip").unlink()
            shutil.make_archive(str(root / who), "zip", root / who)
    shutil.copytree(root / "cleo", root / "returned" / "cleo")
    places = pd.DataFrame(ATOMS, columns=["y_px", "x_px"]).astype(float)
    places = places.assign(y_nm=places["y_px"] * PX_NM, x_nm=places["x_px"] * PX_NM)
    tables = [
        places.assign(image=image.name, atom_id=np.arange(1, len(ATOMS) + 1)) for image in images
    ]
    table = conform_atoms(pd.concat(tables).assign(confidence=0.9, origin="model", model_id="m"))
    (root / "out").mkdir()
    table.to_csv(root / "out" / "atoms.csv", index=False)
    table[["image", "y_px", "x_px", "y_nm", "x_nm"]].to_csv(root / "truth.csv", index=False)
    for name in "ikmn":
        image = write_atoms(root / "labelled" / f"{name}.tif", ord(name))
        image.with_suffix(".csv").write_text("\n".join(["X,Y", *(f"{x},{y}" for y, x in ATOMS)]))


def _write_corrections(root: Path) -> None:
    """A table with corrections of the images of the folders ``recorded`` and ``session7``."""
    tables = []
    for name in ("1.tif", "2.tif"):
        image = write_field(root / "session7" / name, seed=int(name[0]))
        table = analyse(image, device="cpu", umap=False).table
        small = table["diameter_nm"] < table["diameter_nm"].median()
        corrected = table.assign(label_corrected=np.where(small, "Pt19", "Pt55"))
        tables.append(settle_labels(corrected))
    shutil.copytree(root / "session7", root / "recorded")
    write_clusters(pd.concat(tables, ignore_index=True), root / "clusters.csv")


def write_documented_files(root: Path, weights: Path) -> Path:
    """All files and folders that a page reads.

    Parameters
    ----------
    root : Path
        An empty folder.
    weights : Path
        A model; its card is next to it.

    Returns
    -------
    Path
        The folder.
    """
    for seed, name in enumerate(("field.tif", "a.tif", "b.tif", "mixed.tif")):
        write_field(root / name, seed)
    _write_outlines(root / "field.tif", root / "field_masks.tif")
    _write_outlines(root / "field.tif", root / "regions.zip")
    save_dm(root / "field.dm4", _pixels(MIXTURE, 0).astype(np.float32), scale=PX_NM)
    for folder in ("session", "2026-11-20"):
        write_field(root / folder / "ref_1.tif", 1, {"Pt55": 1.0})
        write_field(root / folder / "mix_1.tif", 2, {"Pt19": 0.5, "Pt41": 0.5})
    for image in (
        "images/ref_1.tif",
        "incoming/1.tif",
        "drive/session/1.tif",
        "drive/incoming/1.tif",
    ):
        write_field(root / image, 3)
    _write_outlines(root / "images" / "ref_1.tif", root / "masks" / "ref_1_masks.tif")
    for label in ("Au20", "Au55", "Au70"):
        for i in range(4):
            write_field(root / "data" / label / f"{i}.tif", i, {label: 1.0})
    for folder in ("mixtures", "shifted"):
        for i, other in enumerate(("Au55", "Au70")):
            write_field(root / folder / f"m{i}.tif", 6 + i, {"Au20": 0.5, other: 0.5})
    (root / "deposits.csv").write_text(
        "sample,class,fraction\nm0*,Au20,1\nm0*,Au55,1\nm1*,Au20,1\nm1*,Au70,1\n"
    )
    tifffile.imwrite(
        root / "movie.tif",
        np.stack([_pixels(MIXTURE, 4)] * 4),
        imagej=True,
        resolution=CALIBRATION["resolution"],
        metadata={"unit": "nm", "axes": "TYX"},
    )
    for seed, sample in enumerate(("fresh", "spent")):
        for i in range(2):
            write_field(root / sample / f"{sample}_{i}.tif", 8 + 2 * seed + i)
    (root / "samples.csv").write_text("image,sample\nfresh_*,before\nspent_*,after\n")
    write_results(root / "reaction", ["fresh", "spent"])
    for seed, (run, sample) in enumerate((("run-monday", "fresh"), ("run-friday", "spent"))):
        write_results(root / run, [sample], seed=seed)
    write_atom_results(root / "reaction-atoms", {"fresh": 0.6, "spent": 0.3})
    write_atoms(root / ATOM_IMAGE)
    write_field(root / "monday" / "field_01.tif", 5)
    _write_project(root / "monday.atomicity", root / "monday" / "field_01.tif")
    _write_atom_tables(root)
    _write_corrections(root)
    np.save(root / "X.npy", np.zeros((5, 8, 8), np.float32))
    np.save(root / "y.npy", np.arange(5))
    (root / "metadata.csv").write_text("filename,class\n1.png,Pt19\n2.png,Pt30\n")
    (root / "sessions.csv").write_text("image,session\nref_*.tif,one\nmix_*.tif,one\n")
    for name in ("au", "session7"):
        for suffix in (".safetensors", ".json"):
            shutil.copy(weights.with_suffix(suffix), root / f"{name}{suffix}")
    small = {"shape_px": (SIZE_PX, SIZE_PX), "pixel_size_nm": PX_NM}
    write_recipe(root / "fields", draw_recipe(2, ("Pt19", "Pt41"), 1, 1, small))
    request = RunRequest(device="cpu", umap=False)
    run_batch([root / "fields"], root / "results", request, workers=1)
    write_benchmark(root / "benchmark", BenchmarkSettings(("few clusters",), 1))
    truth = pd.read_csv(root / "benchmark" / "truth.csv")
    (root / "answers").mkdir()
    truth.to_csv(root / "answers" / "clusters.csv", index=False)
    (root / "earlier").mkdir()
    shutil.copy(root / "results" / "run.json", root / "earlier")
    assert len(read_clusters(root / "results" / "clusters.csv"))
    return root


def copy_used_files(text: str, source: Path, target: Path) -> None:
    """Copy the files and folders that a text names, unless it writes them."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if name in RESULTS or not _names(text, name):
            continue
        for one in {path, path.with_suffix(".json")} if path.suffix == ".safetensors" else {path}:
            to = target / one.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            if one.is_dir():
                shutil.copytree(one, to, dirs_exist_ok=True)
            else:
                shutil.copy(one, to)


def _names(text: str, name: str) -> bool:
    words = text.replace('"', " ").replace("'", " ").replace("[", " ").replace("]", " ")
    words = words.replace("(", " ").replace(")", " ").replace(",", " ").split()
    outputs = {b for a, b in pairwise(words) if a == "--out"}
    return name in {word.rstrip("/") for word in words} - outputs
