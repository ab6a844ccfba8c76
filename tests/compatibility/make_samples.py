"""Write the sample files of version 0.2, once, with the code of version 0.2.

Samples made by newer code prove nothing about files of version 0.2: do not run this again. It is
kept to show how the samples were made. It needs a folder that does not exist, and several minutes::

    PYTHONPATH=src:tests python tests/compatibility/make_samples.py /tmp/samples-0.2
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from test_files_of_0_2 import MODIFIED_NS, content_of_project, write_expected
from typer.testing import CliRunner

from napari_atomicity import Project, analyse, cli, load
from napari_atomicity.atoms.analysis import find_atoms
from napari_atomicity.atoms.finding.finder import load_atom_model
from napari_atomicity.atoms.injection import InjectedAtoms
from napari_atomicity.atoms.marks import mark_at
from napari_atomicity.atoms.species import Species
from napari_atomicity.core.acquisition_session import EarlierScale
from napari_atomicity.detection.manual import measure_at, split as split_cluster
from napari_atomicity.io.tables import read_clusters, write_clusters
from napari_atomicity.pipeline.runs import engine
from napari_atomicity.pipeline.runs.part_store import PartStore
from napari_atomicity.project.opening import survey
from napari_atomicity.project.packs.annotation_packs import export_pack
from napari_atomicity.project.packs.returned import read_packs
from napari_atomicity.simulation.fields import FieldSettings, simulate_field
from napari_atomicity.state.window_state import WindowState
from napari_atomicity.tracking.following import track_clusters
from napari_atomicity.training import classifier, request, run as training
from napari_atomicity.training.atoms.run import train_atoms
from napari_atomicity.training.atoms.settings import AtomRecipe, AtomTrainingSettings
from support import lattice_isomer

PIXEL_NM = 0.06
LIBRARY = [lattice_isomer(n, seed) for n in (19, 70) for seed in (0, 1, 2)]


def atomicity(*arguments: object) -> None:
    """Run the command line; stop if it fails."""
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    if result.exit_code:
        raise SystemExit(f"{arguments}: {result.stderr}")


def write_tiff(path: Path, pixels: np.ndarray, **metadata: object) -> None:
    options = {"resolution": (1 / PIXEL_NM, 1 / PIXEL_NM), "metadata": {"unit": "nm", **metadata}}
    tifffile.imwrite(path, pixels, imagej=True, **options)


def eight_bits(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """8 bits keep the samples small."""
    return np.clip(255 * (pixels - low) / (high - low), 0, 255).astype(np.uint8)


def simulated(seed: int, size_px: int = 256, mixture: dict[str, float] | None = None):
    settings = FieldSettings(
        shape_px=(size_px, size_px),
        pixel_size_nm=PIXEL_NM,
        clusters_per_nm2=0.08,
        mixture=mixture or {"Pt19": 0.5, "Pt70": 0.5},
    )
    return simulate_field(LIBRARY, settings, seed=seed).micrograph.data


# ---- models
def make_cluster_model(folder: Path, work: Path) -> Path:
    """Train a small network on size-selected images."""
    for label in ("Pt19", "Pt70"):
        (work / "sizes" / label).mkdir(parents=True)
        for i in range(4):
            pixels = simulated(20 * i + len(label) + int(label[2:]), 360, {label: 1.0})
            write_tiff(work / "sizes" / label / f"{i}.tif", pixels.astype(np.uint16))
    classifier.REPLAYED_PER_CLASS = 8
    for module in (classifier, training):
        module.settings_for = lambda *known: replace(request.settings_for(*known), width=4)
    path = folder / "tiny.safetensors"
    atomicity(
        "train", "--data", work / "sizes", "--out", path, "--start", "scratch", "--epochs", 12,
        "--patch-px", 32, "--device", "cpu",
    )  # fmt: skip
    return path


def make_atom_model(folder: Path, work: Path) -> Path:
    """Train a small network on images of clear spots."""
    data = work / "spots"
    data.mkdir()
    for seed in range(6):
        pixels, points = spots(seed, (128, 128), 0.03)
        tifffile.imwrite(data / f"{seed}.tif", pixels.astype(np.float32))
        pd.DataFrame(points[:, ::-1], columns=["X", "Y"]).to_csv(data / f"{seed}.csv", index=False)
    path = folder / "tiny-atoms.safetensors"
    settings = AtomTrainingSettings(
        width=4, steps=150, batch=4, crop_px=48, simulated=0.0, dropout=0.0
    )
    recipe = AtomRecipe(settings, folds=2, members=1)
    train_atoms(data, path, pixel_size_nm=0.03, recipe=recipe)
    return path


def spots(seed: int, shape: tuple[int, int], pixel_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Single atoms as Gaussians on noise, and their positions (y, x)."""
    rng = np.random.default_rng(seed)
    step = 0.42 / pixel_nm
    places = np.stack(np.meshgrid(*(np.arange(step, m - step / 2, step) for m in shape)), -1)
    places = rng.permutation(places.reshape(-1, 2))[:30]
    points = places[:, ::-1] if shape[0] == shape[1] else places
    points = points + rng.uniform(-0.2, 0.2, points.shape) * step
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = 0.06 * rng.standard_normal(shape)
    sigma = 0.09 / pixel_nm
    for cy, cx in points:
        pixels += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return pixels, points


