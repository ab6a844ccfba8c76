"""The kinds of file that are tried: how each is changed, and by which public function opened.

A kind is a function from the folder of samples, an empty folder and a random generator to a
function that opens the changed file. That one returns nothing, or raises: `AtomicityError` for an
error that is told to the user, `Lost` if something of the user is gone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import numpy as np

from fuzz import mutations as change
from fuzz.mutations import some
from napari_atomicity import AtomicityError, Project, load

Attempt = Callable[[], object]


class Lost(Exception):  # noqa: N818  (an outcome)
    """Something that the user had, and that the mutation did not touch, is gone."""


# ---- images
def images(samples: Path, folder: Path, rng: np.random.Generator) -> Attempt:
    """Images of all formats, read by `load`, then pixel by pixel."""
    source = some(rng, tuple(sorted(samples.iterdir())))
    path = folder / source.name
    if source.is_dir():
        shutil.copytree(source, path)
        part = some(rng, tuple(sorted(p for p in path.rglob("*") if p.is_file())))
    else:
        part = Path(shutil.copy(source, path))
    if part.suffix == ".json" or part.name in (".zarray", ".zattrs", ".zgroup"):
        change.mutate_json_file(part, rng)
    elif source.suffix == ".prz" and rng.random() < 0.7:
        change.mutate_zip(part, rng, lambda _, raw: change.mutate_bytes(raw, rng, 256))
    else:
        part.write_bytes(change.mutate_bytes(part.read_bytes(), rng))
    return partial(read_image, path)


def read_image(path: Path) -> None:
    """Read the pixels of the first frame too, at most 4096 × 4096."""
    micrograph = load(path)
    corner = np.asarray(micrograph.frame(0)[slice(4096), slice(4096)], np.float32)
    assert corner.shape == tuple(min(n, 4096) for n in micrograph.shape_px)


# ---- projects
def projects(samples: Path, folder: Path, rng: np.random.Generator) -> Attempt:
    """Project files, opened with all images or merged into another project."""
    shutil.copytree(samples, folder, dirs_exist_ok=True)
    path = folder / "morning.atomicity"
    expected, kind = log_of(path), rng.random()
    if kind < 0.6:
        change.mutate_cells(path, rng)
    elif kind < 0.72:
        touched = change.mutate_log(path, rng)
        expected = [row for row in expected if row[0] not in touched]
    elif kind < 0.84:
        change.mutate_schema(path, rng)
    else:
        path.write_bytes(change.mutate_bytes(path.read_bytes(), rng, 20_000))
        if rng.random() < 0.1:
            Path(f"{path}-wal").write_bytes(rng.bytes(5000))
        readable = set(log_of(path))
        expected = [row for row in expected if row in readable]
    if rng.random() < 0.15:
        return partial(merge_project, samples / "morning.atomicity", path)
    return partial(open_project, path, expected, only_cells=kind < 0.72)


def log_of(path: Path) -> list[tuple]:
    """Rows of the log of corrections that SQLite itself can read."""
    rows = []
    query = "SELECT correction_id, time, annotator, cluster_id, what, label FROM corrections"
    errors = (sqlite3.Error, UnicodeDecodeError)  # of messages that quote a damaged schema
    with (
        suppress(*errors),
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db,
    ):
        db.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            rows = db.execute(f"{query} NOT INDEXED ORDER BY correction_id").fetchall()
        except errors:  # row by row
            for number in range(1, 200):
                with suppress(*errors):
                    rows += db.execute(f"{query} WHERE correction_id = ?", [number]).fetchall()
    return rows


def fingerprints(folder: Path) -> dict[str, tuple]:
    """Size and time of the user's images, and hashes of projects without a log of writes."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tif":
            found[path.name] = (path.stat().st_size, path.stat().st_mtime_ns)
        elif path.suffix == ".atomicity" and not Path(f"{path}-wal").exists():
            found[path.name] = (hashlib.sha256(path.read_bytes()).hexdigest(),)
    return found


def changed_files(before: dict[str, tuple], after: dict[str, tuple]) -> set[str]:
    """Names of files with another fingerprint; a log of writes may have been taken in or begun."""
    gone = {name for name in before.keys() - after.keys() if name.endswith(".tif")}
    return gone | {name for name in before.keys() & after.keys() if before[name] != after[name]}


