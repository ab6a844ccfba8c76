"""A session into a folder: every file whole, and what can't be read costs a line."""

import json
import multiprocessing
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_atomicity.core.acquisition_session import AcquisitionSession
from napari_atomicity.core.errors import AtomicityError, Cancelled, ModelError, TableError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.processes import background_process
from napari_atomicity.core.tables.cluster_table import concatenate, settle_labels
from napari_atomicity.io.files import write_json
from napari_atomicity.io.images import load
from napari_atomicity.io.readers.lazy_micrograph import LazyMicrograph, PixelCache
from napari_atomicity.io.reference_ratios import parse_reference
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.project import EditKind, ImageEdit, Project
from napari_atomicity.reporting.plots.registry import PLOTS, SUFFIXES
from napari_atomicity.state import export as exports
from napari_atomicity.state.export import (
    CHARTS,
    Choices,
    Contents,
    agreement_table,
    cards_of,
    export,
    sampled_accuracy,
)
from napari_atomicity.state.review_queue import Queue, ReviewRequest, Stratum, build
from napari_atomicity.state.window_state import WindowState
from napari_atomicity.statistics.ratios.ratios import class_ratios
from support import CLASSES, synthetic_analysis

pytestmark = pytest.mark.usefixtures("blank_figures")

TABLES = {f"{n}.{s}" for n in ("clusters", "ratios") for s in ("csv", "parquet", "xlsx")}
ALWAYS = {
    "clusters.csv",
    "clusters.parquet",
    "ratios.csv",
    "ratios.parquet",
    "run.json",
    "ro-crate-metadata.json",
}


def analyses(n=2, clusters=20) -> list[Analysis]:
    return [synthetic_analysis(clusters, f"{i}.tif", seed=i) for i in range(n)]


def corrected(analysis: Analysis, rows, label="Pt70") -> Analysis:
    table = analysis.table.copy()
    table.loc[rows, ["label", "label_corrected"]] = label
    return replace(analysis, table=table)


def there(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def log(*rows) -> pd.DataFrame:
    """Rows of annotator, image, cluster_id, what, label."""
    columns = ["annotator", "image", "cluster_id", "what", "label"]
    return pd.DataFrame(rows, columns=columns).assign(blind=False, time="2026-05-01T09:30:00")


def test_a_folder_holds_all_that_is_known(tmp_path):
    done = [corrected(analyses()[0], [0, 1, 2]), *analyses()[1:]]
    placed = [
        replace(a, table=a.table.assign(umap_1=np.arange(20.0), umap_2=np.arange(20.0) ** 2))
        for a in done
    ]
    told = []
    files = export(
        placed,
        tmp_path / "out",
        Choices(reference=parse_reference("Pt19:Pt41 = 1:1")),
        lambda done, total, message: told.append(message),
    )
    names = there(tmp_path / "out")
    figures = {f"figures/{n}{s}" for n in PLOTS for s in SUFFIXES}
    figures |= {f"figures/{n}{s}" for n in CHARTS for s in (".png", ".svg")}
    assert (
        names
        == TABLES
        | {"ratios.tex", "reference.json", "report.html", "run.json", "ro-crate-metadata.json"}
        | figures
    )
    assert {p.relative_to(tmp_path / "out").as_posix() for p in files} == names
    assert files[-1].name == "run.json"
    table = concatenate([a.table for a in placed])
    for suffix in ("csv", "parquet"):
        read = read_clusters(tmp_path / "out" / f"clusters.{suffix}")
        pd.testing.assert_frame_equal(read.drop(columns=["session", "sample"]), table)
    expected = class_ratios(table, images=["0.tif", "1.tif"])
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "out" / "ratios.csv"),
        expected,
        check_dtype=False,
        check_column_type=False,
    )
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "done" and record["images_done"] == 2
    assert record["images"][1]["clusters"] == 20
    assert record["parameters"]["reference"] == [
        {"scope": "all", "class": c, "fraction": 0.5} for c in ("Pt19", "Pt41")
    ]
    assert "Drawing 1.tif" in told and "Writing clusters.xlsx" in told
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count('class="overview"') == 2 and "Comparison with the reference" in html
    assert not list((tmp_path / "out").rglob(".*")), "nothing half-written is left"


