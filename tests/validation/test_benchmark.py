"""`atomicity benchmark`: images and truth from seeds, their hashes, and scores of a method."""

import json
import re
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from documented_files import quick_isomers
from napari_atomicity import load
from napari_atomicity.cli.commands import app
from napari_atomicity.core.errors import Cancelled
from napari_atomicity.simulation import structures
from napari_atomicity.simulation.sessions import draw_session, simulate_session
from napari_atomicity.statistics.intervals import wilson_interval
from napari_atomicity.validation import benchmark
from napari_atomicity.validation.benchmark import CLASSES
from napari_atomicity.validation.request import BENCHMARK_SEED

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "benchmark.md"


def atomicity(*arguments):
    result = CliRunner().invoke(app, ["benchmark", *map(str, arguments)])
    result.words = " ".join(result.stderr.split())
    return result


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Pieces of a lattice as isomers, and two images in each session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "isomer_library", quick_isomers)
        patch.setattr(benchmark, "N_IMAGES", 2)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A benchmark of one round."""
    folder = tmp_path_factory.mktemp("benchmark") / "data"
    kinds = "few clusters,mixture,other sizes"
    result = atomicity("--out", folder, "--kinds", kinds, "--rounds", 1, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["sha256"] in result.stderr
    manifest = json.loads((folder / "manifest.json").read_text())
    assert printed.pop("images") == len(manifest.pop("files")) - 2
    assert printed == manifest
    return folder


@pytest.fixture(scope="module")
def images(data):
    return pd.read_csv(data / "images.csv").set_index("image", drop=False)


@pytest.fixture
def answers(data):
    """The truth as predictions, with certain probabilities; aggregates without a class."""
    truth = pd.read_csv(data / "truth.csv")
    p = {f"p_{c}": (truth["label"] == c).astype(float) for c in CLASSES}
    return truth.drop(columns=["border", "diameter_nm"]).assign(**p)


@pytest.fixture
def score(data, tmp_path):
    def score(table, *options):
        table.to_csv(tmp_path / "predictions.csv", index=False)
        return atomicity("--score", tmp_path / "predictions.csv", "--data", data, *options)

    return score


def scores_of(result):
    assert result.exit_code == 0, result.output
    return {(s["kind"], s["form"]): s for s in json.loads(result.stdout)["scores"]}


# ---- images and truth
def test_images_are_calibrated_and_in_the_tables(data, images):
    assert {p.relative_to(data).as_posix() for p in data.rglob("*.tif")} == set(images["file"])
    assert set(images.loc[images["kind"] == "mixture", "form"]) == {
        "whole", "8 bits", "crops", "lone atoms",
    }  # fmt: skip
    truth = pd.read_csv(data / "truth.csv")
    assert set(truth["image"]) == set(images["image"])
    for row in images.itertuples():
        micrograph = load(data / row.file)
        assert micrograph.pixel_size_nm == pytest.approx(row.px_nm, rel=1e-6)
        own = truth[truth["image"] == row.image]
        assert len(own) == row.n_clusters
        radius = own["diameter_nm"] / row.px_nm / 2
        limit = micrograph.shape[0] - 1 + radius
        assert (own[["x_px", "y_px"]].lt(limit, axis=0)).to_numpy().all()
        if row.form == "8 bits":
            assert micrograph.data.max() == 255 and micrograph.data.min() == 0


def test_a_session_is_read_as_it_was_simulated(data):
    isomers = quick_isomers("Pt", [19, 30, 41, 55, 70, 25, 48], 40, BENCHMARK_SEED)
    simulated = simulate_session(isomers, draw_session("mixture", CLASSES, 2, BENCHMARK_SEED))
    tables = benchmark.read_tables(data)
    read = list(benchmark.read_session(data, tables, f"mixture_{BENCHMARK_SEED}_whole"))
    for image, field in zip(read, simulated, strict=True):
        assert np.array_equal(image.micrograph.data, field.micrograph.data)
        assert image.composition == pytest.approx(field.settings.mixture, abs=1e-6)
        assert image.truth["border"].tolist() == field.truth["touches_border"].tolist()
        assert np.allclose(image.truth["x_px"], field.truth["x_px"].astype(float), atol=1e-3)


def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "N_IMAGES", 8)  # as in new processes
    for workers in (1, 2):
        arguments = ("--kinds", "few clusters", "--rounds", 1, "--workers", workers)
        result = atomicity("--out", tmp_path / str(workers), *arguments)
        assert result.exit_code == 0, result.output
    one, two = (json.loads((tmp_path / n / "manifest.json").read_text()) for n in "12")
    assert one == two


def test_a_benchmark_is_checked_refused_or_replaced(tmp_path):
    command = ("--out", tmp_path, "--kinds", "few clusters", "--rounds", 1)
    assert atomicity(*command).exit_code == 0
    [first, *_] = sorted(tmp_path.rglob("*.tif"))
    content = first.read_bytes()
    assert atomicity(*command).exit_code == 0
    first.write_bytes(content[:-1])
    damaged = atomicity(*command)
    assert damaged.exit_code == 1
    name = first.relative_to(tmp_path).as_posix()
    assert f"1 files of the benchmark are missing or have changed, such as {name}" in damaged.words
    other = atomicity(*command, "--seed", 5)
    assert other.exit_code == 2 and "--overwrite" in other.words
    assert first.exists()
    replaced = atomicity(*command, "--seed", 5, "--overwrite")
    assert replaced.exit_code == 0, replaced.output
    assert not first.exists() and len(list(tmp_path.rglob("*.tif"))) == 2


def test_an_interrupted_benchmark_begins_again(tmp_path, monkeypatch, answers):
    command = ("--kinds", "few clusters", "--rounds", 2)
    write, written = benchmark.write_session, []

    def interrupted(*arguments):
        if written:
            raise Cancelled
        written.append(arguments)
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "write_session", interrupted)
        assert atomicity("--out", tmp_path / "a", *command).exit_code == 130
    answers.to_csv(tmp_path / "p.csv", index=False)
    unfinished = atomicity("--score", tmp_path / "p.csv", "--data", tmp_path / "a")
    assert unfinished.exit_code == 1 and "not complete" in unfinished.words
    for name in "ab":
        assert atomicity("--out", tmp_path / name, *command).exit_code == 0
    a, b = ((tmp_path / name / "manifest.json").read_text() for name in "ab")
    assert a == b and len(json.loads(a)["files"]) == 2 * 2 + 2


def test_other_files_are_not_removed(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    command = ("--out", tmp_path, "--kinds", "few clusters", "--rounds", 1)
    refused = atomicity(*command)
    assert refused.exit_code == 2 and not (tmp_path / "images").exists()
    assert atomicity(*command, "--overwrite").exit_code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_wrong_usage(tmp_path):
    for arguments, text in (
        ((), "--out"),
        (("--out", tmp_path, "--kinds", "large"), "few clusters"),
        (("--score", tmp_path), "--data"),
        (("--score", tmp_path, "--data", tmp_path, "--rounds", 2), "--rounds"),
        (("--out", tmp_path, "--data", tmp_path), "--data"),
        (("--score", tmp_path / "no.csv", "--data", tmp_path), "no such file"),
    ):
        result = atomicity(*arguments)
        assert result.exit_code == 2 and text in result.words
    assert not list(tmp_path.iterdir())


# ---- scores
def test_the_truth_has_perfect_scores(answers, score, images):
    found = scores_of(score(answers, "--json"))
    assert set(found) == set(zip(images["kind"], images["form"], strict=True))
    for scores in found.values():
        assert scores["recall"] == scores["precision"] == scores["accuracy"] == 1
        assert scores["ratio_r2"] == pytest.approx(1) and scores["ratio_mae"] == 0
        assert scores["atom_error"] == 0
    assert found["mixture", "whole"]["calibration_error"] == 0
    assert found["mixture", "whole"]["accuracy_most_probable"] == 1


def test_scores_count_what_they_say(data, answers, score):
    """Four clusters: one missed, one of another class with probability 0.75, one unknown."""
    truth = pd.read_csv(data / "truth.csv")
    own = answers[answers["image"].str.startswith(f"mixture_{BENCHMARK_SEED}_whole")]
    scored = own.index[(truth.loc[own.index, "border"] == 0) & (own["label"] != "aggregate")]
    missed, wrong, unknown = scored[:3]
    true = own.loc[wrong, "label"]
    other = next(c for c in CLASSES if c != true)
    own.loc[wrong, ["label", f"p_{true}", f"p_{other}"]] = [other, 0.25, 0.75]
    own.loc[unknown, "label"] = "unknown"
    own = own.drop(index=missed)
    false = own.iloc[[-1]].assign(x_px=-500.0)
    [scores] = scores_of(score(pd.concat([own, false]), "--json")).values()
    n, whole = len(scored) - 1, int((truth.loc[[*own.index, missed], "border"] == 0).sum())
    assert scores["clusters"] == n and scores["images"] == 2 and scores["sessions"] == 1
    assert scores["recall"] == pytest.approx(1 - 1 / whole)
    assert scores["precision"] == pytest.approx((whole - 1) / whole)
    assert scores["accuracy"] == pytest.approx((n - 2) / n)
    low, high = wilson_interval(np.asarray((n - 2) / n), n)
    assert (scores["accuracy_low"], scores["accuracy_high"]) == pytest.approx((low, high))
    assert scores["accuracy_most_probable"] == pytest.approx((n - 1) / n)
    assert scores["calibration_error"] == pytest.approx(0.75 / n)
    assert scores["unknown"] == pytest.approx(1 / n)
    assert 0 < scores["ratio_mae"] < 0.2 and scores["ratio_r2"] < 1


def test_sizes_that_a_method_does_not_know_have_no_accuracy(answers, score):
    own = answers[answers["image"].str.startswith("other_sizes")]
    own = own.assign(label="unknown", n_atoms=own["n_atoms"] + 3)
    [scores] = scores_of(score(own, "--json")).values()
    assert scores["unknown"] == 1 and scores["atom_error"] == 3
    assert "accuracy" not in scores and scores["recall"] == 1


def test_scores_are_printed_and_written(answers, score, tmp_path):
    own = answers[answers["image"].str.startswith("mixture")][["image", "x_px", "y_px", "label"]]
    result = score(own, "--out", tmp_path / "scores")
    assert result.exit_code == 0, result.output
    assert "lone atoms" in result.stdout and "1.000" in result.stdout
    assert "2 sessions without predictions are not scored" in result.stderr
    table = pd.read_csv(tmp_path / "scores" / "scores.csv")
    assert table["form"].tolist() == ["whole", "8 bits", "crops", "lone atoms"]
    assert "calibration_error" not in table
    written = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert len(written["data_sha256"]) == 64 and len(written["sessions_not_scored"]) == 2
    again = score(own, "--out", tmp_path / "scores")
    assert again.exit_code == 2 and "--overwrite" in again.stderr


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.drop(columns=["label", "x_px"]), "lack the columns x_px, label"),
        (lambda t: t.assign(x_px=t["x_px"].where(t.index > 1)), "2 rows have no position"),
        (lambda t: t.assign(label="Pt20"), "'Pt20' are not classes of the benchmark"),
        (lambda t: t.assign(image="x" + t["image"]), "are not in the benchmark, such as xfew"),
        (lambda t: t.assign(p_Pt19=2.0), "probabilities must"),
        (lambda t: t.iloc[:0], "there are no predictions"),
        (lambda t: t[~t["image"].str.endswith("whole_02.tif")], "3 images of the scored sessions"),
    ],
)
def test_impossible_predictions_are_refused(answers, score, change, text):
    result = score(change(answers))
    assert result.exit_code == 1 and text in result.words
    assert not result.stdout


def test_images_without_a_row_are_missed_if_that_is_wanted(answers, score):
    own = answers[answers["image"] == f"mixture_{BENCHMARK_SEED}_whole_01.tif"]
    [scores] = scores_of(score(own, "--allow-missing", "--json")).values()
    assert scores["images"] == 2 and scores["recall"] < 1


def test_a_changed_truth_is_not_scored_against(tmp_path, answers, data):
    answers.to_csv(tmp_path / "p.csv", index=False)
    for name in ("manifest.json", "images.csv", "truth.csv"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    (tmp_path / "truth.csv").write_text("image,x_px\n")
    result = atomicity("--score", tmp_path / "p.csv", "--data", tmp_path)
    assert result.exit_code == 1 and "such as truth.csv" in result.words


# ---- the published files
class _BuiltWhenUsed:
    """An isomer of one metal that is built when its positions are used: 280 take minutes."""

    def __init__(self, atoms_of, kind, seed):
        [(self.element, self.n)] = atoms_of.items()
        self.kind, self.symbols = kind, None
        self.composition, self.label = dict(atoms_of), f"{self.element}{self.n}"
        self._made = (atoms_of, kind, seed)

    @cached_property
    def positions_nm(self):
        return MAKE_ALLOY(*self._made).positions_nm


MAKE_ALLOY = structures.make_alloy


def test_an_image_has_the_published_hash(tmp_path, monkeypatch):
    name, published = re.search(r"`(\w+\.tif)` \| `([0-9a-f]{64})`", PAGE.read_text()).groups()
    monkeypatch.setattr(benchmark, "N_IMAGES", 8)
    monkeypatch.setattr(structures, "make_alloy", _BuiltWhenUsed)
    sizes = [int(label.removeprefix("Pt")) for label in benchmark.LABELS]
    isomers = structures.isomer_library("Pt", sizes, benchmark.ISOMERS_PER_CLASS, BENCHMARK_SEED)
    image = next(benchmark.simulate_form(isomers, "few clusters", BENCHMARK_SEED, "whole"))
    assert image.micrograph.name == name
    [found] = benchmark.write_images(tmp_path, "session", "whole", [image]).files.values()
    assert found == published