# ---- images
def make_images(folder: Path) -> None:
    """Two images and a stack."""
    folder.mkdir(parents=True)
    for name, seed in (("a.tif", 5), ("b.tif", 6)):
        pixels = simulated(seed)
        write_tiff(folder / name, eight_bits(pixels, *np.percentile(pixels, [0.1, 99.99])))
    rng = np.random.default_rng(0)
    pixels = simulated(7, 160).astype(float)
    low, high = np.percentile(pixels, [0.1, 99.99])
    frames = [
        eight_bits(np.roll(pixels, i, axis=1) + rng.normal(0, 0.02 * (high - low)), low, high)
        for i in range(3)
    ]
    write_tiff(folder / "film.tif", np.stack(frames), axes="TYX", finterval=0.5)


def make_atom_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, seed in (("s.tif", 100), ("t.tif", 101)):
        pixels, points = spots(seed, (128, 128), 0.03)
        options = {"resolution": (1 / 0.03, 1 / 0.03), "metadata": {"unit": "nm"}}
        tifffile.imwrite(folder / name, eight_bits(pixels, -0.4, 1.5), imagej=True, **options)
        truth = pd.DataFrame(points[:, ::-1], columns=["X", "Y"])
        truth.round(2).to_csv(folder.parent / f"truth_{name}.csv", index=False)