def test_measurements_of_ones_own_are_exported(tmp_path):
    first, second = analyses()
    first = replace(first, table=first.table.assign(peak=np.arange(20.0)))
    export([first, second], tmp_path, Choices(figures=False, report=False))
    for name in ("clusters.csv", "clusters.parquet", "clusters.xlsx"):
        found = read_table(tmp_path / name)["peak"]
        assert found[:20].tolist() == list(range(20)) and found[20:].isna().all()


def test_only_what_was_chosen_is_written_and_nothing_of_before_stays(tmp_path):
    export(analyses(), tmp_path)
    (tmp_path / "mine.txt").touch()
    export(analyses(1), tmp_path, Choices(excel=False, latex=False, figures=False, report=False))
    assert there(tmp_path) == ALWAYS | {"mine.txt"}
    assert set(read_clusters(tmp_path / "clusters.csv")["image"]) == {"0.tif"}


def test_a_session_is_exported_with_what_is_not_analysed(tmp_path):
    state = WindowState()
    state.clusters.set_analysis(analyses(1)[0])
    state.add_image(Micrograph(np.ones((8, 8)), 0.1, "later.tif"))
    state.clusters.relabel([("0.tif", 1)], "Pt70")
    state.sessions.group(["0.tif"], "may")
    state.sessions.set_known(["0.tif"], {"Pt19": 1, "Pt70": 1})
    export(state, tmp_path, Choices(figures=False))
    assert read_clusters(tmp_path / "clusters.csv").loc[0, "label_corrected"] == "Pt70"
    text = (tmp_path / "report.html").read_text()
    assert "later.tif" in text and "not analysed yet" in text
    record = json.loads((tmp_path / "run.json").read_text())
    assert [i["status"] for i in record["images"]] == ["done", "not reached"]
    assert [i["session"] for i in record["images"]] == ["may", ""]
    assert record["images"][0]["known"] == {"Pt19": 0.5, "Pt70": 0.5}
    assert not (tmp_path / "corrections.csv").exists()


def test_a_report_of_several_sessions_names_the_one_that_does_not_fit(tmp_path):
    fits = {"answer": "fits", "peaks_atoms": [19.0, 30.0]}
    told = ({**fits, "misfit": "others", "peaks_atoms": [25.0, 48.0]}, fits)
    done = [
        replace(analysis, parameters={**analysis.parameters, "session": session})
        for analysis, session in zip(analyses(), told, strict=True)
    ]
    one = [AcquisitionSession("morning", ("0.tif", "1.tif"))]
    two = [AcquisitionSession("morning", ("0.tif",)), AcquisitionSession("evening", ("1.tif",))]
    for sessions, subject in ((one, "This session"), (two, "Session morning")):
        contents = Contents(done, sessions=sessions)
        export(contents, tmp_path / subject, Choices(figures=False))
        html = (tmp_path / subject / "report.html").read_text(encoding="utf-8")
        note = html[: html.index("peaks at 25 and 48 atoms")].rpartition(">")[2]
        assert note.startswith(f"{subject} does not fit the classes of the model")


def test_nothing_at_all_is_fine(tmp_path):
    export(WindowState(), tmp_path)
    assert there(tmp_path) == TABLES | {
        "ratios.tex",
        "report.html",
        "run.json",
        "ro-crate-metadata.json",
    }
    assert "No cluster counts in the ratios" in (tmp_path / "report.html").read_text()


def stored(tmp_path, name, cache) -> tuple[LazyMicrograph, Path]:
    path = tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 999, (120, 160)).astype(np.uint16)
    tifffile.imwrite(path, pixels, imagej=True, resolution=(10, 10), metadata={"unit": "nm"})
    sha = load(path).sha256
    return LazyMicrograph(path, (120, 160), 0.1, name=name, sha256=sha, cache=cache), path