def open_project(path: Path, expected: list[tuple], only_cells: bool) -> None:
    """Open a project as the window does, compare its log, and look what is left on the disk.

    If only cells of tables were changed, the log must be there in any case.
    """
    from napari_atomicity.project.opening import open_any

    before = fingerprints(path.parent)
    try:
        opened = open_any(path)
    except AtomicityError:
        if only_cells:
            with Project(path) as project:
                compare_log(project, expected)
        elif changed_files(before, fingerprints(path.parent)):
            raise Lost("a file was refused, and changed all the same") from None
        raise
    try:
        compare_log(opened.project, expected)
    finally:
        opened.project.close()
    changed = changed_files(before, fingerprints(path.parent))
    if changed - {path.name}:
        raise Lost(f"{', '.join(sorted(changed))} changed")
    missing = Counter(expected) - Counter(log_of(path))
    if missing:
        raise Lost(f"{missing.total()} corrections are not in the file any more")


def compare_log(project: Project, expected: list[tuple]) -> None:
    """Raise `Lost` if corrections are missing in what `Project.corrections` returns."""
    log = project.corrections()[["time", "annotator", "cluster_id", "what", "label"]]
    found = Counter(map(tuple, log.astype(str).to_numpy(object)))
    missing = Counter(tuple(map(str, row[1:])) for row in expected) - found
    if missing:
        raise Lost(f"{missing.total()} of {len(expected)} corrections are not read")


def merge_project(own: Path, other: Path) -> None:
    """Merge a changed project into a good one, which keeps all that it has."""
    path = other.with_name("own.atomicity")
    shutil.copy(own, path)
    expected = log_of(path)
    try:
        with Project(path) as project:
            project.merge(other)
    finally:
        with Project(path) as project:
            compare_log(project, expected)


