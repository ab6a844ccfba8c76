"""Results are written although a later statistic fails, and what failed is named."""

from __future__ import annotations

import json
import re
from functools import partial

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_atomicity import load
from napari_atomicity.atoms import dispersion as atom_dispersion
from napari_atomicity.atoms.dispersion import DispersionSettings, compute_dispersions
from napari_atomicity.cli import commands as cli
from napari_atomicity.core.errors import AtomicityError, Cancelled, attempt, format_failed
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.pipeline import analysis, atom_runs
from napari_atomicity.pipeline.atom_runs import find_atoms_in_images
from napari_atomicity.pipeline.live import watch
from napari_atomicity.pipeline.live.watch import Watch
from napari_atomicity.pipeline.run_request import AtomRequest, RunRequest
from napari_atomicity.pipeline.runs import finalize, parts, session_pass
from napari_atomicity.reporting import atom_files
from napari_atomicity.simulation.example_data import atom_example_path
from napari_atomicity.state import export as exports
from napari_atomicity.statistics.ratios import reference
from support import synthetic_analysis


def broken(*_, **__):
    raise ValueError("attempt to get argmin of an empty sequence")


REASON = "unexpected ValueError: attempt to get argmin of an empty sequence"


def atomicity(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize(
    "module, function, name, of_image",
    [
        (atom_runs, "compute_image_dispersion", "dispersion", True),
        (atom_files, "image_figures", "figure", True),
        (atom_files, "pool_scopes", "dispersion of all images", False),
        (atom_files, "run_figures", "figures", False),
        (atom_files, "write_atom_report", "report", False),
    ],
)
def test_atoms_are_written_whatever_fails_later(
    module, function, name, of_image, tmp_path, monkeypatch
):
    settings = partial(atom_runs.DispersionSettings, simulations=2)
    monkeypatch.setattr(atom_runs, "DispersionSettings", settings)
    monkeypatch.setattr(module, function, broken)
    out = tmp_path / "out"
    (out).mkdir()
    (out / "report.html").write_text("of an earlier run")
    example = load(atom_example_path())
    known = {"resolution": (1 / example.pixel_size_nm,) * 2, "metadata": {"unit": "nm"}}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, example.data[:160, :160].astype(np.uint16), imagej=True, **known)
    run = find_atoms_in_images([path], out, AtomRequest(completeness=False))
    assert len(read_table(out / "atoms.csv")) == len(run.table) > 1 and not run.failed
    groups = [f"{kind}: {tmp_path.name}" for kind in ("session", "sample")]
    image = run.outcomes[0].image
    assert list(read_table(out / "dispersion.csv")["image"]) == [image, *groups, "all"]
    record = record_of(out)
    assert record["status"] == "partly failed" and record["images"][0]["status"] == "done"
    where = record["images"][0]["parameters"] if of_image else record
    assert where["failed_statistics"] == {name: REASON}
    if of_image:
        assert name in " ".join(record["images"][0]["warnings"])
    page = out / "report.html"
    assert page.exists() is (name != "report") is ("report.html" in record["outputs"])


@pytest.mark.parametrize(
    "module, function, name, of_image",
    [
        (analysis, "embed_clusters", "map", True),
        (analysis, "_lone_atoms", "intensity of lone atoms", True),
        (parts, "image_section", "section of the report", True),
        (session_pass, "fit_measurements", "scale of the session", True),
        (reference, "class_ratios", "ratios", False),
        (finalize, "write_report", "report", False),
    ],
)
def test_clusters_are_written_whatever_fails_later(
    module, function, name, of_image, images, tmp_path, tiny_model, monkeypatch
):
    monkeypatch.setattr(module, function, broken)
    out = tmp_path / "out"
    two = [images / "0.tif", images / "1.tif"]
    result = atomicity("analyse", *two, "--out", out, "--model", tiny_model, "--device", "cpu")
    assert result.exit_code == 1 and name in result.stderr and REASON in result.stderr
    assert re.search(r"\d statistics? could not be computed", result.stderr)
    assert set(read_clusters(out / "clusters.csv")["image"]) == {"0.tif", "1.tif"}
    assert (out / "ratios.csv").exists()
    record = record_of(out)
    assert record["images_failed"] == 0 and record["status"] == "partly failed"
    where = record["images"][0]["parameters"] if of_image else record
    assert where["failed_statistics"] == {name: REASON}


def test_parts_of_a_batch_and_a_watched_folder_are_kept(images, tmp_path, tiny_model, monkeypatch):
    for module, function in (
        (parts, "describe_drawing"),
        (watch, "conditions_of"),
        (session_pass, "fit_measurements"),
        (reference, "class_ratios"),
    ):
        monkeypatch.setattr(module, function, broken)
    monkeypatch.setattr(watch.WatchedImages, "draw", lambda *_: None)
    request = RunRequest(str(tiny_model), "cpu", umap=False)
    told = []
    run = Watch(images, tmp_path / "out", request, settle_s=0.02).run(told.append, None, 0.0)
    assert len(run.outcomes) == 5 and not run.failed
    for outcome in run.outcomes:
        assert outcome.parameters["failed_statistics"]["conditions"] == REASON
    assert set(read_clusters(tmp_path / "out" / "clusters.csv")["image"]) == {
        f"{i}.tif" for i in range(5)
    }
    analysed = analysis.analyse(load(images / "0.tif"), str(tiny_model), "cpu")
    outcome = run.outcomes[0]
    part = parts.make_part(analysed, outcome, ModelCard("x", ("Pt19", "Pt70")))
    assert part.parquet is not None and part.drawing is None
    assert part.outcome.parameters["failed_statistics"]["section of the report"] == REASON


def test_the_window_keeps_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "class_ratios", broken)
    monkeypatch.setattr(exports, "write_report", broken)
    with pytest.raises(AtomicityError, match=r"ratios.*argmin.*report"):
        exports.export([synthetic_analysis(20)], tmp_path, exports.Choices(figures=False))
    assert len(read_clusters(tmp_path / "clusters.csv")) == 20
    assert set(record_of(tmp_path)["failed_statistics"]) == {"ratios", "report"}


def test_an_error_of_one_image_leaves_the_dispersion_of_the_others(monkeypatch):
    from atoms.test_dispersion import atoms_of

    real = atom_dispersion.compute_image_dispersion

    def one_fails(atoms, *more):
        return broken() if atoms.image == "a" else real(atoms, *more)

    monkeypatch.setattr(atom_dispersion, "compute_image_dispersion", one_fails)
    images = {name: atoms_of(name) for name in "ab"}
    found = compute_dispersions(images, DispersionSettings(simulations=2))
    assert found.reasons == {"a": REASON} and found.dispersion is not None


def test_a_cancelled_statistic_is_none_that_failed():
    failed = {}

    def cancelled():
        raise Cancelled

    with pytest.raises(Cancelled):
        attempt(failed, "map", cancelled)
    assert attempt(failed, "sum", lambda: np.sum([1, 2])) == 3 and not failed
    assert attempt(failed, "map", broken) is None
    assert format_failed({"failed_statistics": failed}) == (f"Could not compute: map ({REASON}).",)