def test_files_that_are_gone_or_changed_are_a_line_in_the_report(tmp_path):
    cache, done = PixelCache(1), []
    for number, name in enumerate(["here.tif", "gone.tif", "changed.tif"]):
        micrograph, path = stored(tmp_path, name, cache)
        done.append(replace(synthetic_analysis(9, name, seed=number), micrograph=micrograph))
        if name == "gone.tif":
            path.unlink()
        if name == "changed.tif":
            tifffile.imwrite(path, np.zeros((120, 160), np.uint16))
    export(done, tmp_path / "out", Choices(figures=False))
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Incomplete picture: gone.tif (there is no such file)" in html
    assert "changed.tif (the content of the file has changed" in html
    assert html.count("<image href=") == 1 and html.count('class="overview"') == 3
    assert len(read_clusters(tmp_path / "out" / "clusters.csv")) == 27


def test_an_image_that_can_not_be_drawn_does_not_end_the_report(tmp_path):
    done = analyses()
    done[1] = replace(done[1], outlines=["no outline"] * 20)
    export(done, tmp_path, Choices(figures=False))
    html = (tmp_path / "report.html").read_text()
    assert "<h2>1.tif</h2>" in html and "This image could not be drawn: " in html
    assert html.count('class="overview"') == 1


def test_pixels_are_held_of_one_image_at_a_time(tmp_path, monkeypatch):
    held, most = [], [0]

    class Lazy(LazyMicrograph):
        @property
        def data(self):
            held.append(self.name)
            most[0] = max(most[0], len(set(held) - drawn))
            return np.zeros((120, 160), np.float32)

    drawn: set[str] = set()
    section = exports.image_section

    def noted(analysis, *args, **kwargs):
        out = section(analysis, *args, **kwargs)
        drawn.add(analysis.micrograph.name)
        return out

    monkeypatch.setattr(exports, "image_section", noted)
    done = [
        replace(a, micrograph=Lazy(tmp_path / "x", (120, 160), 0.1, name=a.micrograph.name))
        for a in analyses()
    ]
    export(done, tmp_path / "out", Choices(figures=False))
    assert sorted(set(held)) == ["0.tif", "1.tif"] and most[0] == 1


def test_a_stop_leaves_whole_files_and_no_record(tmp_path):
    export(analyses(1), tmp_path)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 6

    with pytest.raises(Cancelled):
        export(analyses(3), tmp_path, stop=stop)
    assert "run.json" not in there(tmp_path)
    assert len(read_clusters(tmp_path / "clusters.csv")) == 60
    assert not list(tmp_path.rglob(".*"))


def test_the_workbook_of_many_clusters_is_written_meanwhile(tmp_path, monkeypatch):
    export(analyses(1), tmp_path / "one", Choices(figures=False, report=False))
    monkeypatch.setattr(exports, "MANY_CLUSTERS", 1)
    files = export(analyses(1), tmp_path / "two", Choices(figures=False, report=False))
    assert tmp_path / "two" / "clusters.xlsx" in files
    one, two = (read_table(tmp_path / name / "clusters.xlsx") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two)
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert "clusters.xlsx" in record["outputs"]


def test_a_stop_ends_the_workbook_that_is_written_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "MANY_CLUSTERS", 1)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 6

    with pytest.raises(Cancelled):
        export(analyses(3), tmp_path, stop=stop)
    assert not multiprocessing.active_children()
    assert "clusters.xlsx" not in there(tmp_path) and not list(tmp_path.rglob(".*"))


def _refuse(path):
    raise ValueError(f"{path} is refused")


def test_the_error_of_work_that_is_done_meanwhile_is_raised():
    with pytest.raises(ValueError, match="here is refused"), background_process(_refuse, "here"):
        pass