# ---- the project
def make_project(samples: Path, model: Path, atom_model: Path) -> None:
    """A project with all that people do, and what another person did on a copy of it."""
    path = samples / "project" / "morning.atomicity"
    make_images(path.parent)
    state = WindowState()
    project = Project(path)
    project.add_paths([path.parent])
    survey(project, project.names)
    state.open_project(project, project.load_all())
    state.annotator = "Ada"
    for name in project.names:
        umap = name != "film.tif"
        found = analyse(load(path.parent / name), str(model), "cpu", umap=umap)
        if name == "a.tif":  # measurements of one's own, and the map of a session
            places = found.table[["y_nm", "x_nm"]].to_numpy(float).T
            own = dict(zip(("session_umap_1", "session_umap_2"), places, strict=True))
            table = found.table.assign(peak=np.arange(len(found.table)) / 8.0, **own)
            found = replace(found, table=table)
        state.clusters.set_analysis(found, undoable=False)
    state.clusters.set_tracks(track_clusters(state.analysis("film.tif")))

    def ids(image: str) -> list[int]:
        return state.table(image)["cluster_id"].tolist()

    first = ids("a.tif")
    state.clusters.relabel([("a.tif", first[0]), ("a.tif", first[1])], "Pt70")
    state.clusters.relabel([("a.tif", first[2])], "Pt19")
    state.clusters.relabel([("a.tif", first[3])], "unknown")
    state.history.undo()
    state.clusters.relabel([("a.tif", first[4])], "aggregate")
    state.clusters.relabel([("a.tif", first[4])], "")
    state.clusters.remove_ids("a.tif", [first[5]])
    state.clusters.remove_ids("a.tif", [first[6]])
    state.history.undo()
    added = measure_at(state.micrograph("a.tif"), 0, 40.0, 130.0)
    state.clusters.add("a.tif", added.table, added.outlines)
    state.clusters.relabel([("a.tif", ids("a.tif")[-1])], "Pt19")
    analysis = state.analysis("a.tif")
    moved = measure_at(state.micrograph("a.tif"), 0, *place_of(analysis, first[7]) + 2)
    state.clusters.move("a.tif", moved.table.assign(cluster_id=first[7]), moved.outlines)
    state.clusters.set_regions("a.tif", [np.array([(0, 0), (0, 60), (90, 60), (90, 0)])])

    second = ids("b.tif")
    outline = state.analysis("b.tif").outlines[0]
    halves = split_cluster(state.micrograph("b.tif"), 0, outline)
    state.clusters.replace("b.tif", [second[0]], halves.table, halves.outlines, "split")
    state.annotator = "Bo"
    state.clusters.relabel([("b.tif", second[1]), ("a.tif", first[0])], "Pt19")
    state.set_blind(True)
    state.clusters.relabel([("a.tif", first[1]), ("b.tif", second[2])], "Pt19")
    state.clusters.remove_ids("a.tif", [first[8]])
    state.set_blind(False)
    state.annotator = "Ada"
    state.sessions.group(["a.tif", "b.tif"], "evening")
    state.sessions.set_known(["a.tif"], {"Pt19": 1, "Pt70": 1})
    state.sessions.keep_known(["a.tif"], True)
    state.sessions.set_earlier(["a.tif"], EarlierScale(2.5, 0.1, "yesterday"))
    state.sessions.set_pixel_size_error(["b.tif"], 0.02)
    film = ids("film.tif")
    state.clusters.relabel([("film.tif", film[0])], "Pt70")

    make_marks(state, project, samples, atom_model)
    project.flush()
    project.model_files.add(
        # a small one: a project keeps any file with its card
        "mine",
        atom_model.read_bytes(),
        atom_model.with_suffix(".json").read_text("utf-8"),
    )
    project.add_run({"command": ["atomicity", "analyse"], "images": 3, "status": "done"})
    project.set_setting("compatibility", {"text": "ä", "numbers": [1, 2.5, None]})

    # What another person did on a copy, and the merge of it.
    copy = path.with_name("of-cleo.atomicity")
    project.copy(copy)
    other = WindowState()
    theirs = Project(copy)
    other.open_project(theirs, theirs.load_all())
    other.annotator = "Cleo"
    other.clusters.relabel([("a.tif", first[9]), ("a.tif", first[0])], "Pt19")
    other.clusters.remove_ids("b.tif", [second[3]])
    theirs.flush()
    other.close_project()
    Project(copy).close()
    state.merge(copy)
    state.close_project()
    with Project(path):  # waits until it is closed
        pass
    for rest in path.parent.iterdir():
        if rest.name.startswith(copy.name) or rest.suffix in (".lock", ".window"):
            rest.unlink()


def place_of(analysis, cluster_id: int) -> np.ndarray:
    table = analysis.table.set_index("cluster_id")
    return table.loc[cluster_id, ["y_px", "x_px"]].to_numpy(float)


