"""The commands about single atoms: files written, what fails, exit status, standard output."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage
from typer.testing import CliRunner

from napari_atomicity.atoms import cluster_atoms
from napari_atomicity.atoms.analysis import FLAT, AtomAnalysis
from napari_atomicity.atoms.table import COLUMNS, conform, empty_table
from napari_atomicity.cli import commands as cli
from napari_atomicity.core.errors import AtomicityError, Cancelled, ModelError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables.cluster_table import conform as conform_clusters
from napari_atomicity.io.tables import read_table, write_clusters, write_table
from napari_atomicity.pipeline import atom_runs
from napari_atomicity.pipeline.atom_runs import AtomRequest, find_atoms_in_images
from napari_atomicity.reporting import atom_files
from napari_atomicity.reporting.atom_figures import atom_overview, run_figures
from napari_atomicity.reporting.charts import write_figure
from napari_atomicity.reporting.plots import publication

pytestmark = pytest.mark.usefixtures("blank_figures")

PX_NM = 0.05
SITES = np.array([(20, 20), (20, 25), (30, 90), (70, 40), (90, 100), (100, 20), (60, 75)])


def atomicity(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def write_image(path: Path, sites=SITES, calibrated=True, seed=0) -> Path:
    pixels = np.zeros((120, 120))
    pixels[tuple(np.asarray(sites, int).reshape(-1, 2).T)] = 1
    pixels = 1000 + 9000 * ndimage.gaussian_filter(pixels, 1.5)
    pixels += np.random.default_rng(seed).normal(0, 4, pixels.shape)
    known = {"resolution": (1 / PX_NM, 1 / PX_NM), "metadata": {"unit": "nm"}}
    tifffile.imwrite(path, pixels.astype(np.uint16), imagej=True, **(known if calibrated else {}))
    return path


@pytest.fixture
def finder(monkeypatch):
    """Bright maxima instead of a network; the real one is trained and tested elsewhere."""
    card = SimpleNamespace(provenance=lambda: {"model_id": "stub-1", "sha256": "", "kind": "atoms"})
    model = SimpleNamespace(card=card, device="cpu")

    def find(micrograph, model, precision=None, threshold=None, progress=None, stop=None):
        pixel_size_nm = micrograph.calibrated()
        parts = []
        for index, frame in enumerate(micrograph.frames()):
            smooth = ndimage.gaussian_filter(frame, 1)
            peaks = (smooth == ndimage.maximum_filter(smooth, 3)) & (smooth > 1150)
            points = np.argwhere(peaks).astype(float)
            parts.append(
                pd.DataFrame(
                    {
                        "y_px": points[:, 0],
                        "x_px": points[:, 1],
                        "confidence": 0.9,
                        "frame": index,
                        "intensity": 1.0,
                        "sigma_nm": 0.07,
                    }
                )
            )
        table = pd.concat(parts, ignore_index=True)
        table["image"], table["origin"], table["model_id"] = micrograph.name, "model", "stub-1"
        table["atom_id"] = np.arange(1, len(table) + 1)
        for axis in "yx":
            table[f"{axis}_nm"] = table[f"{axis}_px"] * pixel_size_nm
        mask = np.ones(micrograph.data.shape, bool)
        return AtomAnalysis(
            micrograph, conform(table), threshold or 0.5, mask, pixel_size_nm, "stub-1",
            candidate_recall=0.75, parameters={"precision": precision}, seconds={"network": 0.1},
        )  # fmt: skip

    def load(name, device):
        if name != "default":
            raise ModelError(f"there is no model {name}")
        return model

    monkeypatch.setattr(atom_runs, "find_atoms", find)
    monkeypatch.setattr(atom_runs, "load_atom_model", load)
    monkeypatch.setattr(atom_files, "MANY_IMAGES", 0)
    monkeypatch.setattr(atom_files, "run_figures", lambda *_: {})
    settings = partial(atom_runs.DispersionSettings, simulations=3)
    monkeypatch.setattr(atom_runs, "DispersionSettings", settings)


def test_two_images_and_a_bad_one(finder, tmp_path, monkeypatch):
    monkeypatch.setattr(atom_files, "MANY_IMAGES", 3)
    monkeypatch.setattr(atom_files, "run_figures", run_figures)
    images = [write_image(tmp_path / f"{name}.tif", seed=i) for i, name in enumerate("ab")]
    (tmp_path / "bad.tif").write_bytes(b"no image")
    result = atomicity("atoms", *images, tmp_path / "bad.tif", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert "a.tif: 7 atoms (0.1 s)" in result.stderr and "1 image could not" in result.stderr
    summary = json.loads(result.stdout)
    assert [i["status"] for i in summary["images"]] == ["done", "done", "failed"]
    assert summary["atoms"] == 14 and "bad.tif" in summary["images"][2]["error"]

    out = tmp_path / "out"
    table = read_table(out / "atoms.csv")
    assert list(table.columns) == [*COLUMNS, "session", "sample"]
    pd.testing.assert_frame_equal(
        conform(table), conform(read_table(out / "atoms.parquet")), check_exact=True
    )
    found = table.loc[table["image"] == "a.tif", ["y_px", "x_px"]].to_numpy(int)
    assert sorted(map(tuple, found)) == sorted(map(tuple, SITES))
    # 20,20 and 20,25 are 0.25 nm apart.
    assert sorted(table.loc[table["image"] == "a.tif", "group_size"]) == [1] * 5 + [2] * 2

    rows = read_table(out / "dispersion.csv").set_index("image")
    folder = table["sample"].iloc[0]
    assert (table["session"] == folder).all() and len(set(table["sample"])) == 1
    groups = [f"session: {folder}", f"sample: {folder}"]
    assert list(rows.index) == ["a.tif", "b.tif", *groups, "all"]
    assert (rows.loc[groups, "n_atoms"] == 14).all()
    assert rows.loc["all", "n_atoms"] == 14 and rows.loc["a.tif", "n_atoms"] == 7
    # Seven candidates of 0.9 each on 36 nm², which are three quarters of the atoms.
    assert rows["density_per_nm2"].to_numpy() == pytest.approx(7 * 0.9 / 0.75 / 36)
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "partly failed" and record["model"]["model_id"] == "stub-1"
    assert [i["atoms"] for i in record["images"]] == [7, 7, None]
    assert set(record["outputs"]) >= {
        "atoms.csv",
        "dispersion.csv",
        "run.json",
        "ro-crate-metadata.json",
        "figures/a.tif atoms.png",
    }
    shown = [f"{image} {kind}" for image in ("a.tif", "b.tif")
             for kind in ("atoms", "density", "dispersion", "groups")]  # fmt: skip
    figures = {f"{name}.{kind}" for name in (*shown, "dispersion", "groups", "images")
               for kind in ("png", "svg")}  # fmt: skip
    assert figures == {path.name for path in (out / "figures").iterdir()}
    assert {f"figures/{name}" for name in figures} <= set(summary["files"])
    groups = read_table(out / "atom_groups.csv")
    assert groups["n_atoms"].tolist() == [2, 1, 1, 1, 1, 1] * 2
    assert groups["extent_nm"].tolist() == pytest.approx([0.25, 0, 0, 0, 0, 0] * 2)

    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('<section class="image"') == 2 and page.count("<img") == 11
    assert "14" in page and "bad.tif" in page and "model stub-1" in page
    assert 'src="http' not in page and "<script" not in page
    for name in summary["files"]:
        assert (out / name).stat().st_size > 0


def test_a_copy_is_warned_of_as_its_atoms_count_twice(finder, tmp_path):
    image = write_image(tmp_path / "a.tif", seed=1)
    (tmp_path / "b.tif").write_bytes(Path(image).read_bytes())
    result = atomicity("atoms", image, tmp_path / "b.tif", "--out", tmp_path / "out")
    words = "1 file has the content of others"
    assert result.exit_code == 0 and words in result.stderr
    assert words in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_files_of_an_earlier_run_do_not_stay_but_those_of_others_do(finder, tmp_path, monkeypatch):
    out, figures = tmp_path / "out", tmp_path / "out" / "figures"
    figures.mkdir(parents=True)
    own = [figures / "my own atoms.png", figures / "dispersion.svg", out / "cluster_atoms.csv"]
    outside = tmp_path / "precious.csv"
    for path in (*own, outside):
        path.touch()
    monkeypatch.setattr(atom_files, "MANY_IMAGES", 3)
    find_atoms_in_images([write_image(tmp_path / "a.tif")], out)
    assert all(path.exists() for path in own)
    assert (figures / "a.tif atoms.png").exists()
    record = json.loads((out / "run.json").read_text())
    record["outputs"] += ["../precious.csv", "cluster_atoms.csv"]
    (out / "run.json").write_text(json.dumps(record))
    find_atoms_in_images([write_image(tmp_path / "b.tif")], out)
    assert {f.name for f in figures.glob("* atoms.png")} == {"b.tif atoms.png", "my own atoms.png"}
    assert not list(figures.glob("a.tif *"))
    assert not own[2].exists() and outside.exists() and (out / "atoms.csv").exists()


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        '{"outputs": ["dispersion.svg", 3]}',
        '{"outputs": ["dispersion.svg"], "model": null}',
    ],
)
def test_the_record_of_something_else_costs_no_file(finder, tmp_path, record):
    figures = tmp_path / "out" / "figures"
    figures.mkdir(parents=True)
    (tmp_path / "out" / "run.json").write_text(record)
    (figures / "dispersion.svg").touch()
    find_atoms_in_images([write_image(tmp_path / "a.tif")], tmp_path / "out")
    assert (figures / "dispersion.svg").exists()


def test_the_metal_loading_is_in_tables_report_and_record(finder, tmp_path):
    image, out = write_image(tmp_path / "a.tif"), tmp_path / "out"
    wanted = ("--metal", "Pt", "--support-thickness-nm", "3", "--support-density", "2.1")
    result = atomicity("atoms", image, "--out", out, *wanted)
    assert result.exit_code == 0 and "wt% Pt" in result.stderr
    row = read_table(out / "dispersion.csv").iloc[-1]
    mass = row["loading_per_nm2"] * 195.08 / 6.02214e23
    expected = 100 * mass / (mass + 2.1e-21 * 3)
    assert row["loading_wt_percent"] == pytest.approx(expected, rel=1e-4)
    assert row["loading_wt_percent_low"] < expected < row["loading_wt_percent_high"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Pt / wt%" in page and "195.08 g/mol (Pt)" in page
    record = json.loads((out / "run.json").read_text())
    assert record["parameters"]["loading"] == {
        "metal": "Pt", "support_thickness_nm": 3.0, "support_density_g_cm3": 2.1,
        "support_thickness_uncertainty": 0.0,
    }  # fmt: skip
    again = atomicity("atoms", "--settings", out / "run.json", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.stderr
    same = read_table(tmp_path / "again" / "dispersion.csv").iloc[-1]
    assert same["loading_wt_percent"] == row["loading_wt_percent"]


def test_samples_are_folders_or_of_a_table_and_are_compared(finder, tmp_path):
    for folder, sites in (("fresh", SITES), ("spent", SITES[:4])):
        (tmp_path / folder).mkdir()
        for i in range(2):
            write_image(tmp_path / folder / f"{folder}_{i}.tif", sites, seed=i)
    images, out = [tmp_path / "fresh", tmp_path / "spent"], tmp_path / "out"
    assert atomicity("atoms", *images, "--out", out).exit_code == 0
    rows = read_table(out / "dispersion.csv").set_index("image")
    assert rows.loc["sample: fresh", "n_atoms"] == 14 and rows.loc["sample: spent", "n_atoms"] == 8
    report = (out / "report.html").read_text("utf-8")
    assert "<h2>Samples</h2>" in report and "The density of the atoms is" in report
    done = atomicity("compare", out, "--out", tmp_path / "compared")
    assert done.exit_code == 0 and "The density of the atoms is" in done.stderr, done.stderr
    table = tmp_path / "samples.csv"
    table.write_text("image,sample\nfresh_*,before\nspent_*,after\n")
    again = tmp_path / "again"
    assert atomicity("atoms", *images, "--samples", table, "--out", again).exit_code == 0
    assert set(read_table(again / "atoms.csv")["sample"]) == {"before", "after"}
    table.write_text("image,sample\nother_*,before\n")
    bad = atomicity("atoms", *images, "--samples", table, "--out", tmp_path / "bad")
    assert bad.exit_code == 2 and "samples.csv: the table of samples is for other_*" in bad.stderr


def test_without_a_metal_there_is_no_loading_in_weight(finder, tmp_path):
    result = atomicity("atoms", write_image(tmp_path / "a.tif"), "--out", tmp_path / "out")
    assert "wt%" not in result.stderr + (tmp_path / "out" / "report.html").read_text("utf-8")
    rows = read_table(tmp_path / "out" / "dispersion.csv")
    assert rows["loading_wt_percent"].isna().all()
    assert (rows["loading_per_nm2"] == rows["density_per_nm2"]).all()


def test_atoms_and_support_in_given_regions(finder, tmp_path):
    write_image(tmp_path / "a.tif")
    mask = np.zeros((120, 120), np.uint8)
    mask[:, :60] = 1  # 3 of the 7 atoms, on half of the area
    tifffile.imwrite(tmp_path / "a_masks.tif", mask)
    out = tmp_path / "out"
    ended = atomicity("atoms", tmp_path, "--rois", tmp_path, "--out", out)
    assert ended.exit_code == 0, ended.output
    found = read_table(out / "atoms.csv")[["y_px", "x_px"]].to_numpy(int)
    assert sorted(map(tuple, found)) == sorted(site for site in map(tuple, SITES) if site[1] < 60)
    row = read_table(out / "dispersion.csv").set_index("image").loc["a.tif"]
    assert row["support_nm2"] == pytest.approx(18, rel=0.03)
    assert row["density_per_nm2"] == pytest.approx(4 * 0.9 / 0.75 / 18, rel=0.03)
    image = json.loads((out / "run.json").read_text())["images"][0]
    rois = image["parameters"]["rois"]
    assert rois["source"] == str(tmp_path / "a_masks.tif") and rois["atoms_outside"] == 3


def test_regions_of_another_size_fail_the_image_and_missing_ones_the_run(finder, tmp_path):
    image, out = write_image(tmp_path / "a.tif"), tmp_path / "out"
    tifffile.imwrite(tmp_path / "small.tif", np.ones((60, 60), np.uint8))
    ended = atomicity("atoms", image, "--rois", tmp_path / "small.tif", "--out", out)
    assert ended.exit_code == 1 and "60 × 60 pixels" in ended.stderr
    ended = atomicity("atoms", image, "--rois", tmp_path / "none.zip", "--out", out)
    assert ended.exit_code == 2 and "none.zip" in ended.stderr


def test_groups_by_another_distance(finder, tmp_path):
    image = write_image(tmp_path / "a.tif")
    run = find_atoms_in_images([image], tmp_path / "o", AtomRequest(group_distance_nm=0.2))
    assert (run.table["group_size"] == 1).all()
    assert run.dispersion["group_distance_nm"].tolist() == [0.2] * 4


def test_an_image_without_atoms_has_a_row_and_no_density(finder, tmp_path):
    empty = write_image(tmp_path / "empty.tif", sites=[])
    run = find_atoms_in_images([empty], tmp_path / "out")
    assert len(run.table) == 0 and not run.failed
    assert run.dispersion["n_atoms"].tolist() == [0] * 4
    assert run.dispersion["density_per_nm2"].tolist() == [0] * 4
    assert (run.dispersion["density_high_per_nm2"] > 0).all()
    columns = read_table(tmp_path / "out" / "atoms.csv").columns
    assert list(columns) == [*COLUMNS, "session", "sample"]


def test_an_image_without_contrast_is_warned_of_and_in_no_density(finder, tmp_path, monkeypatch):
    find = atom_runs.find_atoms

    def noting(micrograph, *args, **options):
        flat = [i for i, frame in enumerate(micrograph.frames()) if not np.ptp(frame)]
        return replace(find(micrograph, *args, **options), parameters={FLAT: flat})

    monkeypatch.setattr(atom_runs, "find_atoms", noting)
    image = write_image(tmp_path / "a.tif")
    known = {"resolution": (1 / PX_NM, 1 / PX_NM), "metadata": {"unit": "nm"}}
    flat = tmp_path / "b.tif"
    tifffile.imwrite(flat, np.full((120, 120), 1000, np.uint16), imagej=True, **known)
    run = find_atoms_in_images([image, flat], tmp_path / "out")
    assert [o.status for o in run.outcomes] == ["done", "done"]
    assert run.outcomes[0].warnings == () and "no contrast" in run.outcomes[1].warnings[0]
    rows = run.dispersion.set_index("image")
    assert np.isnan(rows.loc["b.tif", "density_per_nm2"])
    assert rows.loc["all", "support_nm2"] == pytest.approx(36)


def test_a_stack_is_analysed_frame_by_frame(finder, tmp_path):
    frames = [tifffile.imread(write_image(tmp_path / "f.tif", SITES[k:])) for k in (0, 2)]
    known = {"resolution": (1 / PX_NM, 1 / PX_NM), "metadata": {"unit": "nm", "axes": "TYX"}}
    tifffile.imwrite(tmp_path / "stack.tif", np.stack(frames), imagej=True, **known)
    run = find_atoms_in_images([tmp_path / "stack.tif"], tmp_path / "out")
    assert run.table.groupby("frame").size().tolist() == [7, 5]
    assert run.dispersion["support_nm2"].tolist() == pytest.approx([72] * 4)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "stack.tif (2 frames)" in text and "12 atoms in all frames of 1 image" in text


def test_clusters_of_a_frame_are_counted_on_its_own_support(finder, tmp_path, monkeypatch):
    seen = []

    def find(*args, found=atom_runs.find_atoms, **options):
        analysis = found(*args, **options)
        analysis.support[1] = False  # the second frame is vacuum
        return analysis

    def count(*args, counted=cluster_atoms.count_atoms_by_intensity, **options):
        seen.append(args[4])
        return counted(*args, **options)

    monkeypatch.setattr(atom_runs, "find_atoms", find)
    monkeypatch.setattr(cluster_atoms, "count_atoms_by_intensity", count)
    pixels = tifffile.imread(write_image(tmp_path / "f.tif"))
    known = {"resolution": (1 / PX_NM, 1 / PX_NM), "metadata": {"unit": "nm", "axes": "TYX"}}
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([pixels] * 2), imagej=True, **known)
    table = pd.DataFrame({"image": ["stack.tif"], "cluster_id": [1], "diameter_nm": 0.6})
    table["y_px"], table["x_px"], table["y_nm"], table["x_nm"] = 20.0, 22.0, 1.0, 1.1
    clusters = write_clusters(conform_clusters(table), tmp_path / "clusters.csv")
    run = find_atoms_in_images(
        [tmp_path / "stack.tif"], tmp_path / "out", AtomRequest(clusters=str(clusters))
    )
    assert not run.failed and len(read_table(tmp_path / "out" / "cluster_atoms.csv")) == 1
    assert seen[0].shape == (2, 120, 120) and seen[0][0].all() and not seen[0][1].any()


def test_atoms_know_their_cluster_and_clusters_their_atoms(finder, tmp_path):
    image = write_image(tmp_path / "a.tif")
    table = pd.DataFrame({"image": ["a.tif"] * 2, "cluster_id": [7, 8]})
    table["y_px"], table["x_px"] = [20.0, 90.0], [22.0, 60.0]
    for axis in "yx":
        table[f"{axis}_nm"] = table[f"{axis}_px"] * PX_NM
    table["diameter_nm"], table["label_predicted"], table["label"] = 0.6, "Pt19", "Pt19"
    table["p_Pt19"] = table["confidence"] = 1.0
    clusters = write_clusters(conform_clusters(table, ["Pt19"]), tmp_path / "clusters.csv")
    out = tmp_path / "out"
    result = atomicity("atoms", image, "--out", out, "--clusters", clusters)
    assert result.exit_code == 0, result.stderr
    atoms = conform(read_table(out / "atoms.csv"))
    held = atoms.loc[atoms["cluster_id"] == 7, "atom_id"].tolist()
    assert len(held) == 2 and atoms["cluster_id"].notna().sum() == 2
    told = read_table(out / "cluster_atoms.csv")
    assert list(told.columns) == list(cluster_atoms.COLUMNS)
    assert told["label"].tolist() == ["Pt19", "Pt19"] and told["yardstick_reason"].all()
    assert told["n_atoms_found"].tolist() == [2, 0]
    assert str(told["atom_ids"].iloc[0]) == "|".join(map(str, held))
    # What belongs to an earlier run does not stay behind.
    find_atoms_in_images([image], out)
    assert not (out / "cluster_atoms.csv").exists()
    other = write_image(tmp_path / "other.tif")
    run = find_atoms_in_images([other], out, AtomRequest(clusters=str(clusters)))
    assert "no cluster of this image" in run.outcomes[0].warnings[0]
    request = AtomRequest(clusters=str(clusters), pixel_size_nm=1.2 * PX_NM)
    said = " ".join(find_atoms_in_images([image], out, request).outcomes[0].warnings)
    assert (
        f"measured with {PX_NM:.4g} nm per pixel" in said and "Analyse the clusters again" in said
    )


def test_a_table_of_atoms_is_none_of_clusters(finder, tmp_path):
    image = write_image(tmp_path / "a.tif")
    find_atoms_in_images([image], tmp_path / "out")
    atoms = tmp_path / "out" / "atoms.csv"
    result = atomicity("atoms", image, "--out", tmp_path / "other", "--clusters", atoms)
    assert result.exit_code == 2
    assert "atoms.csv: this is a table of atoms, not of clusters" in result.stderr
    table = read_table(atoms).drop(columns="atom_id")
    write_table(table, tmp_path / "bad.csv")  # without a single cluster_id
    result = atomicity("atoms", image, "--out", tmp_path / "o", "--clusters", tmp_path / "bad.csv")
    assert result.exit_code == 2 and "bad.csv: " in result.stderr and "cluster_id" in result.stderr


@pytest.mark.parametrize("pixel_size_nm", [PX_NM * 1e4, 0.001])
def test_of_a_pixel_size_that_can_hardly_be_there_is_a_warning(finder, tmp_path, pixel_size_nm):
    image, out = write_image(tmp_path / "a.tif", sites=[]), tmp_path / "out"
    result = atomicity("atoms", image, "--out", out, "--pixel-size-nm", pixel_size_nm)
    assert "no atoms can be seen" in result.stderr and "--pixel-size-nm" in result.stderr
    record = json.loads((out / "run.json").read_text())
    assert any("no atoms can be seen" in said for said in record["images"][0]["warnings"])
    result = atomicity("atoms", image, "--out", out, "--pixel-size-nm", PX_NM)
    assert "can be seen" not in result.stderr


def test_marks_by_a_person_are_in_the_picture_of_the_atoms():
    micrograph = Micrograph(np.zeros((120, 120), np.float32), PX_NM, name="marked")
    table = conform(
        pd.DataFrame(
            {
                "image": "marked",
                "atom_id": [1, 2, 3],
                "frame": 0,
                "y_nm": [1.0, 2.0, 3.0],
                "x_nm": [1.0, 2.0, 3.0],
                "confidence": [0.9, np.nan, np.nan],
            }
        )
    )
    axes = atom_overview(micrograph, table).axes[0]
    rings, squares = axes.collections[-2:]
    assert (len(rings.get_offsets()), len(squares.get_offsets())) == (1, 2)
    assert (squares.get_edgecolors()[:, 3] == 1).all()
    assert "3 atoms, 2 by a person" in axes.get_title(loc="left")


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2)])
def test_a_strip_is_drawn_on_a_page_and_without_a_word(tmp_path, shape):
    analysis = AtomAnalysis(
        Micrograph(np.zeros(shape, np.float32), PX_NM, name="strip"),
        empty_table(), 0.5, np.ones(shape, bool), PX_NM, "stub-1",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = atom_overview(analysis.micrograph, analysis.table)
        write_figure(figure, tmp_path / "strip")
    assert max(figure.get_size_inches()) < 30


def test_one_atom_beside_the_support_counts_in_no_density(finder, tmp_path, monkeypatch):
    mask = np.ones((120, 120), bool)
    mask[95:, :40] = False  # under the one at 100, 20

    def find(*args, found=atom_runs.find_atoms, **options):
        return replace(found(*args, **options), support=mask)

    monkeypatch.setattr(atom_runs, "find_atoms", find)
    run = find_atoms_in_images([write_image(tmp_path / "a.tif")], tmp_path / "out")
    assert run.outcomes[0].warnings == ("1 atom lies off the support and counts in no density",)


@pytest.mark.usefixtures("drawn_figures")
def test_figures_are_written_at_the_size_of_a_publication(finder, tmp_path, monkeypatch):
    monkeypatch.setattr(atom_files, "MANY_IMAGES", 3)
    monkeypatch.setattr(publication, "SUFFIXES", (".svg",))  # PDF takes half a second each
    images = [write_image(tmp_path / f"{name}.tif") for name in "ab"]
    result = atomicity("atoms", *images, "--out", tmp_path / "out", "--figures", tmp_path / "f")
    assert result.exit_code == 0
    files = {path.name: path for path in (tmp_path / "f").iterdir()}
    drawn = {name.removesuffix(".csv") for name in files if name.endswith(".csv")}
    assert {"a.tif atoms", "b.tif density", "b.tif groups", "groups", "images"} <= drawn
    assert len(files) == 3 * len(drawn)  # two widths, and the numbers
    assert len(read_table(files["a.tif atoms.csv"])) == 7
    density = read_table(files["a.tif density.csv"])
    of_run = read_table(tmp_path / "out" / "dispersion.csv").set_index("image")
    counted = of_run.loc["a.tif", "density_counted_per_nm2"]
    assert density["density_per_nm2"].mean() == pytest.approx(counted, rel=0.3)
    svg = files["a.tif atoms_one_column.svg"].read_text()
    assert float(re.search(r'width="([\d.]+)pt"', svg)[1]) / 72 * 2.54 == pytest.approx(8.5)


def test_a_folder_for_figures_that_can_not_be_made_stops_the_run_before_it_begins(finder, tmp_path):
    (tmp_path / "f").write_text("a file")
    image = write_image(tmp_path / "a.tif")
    result = atomicity("atoms", image, "--out", tmp_path / "out", "--figures", tmp_path / "f")
    assert result.exit_code and "f" in result.stderr and not any((tmp_path / "out").glob("*.csv"))


def test_stopped_early_what_is_done_is_written(finder, tmp_path):
    images = [write_image(tmp_path / f"{name}.tif") for name in "ab"]
    seen = []

    def stop():
        return len(seen) > 0

    run = find_atoms_in_images(
        images, tmp_path / "out", stop=stop, on_outcome=lambda o, a: seen.append(o)
    )
    assert run.interrupted and [o.status for o in run.outcomes] == ["done", "not reached"]
    assert len(read_table(tmp_path / "out" / "atoms.csv")) == 7
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"


def test_stopped_in_an_image_is_130(finder, tmp_path, monkeypatch):
    def cancelled(*args, **kwargs):
        raise Cancelled

    monkeypatch.setattr(atom_runs, "find_atoms", cancelled)
    image = write_image(tmp_path / "a.tif")
    result = atomicity("atoms", image, "--out", tmp_path / "out")
    assert result.exit_code == 130 and (tmp_path / "out" / "atoms.csv").is_file()


def test_without_a_pixel_size_it_is_asked_for(finder, tmp_path):
    image = write_image(tmp_path / "a.tif", calibrated=False)
    result = atomicity("atoms", image, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "--pixel-size-nm" in result.stderr
    result = atomicity("atoms", image, "--out", tmp_path / "out", "--pixel-size-nm", PX_NM)
    assert result.exit_code == 0 and result.stdout == ""
    assert "atoms per nm² of support" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--precision", "1.5"),
        ("--precision", "0.9", "--threshold", "0.5"),
        ("--group-distance-nm", "0"),
        ("--model", "none"),
        ("--clusters", "none.csv"),
        ("--device", "tpu"),
        ("--metal", "Xx", "--support-thickness-nm", "3"),
        ("--metal", "Pt"),
        ("--support-thickness-nm", "3"),
        ("--metal", "Pt", "--support-thickness-nm", "0"),
    ],
)
def test_wrong_usage_is_2(finder, tmp_path, arguments):
    image = write_image(tmp_path / "a.tif")
    result = atomicity("atoms", image, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert not (tmp_path / "out" / "run.json").exists()


def test_files_that_are_missing_and_impossible_distances_are_2(finder, tmp_path):
    image, atoms = write_image(tmp_path / "a.tif"), tmp_path / "atoms.csv"
    atoms.write_text("image,atom_id,y_nm,x_nm\na.tif,1,1,1\n")
    clusters = tmp_path / "clusters.csv"
    clusters.write_text("cluster_id,label\n1,Pt19\n")
    pack, none, out = tmp_path / "p", tmp_path / "none.csv", ("--out", tmp_path / "out")
    assert atomicity("pack", image, "--out", pack).exit_code == 0
    for arguments, said in (
        (("evaluate", none, atoms), "none.csv"),
        (("evaluate", atoms, none), "none.csv"),
        (("evaluate", atoms, atoms, "--tolerance-nm", "0"), "0.001"),
        (("atoms", image, *out, "--group-distance-nm", "0"), "0.001"),
        (("pack", none, *out), "none.csv"),
        (("pack", image, *out, "--predictions", none), "none.csv"),
        (("pack", image, *out, "--predictions", clusters), "lacks the columns image, y_px"),
        (("consensus", none, *out), "none.csv"),
        (("consensus", pack, *out, "--model-atoms", none), "none.csv"),
        (("consensus", pack, *out, "--model-atoms", clusters), "lacks the columns image, y_nm"),
        (("consensus", pack, *out, "--model-atoms", image), "tables can't be .tif"),
    ):
        result = atomicity(*arguments)
        words = " ".join(result.stderr.replace("│", " ").split())
        assert result.exit_code == 2 and said in words, arguments
        assert "Traceback" not in result.output and not (tmp_path / "out").exists()


def test_impossible_requests():
    with pytest.raises(AtomicityError, match="precision"):
        AtomRequest(precision=-0.1)


# ---- evaluate
def test_evaluate_tells_atoms_from_clusters(finder, tmp_path):
    image = write_image(tmp_path / "a.tif")
    find_atoms_in_images([image], tmp_path / "out")
    (tmp_path / "labels").mkdir()
    rows = "".join(f"{i},{x},{y}\n" for i, (y, x) in enumerate(SITES[1:], 1))
    (tmp_path / "labels" / "a_atoms_xy_px.csv").write_text(" ,X,Y\n" + rows)
    for truth in (tmp_path / "labels", tmp_path / "labels" / "a_atoms_xy_px.csv"):
        result = atomicity("evaluate", tmp_path / "out" / "atoms.csv", truth)
        assert result.exit_code == 0, result.stderr
        scores = json.loads(result.stdout)
        assert scores["kind"] == "points" and scores["tolerance_nm"] == 0.15
        assert scores["detection"]["recall"] == 1 and scores["detection"]["precision"] == 6 / 7
    result = atomicity("evaluate", truth, truth)
    assert result.exit_code == 1 and "pixel size" in result.stderr


def test_evaluate_of_an_empty_file_and_of_a_folder_without_tables(tmp_path):
    (tmp_path / "truth.csv").write_text("X,Y\n3,4\n")
    (tmp_path / "none.csv").write_text("")
    result = atomicity("evaluate", tmp_path / "none.csv", tmp_path / "truth.csv")
    assert json.loads(result.stdout)["detection"]["recall"] == 0
    (tmp_path / "folder").mkdir()
    result = atomicity("evaluate", tmp_path / "truth.csv", tmp_path / "folder")
    assert result.exit_code == 1 and "no .csv" in result.stderr


# ---- packs and consensus
def test_from_images_to_a_consensus_beside_a_model(finder, tmp_path):
    images = [write_image(tmp_path / f"{name}.tif", seed=i) for i, name in enumerate("ab")]
    find_atoms_in_images(images, tmp_path / "out")
    packs = []
    for i, name in enumerate(("Ada", "Bo", "Cy")):
        folder = tmp_path / name
        result = atomicity("pack", *images, "--out", folder, "--annotator", name, "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["zip"] == str(folder) + ".zip"
        marks = pd.DataFrame(np.delete(SITES, i, axis=0) + 0.3 * i, columns=["Y", "X"])
        for image in ("a.tif", "b.tif"):
            marks.to_csv(folder / "tables" / f"{image}.csv", index=False)
        packs.append(folder)
    out = tmp_path / "agreed"
    result = atomicity(
        "consensus", *packs, "--out", out, "--model-atoms", tmp_path / "out" / "atoms.csv", "--json"
    )
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said == json.loads((out / "agreement.json").read_text())
    assert said["sites_believed"] == 14 and len(read_table(out / "consensus.csv")) == 14
    assert [p["f1"] for p in said["pairs"]] == pytest.approx([2 * 10 / 24] * 3)
    assert said["model"]["against_consensus"]["f1"] == 1
    assert said["model"]["one_more_expert"]["difference"] > 0
    assert len(read_table(out / "marks.csv")) == 36
    assert "14 atoms by consensus of 3 people" in result.stderr


def test_a_pack_is_replaced_with_overwrite_only(tmp_path):
    image, out = write_image(tmp_path / "a.tif"), tmp_path / "p"
    assert atomicity("pack", image, "--out", out).exit_code == 0
    (out / "tables" / "a.tif.csv").write_text("X,Y\n1,2\n")
    refused = atomicity("pack", image, "--out", out)
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr
    assert (out / "tables" / "a.tif.csv").read_text() == "X,Y\n1,2\n"
    assert atomicity("pack", image, "--out", out, "--overwrite").exit_code == 0
    assert (out / "tables" / "a.tif.csv").read_text() != "X,Y\n1,2\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    kept = atomicity("pack", image, "--out", tmp_path / "mine", "--overwrite")
    assert kept.exit_code == 1 and (tmp_path / "mine" / "thesis.txt").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "p", "p.zip", "mine"}


def test_packs_that_nobody_filled_in_or_filled_in_badly(tmp_path):
    image = write_image(tmp_path / "a.tif")
    atomicity("pack", image, "--out", tmp_path / "p")
    result = atomicity("consensus", tmp_path / "p", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "annotations" in result.stderr
    (tmp_path / "p" / "tables" / "a.tif.csv").write_text("X,Y\n1,900\n")
    result = atomicity("consensus", tmp_path / "p", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "tables/a.tif.csv, line 2: Y is 900" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_pack_with_predictions_is_not_blind(finder, tmp_path):
    image = write_image(tmp_path / "a.tif")
    find_atoms_in_images([image], tmp_path / "out")
    atoms = tmp_path / "out" / "atoms.csv"
    result = atomicity("pack", image, "--out", tmp_path / "p", "--predictions", atoms)
    assert result.exit_code == 0
    assert len((tmp_path / "p" / "tables" / "a.tif.csv").read_text().splitlines()) == 8
    assert json.loads((tmp_path / "p" / "manifest.json").read_text())["blind"] is False


# ---- train
def test_train_passes_on_what_is_asked_and_refuses_the_rest(tmp_path, monkeypatch):
    from napari_atomicity.atoms.finding.card import AtomCard
    from napari_atomicity.training import atoms as training

    asked = []

    def train_atoms(data, out, **options):
        asked.append((data, out, options))
        return AtomCard("m", sha256="0123456789", scores={"mine": {"f1": 0.75, "marked": 30}})

    monkeypatch.setattr(training, "train_atoms", train_atoms)
    model = tmp_path / "m.safetensors"
    usual = ("train", "--kind", "atoms", "--out", model)
    result = atomicity(*usual, "--data", tmp_path, "--seed", "3", "--json")
    assert result.exit_code == 0, result.stderr
    assert asked[0][0] == tmp_path and asked[0][2]["recipe"].settings.seed == 3
    assert json.loads(result.stdout)["model_id"] == "m-01234567"
    assert "mine: F1 0.750 on held-out images, 30 marked atoms" in result.stderr
    assert atomicity(*usual).exit_code == 2
    assert atomicity(*usual, "--data", tmp_path, "--epochs", "3").exit_code == 2


def test_train_without_marked_images_is_2(tmp_path):
    write_image(tmp_path / "a.tif")
    result = atomicity("train", "--kind", "atoms", "--data", tmp_path, "--out", "m.safetensors")
    assert result.exit_code == 2 and "Traceback" not in result.output