def test_a_folder_that_can_not_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AtomicityError, match="out: this folder can't be written to"):
        export(analyses(1), tmp_path / "file" / "out")


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    export(analyses(1), tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.csv")}
    with pytest.raises(TableError, match="Pt7"):
        export(analyses(2), tmp_path, Choices(reference=parse_reference("Pt7:Pt19 = 1:1")))
    with pytest.raises(ModelError, match="confusion"):
        export(analyses(2), tmp_path, Choices(method="confusion"))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.csv")} == before
    assert (tmp_path / "run.json").exists()


def test_the_card_of_the_model_is_told_in_the_methods(tmp_path, monkeypatch):
    card = ModelCard(
        "made-up",
        CLASSES,
        sha256="ab" * 32,
        scores={"test": {"clusters": 5604, "accuracy": 0.9261}},
        data={"source": "napari_atomicity.simulation"},
        limits="Nothing but platinum.",
    )
    done = [replace(a, table=a.table.assign(model_id=card.model_id)) for a in analyses(2)]
    table = concatenate([a.table for a in done])
    monkeypatch.setenv("ATOMICITY_MODELS", str(tmp_path / "models"))
    assert cards_of(table) == [None]
    export(done, tmp_path / "out", Choices(figures=False))
    assert "Nothing but platinum" not in (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "broken.safetensors").touch()
    (tmp_path / "models" / "broken.json").write_text("{")
    (tmp_path / "models" / "made-up.safetensors").touch()
    write_json(tmp_path / "models" / "made-up.json", card.to_dict())
    assert [one.model_id for one in cards_of(table)] == [card.model_id]
    export(done, tmp_path / "out", Choices(figures=False))
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Nothing but platinum." in html and "ab" * 32 in html
    assert "5604 simulated clusters of held-out images" in html


def test_two_annotators_and_their_agreement_are_reported(tmp_path):
    rows = [("ann", "0.tif", i, "label", "Pt19") for i in range(1, 11)]
    rows += [("bob", "0.tif", i, "label", "Pt19" if i < 8 else "Pt30") for i in range(1, 11)]
    rows += [("consensus", "0.tif", 9, "label", "Pt30")]
    found = agreement_table(log(*rows))
    assert found["Label"].tolist() == ["all labels, 10 clusters, 2 people", "Pt19", "Pt30"]
    assert found.loc[0, "Same"] == "70 %"
    interval = r"-?\d\.\d\d \(-?\d\.\d\d to \d\.\d\d\)"
    assert re.fullmatch(interval, found.loc[0, "Krippendorff's α"])
    export(Contents(tuple(analyses(1)), (), log(*rows)), tmp_path, Choices(figures=False))
    html = (tmp_path / "report.html").read_text()
    assert "Agreement of the annotators" in html and "Krippendorff&#39;s α" in html
    assert "10 clusters labelled without Blind after another person had" in html
    assert read_table(tmp_path / "corrections.csv")["annotator"].value_counts()["ann"] == 10
    assert agreement_table(log(*rows[:10])).empty


def test_an_image_may_be_called_all(tmp_path):
    done = [synthetic_analysis(20, "all", seed=1), synthetic_analysis(15, "b.tif")]
    export(done, tmp_path, Choices(figures=False))
    html = (tmp_path / "report.html").read_text()
    of_all = html[: html.index('class="image"')]
    assert of_all.count('<th scope="row"><svg') == len(CLASSES)
    assert "ratios include 35 clusters" in html


def test_blind_annotators_export_nothing_of_the_others(tmp_path):
    both = log(
        ("ann", "0.tif", 1, "label", "Pt19"),
        ("ann", "0.tif", 2, "label", "Pt30"),
        ("bob", "0.tif", 1, "label", "Pt70"),
    ).assign(blind=[True, False, True])
    scale = {"intensity_per_atom": 0.9, "own_units": [1.0], "session": {"peaks_shares": [0.5]}}
    analysed = replace(analyses(1)[0], parameters={"detection": {"threshold": 6.0}, **scale})
    state = SimpleNamespace(
        images=["0.tif"],
        analysis=lambda image: analysed,
        project=SimpleNamespace(corrections=lambda: both, path=tmp_path / "day.atomicity"),
        pixel_sizes=SimpleNamespace(mark=lambda analysis: analysis),
        blind=True,
        annotator="ann",
    )
    found = exports.snapshot(state).contents().corrections
    assert exports.snapshot(state).contents().sample is None
    # The intensity of an atom would tell the numbers of atoms, and the peaks the classes.
    assert exports.snapshot(state).analyses[0].parameters == {"detection": {"threshold": 6.0}}
    assert found[["annotator", "label"]].to_numpy().tolist() == [["ann", "Pt19"]]
    # Whose labels they are is said.
    contents = replace(exports.snapshot(state).contents(), analyses=analyses(1))
    export(contents, tmp_path, Choices(excel=False, latex=False, figures=False))
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["parameters"]["blind_annotator"] == "ann"
    assert "blind labels of ann" in (tmp_path / "report.html").read_text()


def test_a_project_is_exported_with_its_log_and_what_failed(tmp_path):
    paths = []
    for i, name in enumerate(["a.tif", "b.tif", "c.tif"]):
        paths.append(stored(tmp_path, name, PixelCache(1))[1])
        tifffile.imwrite(paths[-1], np.full((120, 160), i, np.uint16))
    with Project(tmp_path / "the day <1>.atomicity") as project:
        project.add_paths(paths)
        first = replace(
            synthetic_analysis(20, "a.tif"), micrograph=load(paths[0], pixel_size_nm=0.1)
        )
        project.image_files.update_metadata(first.micrograph)
        project.record(ImageEdit("a.tif", EditKind.ANALYSIS, "Ada"), None, first)
        project.image_files.set_error("b.tif", "b.tif: the pixel size is not known.")
        state = WindowState()
        state.open_project(project, {name: project.load(name) for name in project.names})
        state.annotator = "Ada"
        state.clusters.relabel([("a.tif", 3)], "Pt70")
        queue = build(state.table(), ReviewRequest("sample", n=5), "now")
        project.set_setting(exports.SAMPLE_SETTING, queue.to_json())
        assert exports.snapshot(state).contents().sample.ids.tolist() == queue.ids.tolist()
        project.flush()
        export(state, tmp_path / "out", Choices(figures=False))
    html = (tmp_path / "out" / "report.html").read_text()
    assert "<h1>the day &lt;1&gt;</h1>" in html
    text = " ".join(re.sub("<[^>]+>", " ", html).split())
    assert "b.tif the pixel size is not known." in text and "c.tif not analysed yet" in text
    assert "1 cluster has a label given by a person (1 entry by 1 person in the log)" in text
    assert read_table(tmp_path / "out" / "corrections.csv")["label"].tolist() == ["Pt70"]
    assert read_clusters(tmp_path / "out" / "clusters.csv").loc[2, "label_corrected"] == "Pt70"


def test_a_reviewed_sample_says_how_right_all_labels_are(tmp_path):
    done = corrected(synthetic_analysis(40, "a.tif"), slice(0, 9))
    table = done.table.copy()
    table["label_corrected"] = np.where(np.arange(40) < 10, table["label_predicted"], "")
    table.loc[0, "label_corrected"] = "other"
    done = replace(done, table=settle_labels(table))
    removed = log(("ann", "a.tif", 50, "remove", ""))
    sample = Queue(
        ReviewRequest("sample"),
        np.array(["a.tif"] * 21, object),
        np.array([*range(1, 11), 50, *range(11, 21)]),
        (Stratum("Pt19", "", 40), Stratum("Pt30", "", 10)),
        np.array([0] * 10 + [1] + [0] * 10),
        ("synthetic-0",),
    )
    found = sampled_accuracy(sample, done.table, removed)
    # Nine of ten in the first stratum, none of one in the second.
    assert (found.overall.right, found.overall.n, found.false_detections) == (9, 11, 1)
    assert found.overall.value == pytest.approx((0.9 * 40 + 0 * 10) / 50)
    # The same if it was split: the label that it had was wrong.
    pieces = [("ann", "a.tif", i, "add", "") for i in (51, 52)]
    replaced = log(("ann", "a.tif", 50, "remove", ""), *pieces).assign(time="now")
    split = sampled_accuracy(sample, done.table, replaced)
    assert (split.overall, split.false_detections, split.replaced) == (found.overall, 0, 1)
    # A cluster that was excluded since counts no more, neither do others like it.
    excluded = sampled_accuracy(sample, done.table.assign(excluded=np.arange(40) == 1), removed)
    assert (excluded.overall.right, excluded.overall.n) == (8, 10)
    assert (excluded.n_wanted, excluded.n_population) == (20, 48)
    contents = Contents((done,), (), removed, sample)
    export(contents, tmp_path, Choices(figures=False))
    html = (tmp_path / "report.html").read_text()
    assert "<b>72.0 %</b><span>accuracy on 50 clusters, from 11 answers" in html
    assert "11 reviewed clusters of a stratified sample of 21 of 50 clusters" in html
    others = done.table.assign(model_id="another")
    assert sampled_accuracy(sample, others, removed) is None