def make_marks(state: WindowState, project: Project, samples: Path, atom_model: Path) -> None:
    """Atoms found by a model and marked by people, in an image of atoms within the project."""
    shutil.copy(samples / "atoms" / "images" / "s.tif", project.path.parent / "s.tif")
    (name,) = project.add_paths([project.path.parent / "s.tif"])
    state.add_contents(survey(project, [name]))
    found = find_atoms(load(project.path.parent / name), load_atom_model(atom_model, "cpu"))
    atoms = state.atoms
    atoms.set_analysis(found)
    atoms.set_threshold(name, 0.4)
    atoms.end_sliding()
    frame = np.asarray(state.micrograph(name).frame(0))
    atoms.add(name, [mark_at(frame, 30.0, 44.0, 0.03), mark_at(frame, 90.0, 101.0, 0.03)])
    there = atoms.table(name)["atom_id"].tolist()
    atoms.remove([(name, there[0]), (name, there[1])])
    state.history.undo()
    atoms.remove([(name, there[2])])
    atoms.set_uncertain([(name, there[3])])
    atoms.confirm([(name, there[4])])
    y, x = atoms.table(name).set_index("atom_id").loc[there[5], ["y_px", "x_px"]]
    atoms.move(name, {there[5]: mark_at(frame, y + 1, x - 1, 0.03)})
    corner = np.array([(0, 0), (0, 20), (20, 20), (20, 0)])
    atoms.set_support(name, [(corner, True), (corner + 90, False)])
    atoms.set_group_distance(0.5)
    usual = float(np.median(found.table["intensity"]))
    two = np.log([0.8 * usual, 1.6 * usual])
    atoms.set_species(name, Species(two, np.full(2, 0.1), np.array([0.6, 0.4]), 30, {"one": 1.5}))
    six = np.linspace(0.2, 1.5, 6)
    injected = InjectedAtoms(
        100.0,
        0.09,
        six,
        six - 1.0,
        np.append(six[1:], np.nan),
        six,
        4,
        14.0,
        1,
        six,
        six,
        -3.9,
        0.0,
    )
    atoms.set_added(name, injected)
    state.set_blind(True)
    atoms.add(name, [mark_at(frame, 60.0, 61.0, 0.03)])
    atoms.add(name, [mark_at(frame, 20.0, 100.0, 0.03)])
    state.set_blind(False)
    filled = read_packs([samples / "packs" / "ada.zip", samples / "packs" / "bo"])
    for who, marks in filled.marks.groupby("annotator"):
        own = marks[marks["image"] == name]
        project.atoms.add_marks(name, f"{who} by pack", own, f"pack of {who}")
    project.atoms.mark_as_viewed([name], "Dee")


# ---- packs
def make_packs(samples: Path) -> None:
    """An empty pack, one that Bo has filled in as a folder, and one of Ada's as a .zip."""
    images = [samples / "atoms" / "images" / name for name in ("s.tif", "t.tif")]
    packs = samples / "packs"
    packs.mkdir()
    atomicity("pack", images[0], "--out", packs / "empty")
    (packs / "empty.zip").unlink()
    truth = {n: pd.read_csv(samples / "atoms" / f"truth_{n}.csv") for n in ("s.tif", "t.tif")}
    for who, form in (("bo", "folder"), ("ada", "zip")):
        export_pack(images, packs / who, who.capitalize())
        (packs / f"{who}.zip").unlink()
        drop = 1 if who == "bo" else 3
        marks = truth["s.tif"].iloc[drop:].assign(uncertain="")
        marks.iloc[0, 2] = "1"
        marks.to_csv(packs / who / "tables" / "s.tif.csv", index=False)
        (packs / who / "tables" / "t.tif.csv").write_text(
            "X;Y;uncertain\r\n10,5;20;\r\n55;66;?\r\n"
        )
        for folder in ("images", "previews"):
            shutil.rmtree(packs / who / folder)
        if form == "zip":
            shutil.make_archive(str(packs / who), "zip", packs, who)
            shutil.rmtree(packs / who)


