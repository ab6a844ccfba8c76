"""Files written by version 0.2 open in the current version, and hold what they held.

``samples/`` was written by version 0.2 (see ``README.md``). The tests use the public Python names
and the command line. Everything else that they need of the package is imported in the first
section, and only there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from napari_atomicity import Project, analyse, load
from napari_atomicity.cli import app
from napari_atomicity.core.acquisition_session import is_group_scope

pytestmark = pytest.mark.usefixtures("blank_figures")

SAMPLES = Path(__file__).with_name("samples")
MODEL = SAMPLES / "models" / "tiny.safetensors"
ATOM_MODEL = SAMPLES / "models" / "tiny-atoms.safetensors"
IMAGES = ("a.tif", "b.tif", "film.tif")
MODIFIED_NS = 1_700_000_000_000_000_000
"""Time of the images in the folder that was watched."""


# ---- the only section that uses names which may change: adapt it when they do
def read_any_table(path: Path) -> pd.DataFrame:
    """Read a table of any suffix as the package does."""
    from napari_atomicity.io.tables import read_table

    return read_table(path)


def read_cluster_table(path: Path) -> pd.DataFrame:
    """Read a cluster table as the package does."""
    from napari_atomicity.io.tables import read_clusters

    return read_clusters(path)


def corrections_for_adapt(path: Path) -> pd.DataFrame:
    """Read corrected labels as ``atomicity adapt --corrections`` does."""
    from napari_atomicity.models.files import read_model
    from napari_atomicity.pipeline.adaptation.runs import read_corrections

    return read_corrections(path, read_model(MODEL)[0])


def corrections_for_train(path: Path, images: Path) -> dict[str, pd.DataFrame]:
    """Read corrected labels as ``atomicity train --corrections`` does: image → rows."""
    from napari_atomicity.training.prepared_sets import tables_with_images

    return {m.name: table for m, table in tables_with_images([path], [images])}


def parts_of(path: Path) -> dict[str, pd.DataFrame]:
    """Read the parts of the folder of a batch."""
    from napari_atomicity.pipeline.runs.part_store import PartStore

    store = PartStore(path)
    return {stem: store.table(stem) for stem in store.stems}


def relabel(path: Path, image: str, cluster_id: int, label: str) -> None:
    """Open a project as the window does, and correct a label."""
    from napari_atomicity.state.window_state import WindowState

    session = WindowState()
    project = Project(path)
    session.open_project(project, project.load_all())
    session.annotator = "Eve"
    session.clusters.relabel([(image, cluster_id)], label)
    session.close_project()
    Project(path).close()  # waits until the session has let go of the file


def content_of_project(path: Path) -> dict[str, Any]:
    """All that a project holds, as tables and plain values; name → content."""
    with Project(path) as project:
        found: dict[str, Any] = {
            "images": [
                {
                    "name": image.name,
                    "file": image.path.name,
                    "sha256": image.sha256,
                    "shape": image.shape,
                    "pixel_size_nm": image.pixel_size_nm,
                    "state": image.state,
                    "n_clusters": image.n_clusters,
                    "n_reviewed": image.n_reviewed,
                    "counts": image.counts,
                    "model_id": image.model_id,
                    "has_thumbnail": bool(image.thumbnail),
                }
                for image in project.images()
            ],
            "missing": [image.name for image in project.image_files.missing()],
            "corrections": project.corrections(),
            "labels": project.labels(),
            "marks": project.atoms.marks(),
            "annotations": dict(zip(("marks", "looked"), project.atoms.annotations(), strict=True)),
            "runs": project.runs(),
            "models": {
                name: {
                    "weights": hashlib.sha256(project.model_files.read(name)[0]).hexdigest(),
                    "card": json.loads(project.model_files.read(name)[1]),
                }
                for name in project.model_files.names()
            },
            "setting": project.setting("compatibility"),
            "sessions": {n: asdict(e) for n, e in project.image_files.session_entries().items()},
        }
        for who in ("Ada", "Bo"):
            labels, removed = project.blind_labels(who)
            marks = {n: [vars(m) for m in a.marks.values()] for n, a in
                     project.atoms.blind_marks(who).items()}  # fmt: skip
            removed = {image: sorted(ids) for image, ids in removed.items()}
            found[f"blind-{who}"] = {"labels": labels, "removed": removed, "marks": marks}
        for name in project.names:
            stored = project.load(name)
            added, removed_places = project.manual_edits(name)
            found[f"image-{name}"] = {
                "added": sorted(added),
                "removed": removed_places,
                "next_id": stored.next_id,
                "next_atom_id": stored.next_atom_id,
                "metadata": dict(stored.micrograph.metadata),
                "mean_counts": float(np.mean(stored.micrograph.data)),
            }
            if stored.analysis is not None:
                found[f"analysis-{name}"] = content_of_analysis(stored.analysis)
                model_id = stored.analysis.parameters["model"]["model_id"]
                found[f"predictions-{name}"] = project.predictions(name, model_id)
            if stored.atoms is not None:
                found[f"atoms-{name}"] = content_of_atoms(stored.atoms)
    found["window"] = content_of_window(path)
    return found


def content_of_window(path: Path) -> dict[str, Any]:
    """What the window shows of a project: labels that count, and what is excluded; by image."""
    from napari_atomicity.state.window_state import WindowState

    session = WindowState()
    project = Project(path)
    session.open_project(project, project.load_all())
    found: dict[str, Any] = {}
    for name in session.images:
        table = session.table(name)
        excluded = table["excluded"] if "excluded" in table.columns else []
        found[name] = {
            "cluster_id": table["cluster_id"] if len(table) else [],
            "label": table["label"] if len(table) else [],
            "excluded": table.loc[excluded, "cluster_id"] if len(excluded) else [],
            "atom_id": session.atoms.table(name)["atom_id"],
        }
    session.close_project()
    Project(path).close()  # waits until the session has let go of the file
    return found


def content_of_analysis(analysis: Any) -> dict[str, Any]:
    scale = analysis.scale
    return {
        "table": analysis.table,
        "outlines": [np.round(outline, 3) for outline in analysis.outlines],
        "regions": analysis.regions,
        "embedding": analysis.embedding.mean(axis=1),
        "patches": {n: p.mean(axis=(1, 2)) for n, p in analysis.patches.items()},
        "class_maps": {n: p.mean(axis=(1, 2)) for n, p in analysis.class_maps.items()},
        "field_of_view_nm": analysis.field_of_view_nm,
        "parameters": analysis.parameters,
        "ratios": analysis.ratios(),
        "scale": None if scale is None else [scale.intensity_per_atom, scale.certainty],
    }


def content_of_atoms(atoms: Any) -> dict[str, Any]:
    return {
        "table": atoms.table,
        "candidates": atoms.analysis.candidates,
        "marks": {str(i): vars(mark) for i, mark in atoms.marks.items()},
        "threshold": atoms.threshold,
        "candidate_recall": atoms.analysis.candidate_recall,
        "pixel_size_nm": atoms.pixel_size_nm,
        "group_distance_nm": atoms.group_distance_nm,
        "support_px": int(atoms.support.sum()),
        "support_added": atoms.support_added,
        "support_removed": atoms.support_removed,
        "species_mean": atoms.species.mean,
        "injected": atoms.injected.to_dict(),
    }


# ---- comparing
def plain(value: Any) -> Any:
    """Anything above as JSON knows it; a table as its columns, no number as None."""
    if isinstance(value, pd.DataFrame):
        return {str(name): plain(value[name].tolist()) for name in value.columns}
    if isinstance(value, np.ndarray | pd.Series):
        return plain(value.tolist())
    if value is pd.NA:
        return None
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def write_expected(found: dict[str, Any], folder: Path) -> None:
    """Keep what 0.2 reads: a JSON file for each table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        text = json.dumps(plain(content), ensure_ascii=False, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


_REWORDED = {
    "most images have one or two sizes only:": "the images of this session have few sizes each, "
    "on average:",
}
"""Parts of notes that say the same in other words now."""


_NEW_REASON = re.compile(r"^\d+ clusters? without a label not counted(; )?")
"""A reason that notes of 0.2 did not give."""


def reworded(text: str) -> str:
    for before, now in _REWORDED.items():
        text = text.replace(before, now)
    return text


def assert_same(found: Any, expected: Any, where: str, rel: float = 1e-6) -> None:
    """Check that all is there that was there; new columns and keys are none of our business."""
    found = plain(found)
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        for key, one in expected.items():
            assert key in found, f"{where}: {key} is missing"
            assert_same(found[key], one, f"{where}, {key}", rel)
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_same(a, b, f"{where}[{i}]", rel)
    elif isinstance(expected, float) and found is not None:
        assert found == pytest.approx(expected, rel=rel, abs=1e-6 if rel > 1e-6 else 1e-9), where
    elif isinstance(expected, str):
        assert _NEW_REASON.sub("", found) == reworded(expected), where
    else:
        assert found == expected, where


def assert_same_table(found: Path, expected: Path, rel: float) -> None:
    """Check that a CSV file that was just written has the columns and values of the sample.

    Scopes of sessions and samples are new; the rows of all others are those of the sample. Tracks
    of which no frame tells the label have none now, and are left out.

    ``rel`` is for figures that a network computes again, on another processor perhaps.
    """
    # Empty cells are NaN, so that columns with some of them are compared as numbers.
    a, b = (pd.read_csv(path) for path in (found, expected))
    scope = {"ratios.csv": "scope", "dispersion.csv": "image"}.get(found.name)
    if scope is not None:
        a = a[~a[scope].astype(str).map(is_group_scope)].reset_index(drop=True)
    if "note" in b.columns:
        b["note"] = b["note"].map(reworded, na_action="ignore")
        a["note"] = a["note"].map(lambda x: _NEW_REASON.sub("", x) or np.nan, na_action="ignore")
    tracks = found.with_name("tracks.csv")
    of_track = next((name for name in ("track_id", "tracks") if name in a.columns), None)
    if tracks.exists() and of_track:
        every = pd.read_csv(tracks)
        bare = every.loc[every["label_smoothed"].isna(), "track_id"].astype(str).unique()
        a, b = (t[~t[of_track].astype(str).isin(bare)].reset_index(drop=True) for t in (a, b))
    assert [name for name in a.columns if name in b.columns] == list(b.columns), found.name
    pd.testing.assert_frame_equal(a[b.columns], b, rtol=rel, atol=rel, check_dtype=False)


# ---- helpers
@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A copy of the samples, which may be written to."""
    return Path(shutil.copytree(SAMPLES, tmp_path / "samples"))


def atomicity(*arguments: object, status: int = 0) -> dict[str, Any]:
    """Run the command line; what it prints as JSON."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == status, result.stderr
    return json.loads(result.stdout) if result.stdout else {}


# ---- projects
def test_a_project_holds_what_it_held(samples):
    found = content_of_project(samples / "project" / "morning.atomicity")
    files = sorted((SAMPLES / "expected" / "project").glob("*.json"))
    assert len(files) > 20
    for file in files:
        expected = json.loads(file.read_text(encoding="utf-8"))
        assert_same(found[file.stem], expected, file.stem)


def test_a_project_can_be_worked_on(samples):
    path = samples / "project" / "morning.atomicity"
    with Project(path) as project:
        before = project.corrections()
        free = next(
            iter(set(project.positions("b.tif")["cluster_id"]) - {*project.labels()["b.tif"]})
        )
    relabel(path, "b.tif", free, "Pt19")
    with Project(path) as project:
        after = project.corrections()
        assert project.labels()["b.tif"][free] == "Pt19"
    assert len(after) == len(before) + 1
    assert_same(after.iloc[:-1], plain(before), "corrections")
    assert after.iloc[-1][["annotator", "image", "what", "label"]].tolist() == [
        "Eve", "b.tif", "label", "Pt19",
    ]  # fmt: skip


# ---- models
def test_models_are_listed_with_their_cards(monkeypatch):
    monkeypatch.setenv("ATOMICITY_MODELS", str(SAMPLES / "models"))
    cards = {card["name"]: card for card in atomicity("models", "--json")}
    for path in (MODEL, ATOM_MODEL):
        expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert_same(cards[path.stem], expected, path.stem)
        assert cards[path.stem]["model_id"] == f"{path.stem}-{expected['sha256'][:8]}"


def test_a_model_of_clusters_says_what_it_said(tmp_path):
    images = [SAMPLES / "project" / name for name in IMAGES]
    atomicity(
        "analyse", *images, "--out", tmp_path, "--model", MODEL, "--device", "cpu", "--no-umap",
        "--reference", SAMPLES / "reference.csv",
    )  # fmt: skip
    for path in sorted((SAMPLES / "analyse").glob("*.csv")):
        assert_same_table(tmp_path / path.name, path, rel=2e-3)
    found, expected = (
        json.loads((folder / "run.json").read_text(encoding="utf-8"))
        for folder in (tmp_path, SAMPLES / "analyse")
    )
    assert found.keys() >= expected.keys()
    for one, other in zip(found["images"], expected["images"], strict=True):
        assert one.keys() >= other.keys()
        for name in ("image", "status", "sha256", "pixel_size_nm", "clusters"):
            assert one[name] == other[name]
        assert len(one["warnings"]) >= len(other["warnings"])  # there may be others later
    assert_same(found["model"], expected["model"], "run.json, model")
    assert_same(found["parameters"]["detection"], expected["parameters"]["detection"], "run.json")


def test_a_model_opens_from_python():
    expected = pd.read_csv(SAMPLES / "analyse" / "clusters.csv", keep_default_na=False)
    expected = expected[expected["image"] == "b.tif"]
    found = analyse(load(SAMPLES / "project" / "b.tif"), str(MODEL), "cpu", umap=False)
    assert found.table["label"].tolist() == expected["label"].tolist()
    assert found.table["model_id"].tolist() == expected["model_id"].tolist()


def test_a_model_of_atoms_finds_what_it_found(tmp_path):
    atomicity(
        "atoms", SAMPLES / "atoms" / "images", "--out", tmp_path, "--model", ATOM_MODEL,
        "--device", "cpu", "--no-completeness",
    )  # fmt: skip
    for name in ("atoms.csv", "dispersion.csv"):
        assert_same_table(tmp_path / name, SAMPLES / "atoms" / "found" / name, rel=2e-3)


# ---- tables
@pytest.mark.parametrize("folder", ["analyse", "batch", "watch"])
def test_cluster_tables_are_read(folder):
    expected = pd.read_csv(SAMPLES / folder / "clusters.csv", keep_default_na=False)
    assert len(expected) > 20
    for name in ("clusters.csv", "clusters.parquet"):
        found = read_cluster_table(SAMPLES / folder / name)
        for column in ("image", "cluster_id", "label", "label_predicted"):
            assert found[column].tolist() == expected[column].tolist()
        for column in ("y_px", "confidence"):  # parsers differ in the last digit
            assert found[column].tolist() == pytest.approx(expected[column].tolist(), rel=1e-14)
    ratios = read_any_table(SAMPLES / folder / "ratios.csv")
    assert {"scope", "class", "count", "fraction", "fraction_low", "fraction_high"} <= {
        *ratios.columns
    }


def test_a_cluster_table_is_scored(tmp_path):
    table = SAMPLES / "analyse" / "clusters.csv"
    expected = json.loads((SAMPLES / "expected" / "evaluate.json").read_text(encoding="utf-8"))
    truth = SAMPLES / "corrections" / "corrected.csv"
    assert_same(atomicity("evaluate", table, truth), expected, "evaluate")


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_corrected_labels_are_read_by_adapt_and_train(suffix):
    path = SAMPLES / "corrections" / f"corrected{suffix}"
    expected = pd.read_csv(path.with_suffix(".csv"), keep_default_na=False)
    expected = expected[expected["label_corrected"] != ""].reset_index(drop=True)
    wanted = ["image", "cluster_id", "frame", "label_corrected", "y_px", "x_px"]
    found = corrections_for_adapt(path)
    assert_same(found[wanted], plain(expected[wanted]), "adapt")
    by_image = corrections_for_train(path, SAMPLES / "project")
    assert set(by_image) == {"a.tif", "b.tif"}
    for image, table in by_image.items():
        own = expected[expected["image"] == image]
        assert_same(table[wanted], plain(own[wanted]), f"train, {image}")


def test_a_table_of_atoms_begins_a_pack(tmp_path):
    table = SAMPLES / "atoms" / "found" / "atoms.csv"
    image = SAMPLES / "atoms" / "images" / "s.tif"
    atomicity("pack", image, "--out", tmp_path / "pack", "--predictions", table)
    atoms = read_any_table(table)
    marked = pd.read_csv(tmp_path / "pack" / "tables" / "s.tif.csv")
    assert len(marked) == (atoms["image"] == "s.tif").sum() > 10


# ---- packs
def _with_intervals(agreement: dict[str, Any]) -> list[dict[str, Any]]:
    """Rates of people, F1 of pairs, and scores of the model against the consensus and people."""
    model = agreement["model"]
    of_people = [*agreement["raters"], *agreement["pairs"]]
    return [*of_people, model["against_consensus"], *model["pairs"]]


def test_filled_packs_make_the_same_consensus(tmp_path):
    packs = [SAMPLES / "packs" / "ada.zip", SAMPLES / "packs" / "bo"]
    atoms = SAMPLES / "atoms" / "found" / "atoms.csv"
    said = atomicity("consensus", *packs, "--out", tmp_path, "--model-atoms", atoms, "--json")
    expected = SAMPLES / "consensus"
    for name in ("consensus.csv", "marks.csv"):
        assert_same_table(tmp_path / name, expected / name, rel=1e-9)
    then = json.loads((expected / "agreement.json").read_text())
    # They may be worded differently later.
    assert len(said.pop("notes")) == len(then.pop("notes"))
    for values in (said, then):
        assert values["model"]["one_more_expert"].pop("answer")
    # The mean of draws then, exact now.
    effect = said["effect"][2]
    drawn = then["effect"][2].pop("density_per_nm2")
    assert effect["density_per_nm2"] == pytest.approx(drawn, rel=0.01)
    # Percentiles of the bootstrap then, extended to Wilson's interval now.
    for now, before in zip(_with_intervals(said), _with_intervals(then), strict=True):
        for name in {key.removesuffix("_low") for key in before if key.endswith("_low")}:
            assert now.pop(f"{name}_low") <= before.pop(f"{name}_low") + 1e-9
            assert now.pop(f"{name}_high") >= before.pop(f"{name}_high") - 1e-9
    assert_same(said, then, "agreement.json")


def test_an_empty_pack_can_still_be_filled_in(samples, tmp_path):
    pack = samples / "packs" / "empty"
    atomicity("consensus", pack, "--out", tmp_path / "out", status=1)
    (pack / "annotator.txt").write_text("Fay\n", encoding="utf-8")
    (pack / "tables" / "s.tif.csv").write_text("X,Y,uncertain\n10,20,\n30.5,4,1\n")
    atomicity("consensus", pack, SAMPLES / "packs" / "bo", "--out", tmp_path / "out")
    marks = read_any_table(tmp_path / "out" / "marks.csv")
    assert marks.loc[marks["annotator"] == "Fay", "x_px"].tolist() == [10, 30.5]


# ---- many images
COMMON = ("--model", MODEL, "--device", "cpu", "--no-umap", "--json")


def test_a_batch_does_nothing_again(samples, forks):
    out = samples / "batch"
    before = {path.stem for path in (out / "clusters").glob("*.parquet")}
    images = [samples / "project" / name for name in IMAGES]
    run = atomicity("batch", *images, "--out", out, "--workers", 1, *COMMON)
    assert run["reused"] == 3 and run["problem"] is None
    assert before == parts_of(out).keys() and len(before) == 3
    assert [path.name for path in (out / "clusters").iterdir()] == ["part-00000.parquet"]
    for path in sorted((SAMPLES / "batch").glob("*.csv")):
        assert_same_table(out / path.name, path, rel=1e-9)


def test_a_batch_without_sessions_uses_the_same_parts(samples, forks):
    out = samples / "batch"
    images = [samples / "project" / name for name in IMAGES]
    alone = ("--session", "none")
    run = atomicity("batch", *images, "--out", out, "--workers", 1, *COMMON, *alone)
    assert run["reused"] == 3 and run["problem"] is None


def test_a_batch_of_sessions_analyses_images_again_whose_parts_lack_the_scale(samples, forks):
    out = samples / "batch"
    images = [samples / "project" / name for name in IMAGES]
    before = {path.stem for path in (out / "clusters").glob("*.parquet")}
    shutil.rmtree(out / "clusters" / "_scale")
    for reused in (0, 3):
        run = atomicity("batch", *images, "--out", out, "--workers", 1, *COMMON)
        assert run["reused"] == reused and run["problem"] is None
    assert parts_of(out).keys() == before


def test_parts_of_a_batch_hold_their_tables(samples):
    whole = pd.read_csv(samples / "batch" / "clusters.csv", keep_default_na=False)
    tables = parts_of(samples / "batch")
    assert len(tables) == 3
    found = pd.concat(tables.values()).sort_values(["image", "cluster_id"])
    columns = ["image", "cluster_id", "label", "y_px", "confidence"]
    assert_same(found[columns], plain(whole[columns]), "parts")


def test_a_watched_folder_goes_on(samples, tmp_path):
    folder, out = tmp_path / "watched", samples / "watch"
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        shutil.copy(samples / "project" / name, folder / name)
        os.utime(folder / name, ns=(MODIFIED_NS, MODIFIED_NS))
    (folder / "bad.tif").write_text("no image", encoding="utf-8")
    os.utime(folder / "bad.tif", ns=(MODIFIED_NS, MODIFIED_NS))
    parts = {path.stem for path in (out / "clusters").glob("*.parquet")}
    log = read_any_table(out / "live.csv")
    assert log["image"].tolist() == ["a.tif", "b.tif"]

    # The parts name the folder of that time: in this one the images are known by their content.
    run = atomicity("watch", folder, "--out", out, "--once", *COMMON, status=1)
    assert run["analysed"] == 0 and run["waiting"] == 0
    assert parts_of(out).keys() == parts
    for name in ("clusters.csv", "ratios.csv"):
        assert_same_table(out / name, SAMPLES / "watch" / name, rel=1e-9)
    assert read_any_table(out / "failures.csv")["image"].tolist() == ["bad.tif"]
    assert_same(read_any_table(out / "live.csv"), plain(log), "live.csv")

    # Now they are known by their files, as in a folder that has not moved. What comes is compared
    # with the images of then, and goes below them in the log.
    (folder / "bad.tif").unlink()
    pixels = tifffile.imread(folder / "a.tif")[::-1]
    known = {"resolution": (1 / 0.06, 1 / 0.06), "metadata": {"unit": "nm"}}
    tifffile.imwrite(folder / "c.tif", np.ascontiguousarray(pixels), imagej=True, **known)
    run = atomicity("watch", folder, "--out", out, "--once", *COMMON)
    assert run["analysed"] == 1 and run["waiting"] == 0
    grown = read_any_table(out / "live.csv")
    assert grown["image"].tolist() == ["a.tif", "b.tif", "c.tif"]
    assert grown["images"].tolist() == [1, 2, 3]
    assert grown["reference_images"].tolist() == [1, 2, 3]
    assert_same(grown.iloc[:2], plain(log), "live.csv")