# ---- models
def models(samples: Path, folder: Path, rng: np.random.Generator) -> Attempt:
    """Cards and weights; what is accepted analyses a small image."""
    name = some(rng, ("tiny", "tiny-atoms"))
    for suffix in (".json", ".safetensors"):
        shutil.copy(samples / f"{name}{suffix}", folder)
    weights, card = folder / f"{name}.safetensors", folder / f"{name}.json"
    if rng.random() < 0.7:
        change.mutate_json_file(card, rng)
    else:
        weights.write_bytes(change.mutate_bytes(weights.read_bytes(), rng, 6000))
        if rng.random() < 0.7:  # as if it had been made so
            values = json.loads(card.read_text("utf-8"))
            values["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
            card.write_text(json.dumps(values))
    return partial(use_model, weights, name == "tiny-atoms")


def use_model(path: Path, of_atoms: bool) -> None:
    """Analyse a field of 64 × 64 pixels with a blob."""
    from napari_atomicity import Micrograph, analyse

    yy, xx = np.mgrid[:64, :64]
    blob = 100 * np.exp(-((yy - 30) ** 2 + (xx - 30) ** 2) / 50)
    field = np.random.default_rng(0).normal(100, 5, (64, 64)) + blob
    micrograph = Micrograph(field, 0.05, name="field")
    if not of_atoms:
        analyse(micrograph, model=str(path), device="cpu", umap=False)
        return
    from napari_atomicity.atoms.analysis import find_atoms

    find_atoms(micrograph, str(path), device="cpu")


# ---- packs
def packs(samples: Path, folder: Path, rng: np.random.Generator) -> Attempt:
    """Filled packs, imported into a project by `take_in_packs`."""
    project = folder / "project"
    shutil.copytree(samples / "project", project)

    def changed(name: str, raw: bytes) -> bytes:
        text = raw.decode("utf-8", "replace")
        if name.endswith(".json") and rng.random() < 0.85:
            return change.mutate_json(text, rng).encode("utf-8", "surrogatepass")
        if name.endswith(".csv"):
            return change.mutate_csv(text, rng)
        return change.mutate_bytes(raw, rng)

    if rng.random() < 0.5:
        path = Path(shutil.copy(samples / "cleo.zip", folder))
        if rng.random() < 0.25:
            path.write_bytes(change.mutate_bytes(path.read_bytes(), rng))
        else:
            change.mutate_zip(path, rng, changed)
    else:
        path = Path(shutil.copytree(samples / "bo", folder / "bo"))
        part = some(rng, tuple(sorted(p for p in path.rglob("*") if p.is_file())))
        part.write_bytes(changed(part.name, part.read_bytes()))
    return partial(import_pack, project / "morning.atomicity", path)


def import_pack(path: Path, pack: Path) -> None:
    """Import a pack; what the project held before is there afterwards."""
    from napari_atomicity.state.annotator_packs import take_in_packs

    expected, files = log_of(path), fingerprints(path.parent)
    with Project(path) as project:
        marks = project.atoms.annotations()[0]
        taken = take_in_packs(project, [pack])
        compare_log(project, expected)
        after = project.atoms.annotations()[0]
        if len(marks.merge(after.drop_duplicates())) < len(marks):
            raise Lost("marks of the project are gone")
    if changed_files(files, fingerprints(path.parent)) - {path.name}:
        raise Lost("an image was changed")
    if not len(taken.came):
        what, why = taken.refused.iloc[0]
        raise AtomicityError(f"{what}: {why}", pack)


# ---- settings, run records, tables
def settings(samples: Path, folder: Path, rng: np.random.Generator) -> Attempt:
    """Settings of simulated fields, read by `read_recipe`."""
    from napari_atomicity.simulation.recipes import read_recipe

    path = Path(shutil.copy(samples / "settings.json", folder))
    change.mutate_json_file(path, rng)
    return partial(read_recipe, path)


def runs(samples: Path, folder: Path, rng: np.random.Generator) -> Attempt:
    """Records and parts of earlier runs, as they are read by runs that go on from them."""
    from napari_atomicity.io.provenance import analysed_images
    from napari_atomicity.pipeline.acquisition_sessions import read_earlier_scale
    from napari_atomicity.pipeline.live.watch import SessionReference

    kind = rng.random()
    if kind < 0.5:
        shutil.copytree(samples / "analyse", folder, dirs_exist_ok=True)
        change.mutate_json_file(folder / "run.json", rng)
        if kind < 0.35:
            return partial(read_earlier_scale, folder / "run.json")
        return partial(analysed_images, folder / "clusters.csv")
    if kind < 0.6:
        shutil.copytree(samples / "watch", folder, dirs_exist_ok=True)
        change.mutate_json_file(folder / "live.json", rng)
        return SessionReference(folder).since
    shutil.copytree(samples / "batch", folder, dirs_exist_ok=True)
    places = (folder / name for name in ("clusters", "parts"))
    part = some(rng, tuple(sorted(p for x in places for p in x.rglob("*") if p.is_file())))
    if part.suffix == ".json":
        change.mutate_json_file(part, rng)
    else:
        part.write_bytes(change.mutate_bytes(part.read_bytes(), rng))
    return partial(read_parts, folder)


def read_parts(folder: Path) -> None:
    """Read all parts of a batch, as a batch does that goes on."""
    from napari_atomicity.pipeline.runs.part_store import PartStore

    store = PartStore(folder)
    for stem in sorted(store.stems):
        store.drawing(stem)
        store.movie(stem)
        store.outcome(stem)
        store.read(stem)
    store.join(())


def tables(samples: Path, folder: Path, rng: np.random.Generator) -> Attempt:
    """Tables of clusters, atoms, ratios and corrections as CSV, XLSX and Parquet."""
    from napari_atomicity.core.model_card import ModelCard
    from napari_atomicity.io.tables import read_clusters, read_points, read_reference
    from napari_atomicity.models.files import read_card
    from napari_atomicity.pipeline.adaptation.runs import read_corrections

    path = Path(shutil.copy(some(rng, tuple(sorted(samples.iterdir()))), folder))
    if path.suffix == ".csv":
        path.write_bytes(change.mutate_csv(path.read_text("utf-8"), rng))
    elif path.suffix == ".xlsx" and rng.random() < 0.75:
        change.mutate_zip(path, rng, lambda _, raw: change.mutate_bytes(raw, rng))
    else:
        path.write_bytes(change.mutate_bytes(path.read_bytes(), rng))
    if path.stem == "reference":
        return partial(read_reference, path)
    if path.stem == "atoms":
        return partial(read_points, path)
    if path.stem == "corrected":
        tiny = samples.parent / "models" / "tiny.safetensors"
        return lambda: read_corrections(path, read_card(tiny, ModelCard))
    return partial(read_clusters, path)


KINDS: dict[str, Callable[[Path, Path, np.random.Generator], Attempt]] = {
    kind.__name__: kind for kind in (images, projects, models, packs, settings, runs, tables)
}