# ---- the command line
def make_tables(samples: Path, model: Path, atom_model: Path) -> None:
    """Tables of clusters, atoms and agreement."""
    folder = samples / "project"
    images = [folder / name for name in ("a.tif", "b.tif", "film.tif")]
    reference = samples / "reference.csv"
    reference.write_text("class,fraction\nPt19,0.5\nPt70,0.5\n", encoding="utf-8")
    common = ("--model", model, "--device", "cpu", "--no-umap")
    out = samples / "analyse"
    atomicity("analyse", *images, "--out", out, *common, "--reference", reference)
    atoms = ("--model", atom_model, "--device", "cpu", "--no-completeness")
    atomicity("atoms", samples / "atoms" / "images", "--out", samples / "atoms" / "found", *atoms)
    atomicity(
        "consensus", samples / "packs" / "ada.zip", samples / "packs" / "bo",
        "--out", samples / "consensus", "--model-atoms", samples / "atoms" / "found" / "atoms.csv",
    )  # fmt: skip
    # What a person corrected, as adapt and train read it.
    table = read_clusters(out / "clusters.csv")
    table = table[table["image"] != "film.tif"].copy()
    rows = np.arange(len(table))
    table["label_corrected"] = np.where(rows % 3 == 0, table["label_predicted"], "")
    table.loc[table.index[[1, 4]], "label_corrected"] = ["Pt70", "unknown"]
    table["label"] = table["label_corrected"].where(table["label_corrected"] != "", table["label"])
    (samples / "corrections").mkdir()
    for name in ("corrected.csv", "corrected.xlsx"):
        write_clusters(table, samples / "corrections" / name)


def make_stores(samples: Path, model: Path, work: Path) -> None:
    """The folders of `atomicity batch` and `atomicity watch`."""
    common = ("--model", model, "--device", "cpu", "--no-umap")
    images = [samples / "project" / name for name in ("a.tif", "b.tif", "film.tif")]
    atomicity("batch", *images, "--out", samples / "batch", "--workers", 1, *common)
    store = PartStore(samples / "batch")
    for stem in store.stems:
        if store.movie(stem) is None:  # the drawing of the stack is enough
            store.undraw(stem)
    watched = samples / "watched"
    watched.mkdir()
    # The same images as far as content goes: they are not kept twice.
    for name in ("a.tif", "b.tif"):
        shutil.copy(samples / "project" / name, watched / name)
        os.utime(watched / name, ns=(MODIFIED_NS, MODIFIED_NS))
    (watched / "bad.tif").write_text("no image", encoding="utf-8")
    os.utime(watched / "bad.tif", ns=(MODIFIED_NS, MODIFIED_NS))
    result = CliRunner().invoke(
        cli.app,
        [
            str(x)
            for x in (
                "watch",
                watched,
                "--out",
                samples / "watch",
                "--once",
                "--new-reference",
                *common,
            )
        ],
    )
    assert result.exit_code == 1, result.stderr  # bad.tif
    shutil.rmtree(watched)


def slim(samples: Path) -> None:
    """Leave out pictures and reports, which nothing reads, and parts like those of the batch."""
    for name in ("clusters", "parts"):
        shutil.rmtree(samples / "analyse" / name)
    for path in samples.rglob("*"):
        if path.name in ("report.html", ".atomicity.lock") or path.suffix in (".svg", ".png"):
            path.unlink()
    for folder in sorted((p for p in samples.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def main(samples: Path) -> None:
    if samples.exists():
        raise SystemExit(f"{samples} exists already")
    work = samples.with_name(samples.name + "-work")
    work.mkdir()
    engine.MANY_IMAGES = 0  # small pictures
    (samples / "models").mkdir(parents=True)
    model = make_cluster_model(samples / "models", work)
    atom_model = make_atom_model(samples / "models", work)
    make_atom_images(samples / "atoms" / "images")
    make_packs(samples)
    make_project(samples, model, atom_model)
    make_tables(samples, model, atom_model)
    make_stores(samples, model, work)
    slim(samples)
    if len(list((samples / "project").iterdir())) != 5:
        raise SystemExit("files are left over beside the project")
    copy = work / "copy"
    shutil.copytree(samples / "project", copy)
    write_expected(content_of_project(copy / "morning.atomicity"), samples / "expected" / "project")
    result = CliRunner().invoke(
        cli.app,
        ["evaluate", str(samples / "analyse" / "clusters.csv"),
         str(samples / "corrections" / "corrected.csv")],
    )  # fmt: skip
    (samples / "expected" / "evaluate.json").write_text(result.stdout, encoding="utf-8")
    shutil.rmtree(work)
    print(json.dumps({"bytes": sum(p.stat().st_size for p in samples.rglob("*") if p.is_file())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
