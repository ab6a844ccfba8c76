"""Sessions and known samples of a run: from its options into the record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from napari_atomicity.cli import app
from napari_atomicity.core.errors import AtomicityError, ModelError, ReadError, TableError
from napari_atomicity.io.provenance import Outcome
from napari_atomicity.io.tables import read_clusters
from napari_atomicity.pipeline.acquisition_sessions import (
    BETWEEN_SESSIONS,
    SessionRules,
    read_earlier_scale,
)
from napari_atomicity.pipeline.live.watch import Watch
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.simulation.example_data import example_path
from napari_atomicity.training.cards import recorded_session
from napari_atomicity.training.data import KNOWN_SCALE, PatchSet
from pipeline.conftest import write_image

CLASSES = ("Pt19", "Pt41", "Pt55")
OUTCOMES = [
    Outcome("may/ref_1.tif", "/d/may/ref_1.tif", "done", pixel_size_nm=0.04),
    Outcome("may/a.tif", "/d/may/a.tif", "done", pixel_size_nm=0.04, instrument={"gain": 26.0}),
    Outcome("june/a.tif", "/d/june/a.tif", "done", pixel_size_nm=0.04),
    Outcome("june/b.tif", "/d/june/b.tif", "failed", "the file is empty"),
]


def grouped(**options) -> dict[str, str]:
    rules = SessionRules.read(RunRequest(**options), CLASSES)
    return {o.image: o.session for o in rules.with_sessions(OUTCOMES)}


def record(path, *intervals):
    """A record of a run with these scales: value, lower and upper end."""
    names = ("intensity_per_atom", "intensity_per_atom_low", "intensity_per_atom_high")
    sessions = [dict(zip(names, interval, strict=True)) for interval in intervals]
    path.write_text(json.dumps({"sessions": sessions}))
    return str(path)


def test_an_earlier_run_is_a_wide_prior_for_every_session(tmp_path):
    path = record(tmp_path / "run.json", (4.0, 3.9, 4.1))
    sessions = SessionRules.read(RunRequest(earlier_run=path), CLASSES).group(OUTCOMES)
    assert len(sessions) == 2
    for session in sessions:
        mean, sd = session.prior
        assert mean == pytest.approx(np.log(4.0)) and session.earlier.source == path
        assert BETWEEN_SESSIONS < sd < 1.05 * BETWEEN_SESSIONS
    two = read_earlier_scale(Path(record(tmp_path / "two.json", (2, 1.9, 2.1), (8, 7.6, 8.4))))
    assert two.intensity_per_atom == pytest.approx(4)
    assert two.log_sd > np.log(2)  # sessions that differ tell little


def test_the_card_of_a_model_tells_the_scale_of_its_training(tmp_path):
    rows = {"image": ["a", "a", "b", "c"], KNOWN_SCALE: [4.0, 4.0, 4.4, 3.6]}
    session = recorded_session(PatchSet(pd.DataFrame(rows), {}, {}), "size-selected")
    assert session["images"] == 3
    card = tmp_path / "model.json"
    card.write_text(json.dumps({"name": "model", "data": {"sessions": [session]}}))
    found = read_earlier_scale(card)
    assert found.intensity_per_atom == pytest.approx(3.99, abs=0.01)
    assert found.log_sd == pytest.approx(np.hypot(0.1 / 3**0.5, BETWEEN_SESSIONS), rel=0.02)


@pytest.mark.parametrize(
    "content", ["", "[]", "3", "{}", '{"data": []}', '{"sessions": []}', '{"sessions": [{}]}']
)
def test_a_file_without_the_scale_of_a_session_is_refused(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(ReadError, match=r"run\.json"):
        SessionRules.read(RunRequest(earlier_run=str(path)), CLASSES)


@pytest.mark.parametrize(
    ("session", "names"),
    [
        ("auto", ["may", "may", "june", ""]),
        ("none", ["may/ref_1.tif", "may/a.tif", "june/a.tif", ""]),
        ("all", ["all images", "all images", "all images", ""]),
    ],
)
def test_images_are_grouped_as_asked(session, names):
    assert list(grouped(session=session).values()) == names


def test_a_table_names_sessions_and_known_samples(tmp_path):
    table = tmp_path / "sessions.csv"
    table.write_text(
        'image,session,known\nmay/a.tif,007,"Pt19:1,Pt41:3"\njune/*,007,\nother.tif,x,Pt55\n'
    )
    rules = SessionRules.read(RunRequest(session=str(table), known=("ref_*=Pt55",)), CLASSES)
    rules.check([o.image for o in OUTCOMES])
    may, seven = rules.group(OUTCOMES)
    assert (may.name, may.images, may.known) == (
        "may", ("may/ref_1.tif",), {"may/ref_1.tif": {"Pt55": 1.0}}
    )  # fmt: skip
    assert (seven.name, seven.images) == ("007", ("may/a.tif", "june/a.tif"))
    assert seven.known == {"may/a.tif": {"Pt19": 0.25, "Pt41": 0.75}}
    assert rules.with_sessions(OUTCOMES)[1].known == {"Pt19": 0.25, "Pt41": 0.75}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (None, ReadError, "no such file"),
        ("image,sample\na.tif,x\n", TableError, "lacks the column session"),
        ("image,session,known\na.tif,x,Pt20\n", ModelError, "no class Pt20"),
        ("image,session,known\na.tif,x,Pt19:0\n", TableError, "a.tif: 'Pt19:0' is not a comp"),
        ("image,session\na.tif,x\na.tif,y\n", TableError, "a.tif twice"),
        ("image,session\nz.tif,x\n", TableError, "is for z.tif, and no image"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, error, words):
    table = tmp_path / "sessions.csv"
    if text is not None:
        table.write_text(text)
    with pytest.raises(error, match=words):
        SessionRules.read(RunRequest(session=str(table)), CLASSES).check(["a.tif"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--known", "reff_*=Pt70"], "no image has a name like 'reff_*'"),
        (["--known", "*.tif=Pt56"], "no class Pt56"),
        (["--known", "*.tif"], "not a known sample"),
        (["--session", "nowhere.csv"], "no such file"),
    ],
)
@pytest.mark.parametrize("command", ["analyse", "batch"])
def test_commands_refuse_what_does_not_fit_before_the_work(
    tmp_path, tiny_model, command, options, words
):
    image = write_image(tmp_path / "may" / "a.tif")
    where = ["--out", tmp_path / "out", "--model", tiny_model, "--device", "cpu"]
    result = CliRunner().invoke(app, [str(a) for a in [command, image, *where, *options]])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out" / "run.json").exists()


def test_the_record_of_a_run_names_session_and_known_sample(tmp_path, tiny_model):
    for i, name in enumerate(("may/a.tif", "may/ref_1.tif", "june/ref_2.tif")):
        write_image(tmp_path / "in" / name, seed=i)
    options = ["--known", "ref_1*=Pt70", "--known", "ref_2*=Pt19:1,Pt70:1", "--json"]
    where = [tmp_path / "in", "--out", tmp_path / "out", "--model", tiny_model, "--device", "cpu"]
    result = CliRunner().invoke(app, ["analyse", *map(str, where), *options])
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["parameters"]["session"] == "auto"
    assert record["parameters"]["known"] == ["ref_1*=Pt70", "ref_2*=Pt19:1,Pt70:1"]
    images = {i["image"]: (i["session"], i["known"]) for i in record["images"]}
    assert images == {
        "a.tif": ("may", {}),
        "ref_1.tif": ("may", {"Pt70": 1.0}),
        "ref_2.tif": ("june", {"Pt19": 0.5, "Pt70": 0.5}),
    }
    summary = {i["image"]: i["session"] for i in json.loads(result.stdout)["images"]}
    assert summary == {"a.tif": "may", "ref_1.tif": "may", "ref_2.tif": "june"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "jointly from the clusters of all images of an acquisition session (2 images in" in page
    assert "In 1 other image, it is estimated from the clusters of the single image." in page
    assert "Known compositions of 2 images are used for the scale (" in page


@pytest.mark.parametrize("error", [0.0, 5.0])
def test_the_error_of_the_pixel_size_is_given_to_the_sessions(tmp_path, tiny_model, error):
    image = write_image(tmp_path / "may" / "a.tif")
    options = ["--model", tiny_model, "--device", "cpu", "--pixel-size-error", error]
    result = CliRunner().invoke(
        app, [str(a) for a in ["analyse", image, "--out", tmp_path / "out", *options]]
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["parameters"]["pixel_size_error"] == error
    rules = SessionRules.read(RunRequest(pixel_size_error=error), CLASSES)
    assert {s.pixel_size_error for s in rules.group(OUTCOMES)} == {error / 100}


@pytest.mark.parametrize("keep", [False, True])
def test_a_contradicted_known_sample_is_named_on_the_console_and_in_the_report(tmp_path, keep):
    """The example, a mixture of all sizes, is said to be of one size."""
    options = ["--known", "example*=Pt55", "--device", "cpu", *(["--keep-known"] if keep else [])]
    where = [example_path(), "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, ["analyse", *map(str, where), *options])
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert "warning: example.tif: the clusters contradict the known sample Pt55" in said
    assert ("was used nevertheless" in said) is keep
    assert "contradict the known sample Pt55" in (tmp_path / "out" / "report.html").read_text()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["sessions"][0]["known_samples"]["example.tif"]["used"] is keep
    assert record["parameters"]["keep_known"] is keep
    notes = pd.read_csv(tmp_path / "out" / "ratios.csv")["note"]
    assert notes.str.contains("contradict").all()


@pytest.mark.parametrize("labels", ["combination", "mixture", "network"])
def test_labels_come_from_the_chosen_estimator(tmp_path, labels):
    options = ["--labels", labels, "--device", "cpu", "--no-umap"]
    where = [example_path(), "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, ["analyse", *map(str, where), *options])
    assert result.exit_code == 0, result.stderr
    table = read_clusters(tmp_path / "out" / "clusters.csv")
    columns = [c for c in table if c.startswith("p_")]
    best = np.array([c[2:] for c in columns])[table[columns].to_numpy().argmax(axis=1)]
    labelled = table["label"].str.startswith("Pt").to_numpy()
    assert (table["label"] == best)[labelled].all()
    assert table.loc[labelled, "confidence"].to_numpy() == pytest.approx(
        table.loc[labelled, columns].max(axis=1).to_numpy()
    )
    if labels != "combination":
        speaks = labelled & (table[f"label_{labels}"] != "").to_numpy()
        assert (table["label"] == table[f"label_{labels}"])[speaks].all()
    for row in table.loc[labelled].itertuples():
        assert row.label in row.prediction_set.split("|")
    notes = pd.read_csv(tmp_path / "out" / "ratios.csv", keep_default_na=False)["note"]
    assert notes.str.contains("calibrated for the combination").all() == (labels != "combination")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["parameters"]["labels"] == labels
    assert record["images"][0]["parameters"]["labels_from"] == labels


def test_the_confusion_matrix_is_that_of_the_combination(tmp_path):
    options = ["--labels", "network", "--ratios", "confusion", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["analyse", str(example_path()), *options])
    assert result.exit_code == 2 and "is that of the combination" in result.stderr


def test_a_watched_folder_takes_known_samples_that_may_come_later(tmp_path, tiny_model):
    write_image(tmp_path / "in" / "a.tif")
    request = RunRequest(str(tiny_model), "cpu", umap=False, known=("ref_*=Pt70", "a*=Pt19"))
    run = Watch(tmp_path / "in", tmp_path / "out", request, settle_s=0).run(until_idle_s=0)
    assert [(o.session, o.known) for o in run.outcomes] == [("in", {"Pt19": 1.0})]
    wrong = RunRequest(str(tiny_model), "cpu", umap=False, known=("ref_*=Pt56",))
    with pytest.raises(AtomicityError, match="no class Pt56"):
        Watch(tmp_path / "in", tmp_path / "out", wrong).run(until_idle_s=0)


# ---- samples
def samples_of(tmp_path, text):
    path = tmp_path / "samples.csv"
    path.write_text(text)
    rules = SessionRules.read(RunRequest(samples=str(path)), CLASSES)
    rules.check([o.image for o in OUTCOMES])
    return rules.group_samples(OUTCOMES)


def test_a_sample_is_the_folder_unless_a_table_says_otherwise(tmp_path):
    rules = SessionRules.read(RunRequest(), CLASSES)
    assert [s.name for s in rules.group_samples(OUTCOMES)] == ["may", "june"]
    assert [o.sample for o in rules.with_sessions(OUTCOMES)] == ["may", "may", "june", ""]
    spent, may = samples_of(tmp_path, "image,sample,time_h\njune/*,spent,2\nmay/a.tif,spent,4\n")
    assert (spent.name, spent.images) == ("spent", ("may/a.tif", "june/a.tif"))
    assert spent.numbers == {"time_h": 3} and spent.folder == ""
    rows = "june/*,spent,2,2026-11-27 10:30,no. 4\nmay/a.tif,spent,,,\n"
    (spent, _) = samples_of(tmp_path, f"image,sample,time_h,when,note\n{rows}")
    assert spent.numbers == {"time_h": 2}
    assert (may.name, may.images) == ("may", ("may/ref_1.tif",)) and may.folder.endswith("may")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (None, ReadError, "no such file"),
        ("", ReadError, "csv table"),
        ("image,sample\n", TableError, "has no rows"),
        ("image,session\na.tif,x\n", TableError, "lacks the column sample"),
        ("image,sample\na.tif,\n", TableError, "no image or no sample"),
        ("image,sample\na.tif,x\na.tif,y\n", TableError, "a.tif twice"),
        ("image,sample\nother.tif,x\n", TableError, "is for other.tif, and no image"),
        ("image,sample,time_h\na.tif,x,2 h\nb.tif,y,4\n", TableError, "time_h .* '2 h' for a.tif"),
        (
            "image,sample,time_h\na.tif,x,0\nb.tif,y,n/a\nc.tif,z,5\n",
            TableError,
            "time_h .* 'n/a' for b.tif",
        ),
        ("image,sample,t\na.tif,x,2\nb.tif,y,300°C\n", TableError, "'300°C' for b.tif"),
        ('image,sample,t\na.tif,x,"2,5"\nb.tif,y,4\n', TableError, "'2,5' for a.tif"),
    ],
)
def test_a_bad_table_of_samples_is_refused(tmp_path, text, error, words):
    path = tmp_path / "samples.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=words) as found:
        SessionRules.read(RunRequest(samples=str(path)), CLASSES).check(["a.tif"])
    assert found.value.path == path
