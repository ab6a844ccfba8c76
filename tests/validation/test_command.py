"""`atomicity validate` from the folders to the report."""

import json
import shutil
from dataclasses import asdict
from functools import partial, wraps
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score
from typer.testing import CliRunner

from napari_atomicity.cli import validate
from napari_atomicity.cli.commands import app
from napari_atomicity.core.errors import Cancelled
from napari_atomicity.io.files import to_json
from napari_atomicity.validation import jobs, methods, run, runs
from napari_atomicity.validation.data import SELECTED
from napari_atomicity.validation.request import count_finished_runs
from napari_atomicity.validation.scores import SCORES
from napari_atomicity.validation.summary import DIFFERENCES

METHODS = "diameter,dual-patch,dual-patch-adapted,dual-session-combination,dual-shipped-combination"
CLASSES = ["Pt19", "Pt70"]


def atomicity(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def patched():
    """Quick maps and adaptations."""
    few = partial(jobs.AdaptSettings, steps=8, batch_size=24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_atomicity.models.embedding.fit_map", lambda e, seed: e[:, :2].copy())
        patch.setattr(jobs, "AdaptSettings", few)
        yield


@pytest.fixture(scope="module")
def command(folders):
    named = {f"--{name}": folders / name for name in ("data", "mixtures", "shifted")}
    given = [value for pair in named.items() for value in pair]
    return ["validate", *given, "--quick", "--device", "cpu", "--methods", METHODS]


@pytest.fixture(scope="module")
def out(folders, command, patched):
    """The results of a small run, interrupted after three models and continued."""
    folder = folders / "out"
    finished = []

    def interrupted(job, *others):
        if len(finished) == 3:
            raise Cancelled
        finished.append(job.name)
        return jobs.run_job(job, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "run_job", interrupted)
        stopped = atomicity(*command, "--out", folder)
        assert stopped.exit_code == 130, stopped.output
    assert not (folder / "validation.json").exists()
    result = atomicity(*command, "--out", folder, "--json")
    assert result.exit_code == 0, result.output
    assert result.output.count("finished before") == len(finished) == 3
    printed = json.loads(result.stdout)
    assert printed.pop("file") == str(folder / "validation.json")
    assert printed == json.loads((folder / "validation.json").read_text())
    return folder


@pytest.fixture(scope="module")
def result(out):
    return json.loads((out / "validation.json").read_text())


@pytest.fixture(scope="module")
def clusters(out):
    return pd.read_csv(out / "clusters.csv", keep_default_na=False, na_values=[""]).fillna(
        {"true": "", "predicted": ""}
    )


def test_all_methods_are_scored_on_all_groups(result):
    assert result["classes"] == CLASSES and list(result["methods"]) == METHODS.split(",")
    for name, method in result["methods"].items():
        expected = ["shifted"] if name.endswith("adapted") else list(result["groups"])
        assert list(method["groups"]) == expected
        runs = {of["runs"] for of in method["groups"].values()}
        assert runs == {1 if "shipped" in name else 2}


def test_figures_are_those_of_the_answers(result, clusters):
    for name, method in result["methods"].items():
        for group, scores in method["groups"].items():
            own = clusters[(clusters["method"] == name) & (clusters["group"] == group)]
            runs = [rows for _, rows in own.groupby(["fold", "seed"])]
            both = [r[(r["true"] != "") & (r["predicted"] != "")] for r in runs]
            accuracy = [(r["true"] == r["predicted"]).mean() for r in both]
            assert scores["accuracy"]["mean"] == pytest.approx(np.mean(accuracy))
            assert scores["clusters"] == sum(map(len, both)) == np.sum(scores["confusion"])
            if len(runs) > 1:
                assert scores["accuracy"]["sd"] == pytest.approx(np.std(accuracy, ddof=1))
            if group == SELECTED:
                assert scores["ratio_r2"]["mean"] is None
                continue
            r2 = [ratio_r2(r) for r in runs]
            assert scores["ratio_r2"]["mean"] == pytest.approx(np.mean(r2))


def ratio_r2(answers):
    sides = [
        pd.crosstab(known["sample"], known[side], normalize="index").reindex(
            columns=CLASSES, fill_value=0
        )
        for side in ("true", "predicted")
        for known in [answers[answers[side] != ""]]
    ]
    return r2_score(*(side.to_numpy().ravel() for side in sides))


def test_tables_agree_with_the_json(out, result):
    scores = pd.read_csv(out / "scores.csv").set_index(["method", "group"])
    confusion = pd.read_csv(out / "confusion.csv").set_index(["method", "group", "true"])
    ratios = pd.read_csv(out / "ratios.csv")
    for name, method in result["methods"].items():
        for group, found in method["groups"].items():
            row = scores.loc[(name, group)]
            for score in set(SCORES) & set(scores.columns):
                mean = found[score]["mean"]
                assert row[score] == pytest.approx(np.nan if mean is None else mean, nan_ok=True)
            for i, true in enumerate(CLASSES):
                counts = confusion.loc[(name, group, true), "clusters"]
                assert counts.tolist() == found["confusion"][i]
            own = ratios[(ratios["method"] == name) & (ratios["group"] == group)]
            assert len(own) == len(CLASSES) * len(found["ratios"])
    runs = pd.read_csv(out / "runs.csv")
    means = runs.groupby(["method", "group"])["accuracy"].mean()
    assert means.to_dict() == pytest.approx(scores["accuracy"].to_dict())


def test_differences_agree_with_the_runs(out, result):
    runs = pd.DataFrame(result["runs"]).set_index(["method", "group", "fold", "seed"]).sort_index()
    rows = result["differences"]
    pairs = {(row["method"], row["reference"], row["group"]) for row in rows}
    assert pairs == {
        *(("dual-patch", "diameter", group) for group in result["groups"]),
        ("dual-patch-adapted", "dual-patch", "shifted"),
    }
    for row in rows:
        sides = [runs.loc[(row[key], row["group"])] for key in ("method", "reference")]
        for name in set(DIFFERENCES) & set(row):
            expected = (sides[0][name] - sides[1][name]).mean()
            assert row[name]["mean"] == pytest.approx(expected)
    table = pd.read_csv(out / "differences.csv")
    assert table["accuracy"].tolist() == pytest.approx([row["accuracy"]["mean"] for row in rows])


def test_diameters_of_the_classes_are_described(result):
    for group in result["groups"].values():
        assert list(group["diameter_nm"]) == CLASSES
        for of in group["diameter_nm"].values():
            assert 0 < of["low"] < of["median"] < of["high"]
        assert group["diameter_nm"]["Pt19"]["median"] < group["diameter_nm"]["Pt70"]["median"]


def test_images_are_tested_by_models_that_have_not_seen_them(clusters, out):
    own = clusters[(clusters["method"] == "dual-patch") & (clusters["group"] == SELECTED)]
    tested = own.groupby("image")["fold"].unique()
    assert len(tested) == 8 and tested.map(len).eq(1).all()
    assert own.groupby("fold")["image"].nunique().tolist() == [4, 4]


def test_a_model_is_trained_without_the_images_that_test_it(folders, monkeypatch):
    request = run.ValidationRequest(
        folders / "data", methods=("dual-patch",), folds=2, seeds=1, device="cpu"
    )
    prepared, _ = run.CrossValidation(request).prepare(folders)
    seen = {}

    def fit(training):
        seen["images"] = set(training.part.table["image"])
        return methods.read_shipped(training)

    job = jobs.FitJob(methods.Fit("dual-patch", "", fit), 1, 0, False)
    found = jobs.run_job(job, prepared)
    tested = {i for i, g in zip(found["answers"]["image"], found["answers"]["group"], strict=True)}
    assert len(seen["images"]) == len(tested) == 4 and not seen["images"] & tested


def test_recovery_from_the_shift_is_reported(result):
    found = result["adaptation"]
    assert set(found) == {"dual-patch", "dual-session", "dual-shipped"}
    for name, of in found.items():
        assert of["session"]["runs"] == (1 if "shipped" in name else 2)
        assert len(of["images"]) == 2 and of["session"]["seconds"] > 0
        assert all(0 <= row["most_called_share_before"] <= 1 for row in of["images"])
        assert -1 <= of["separation"]["before"]["mean"] <= 1
        rise = [row["accuracy_after"] - row["accuracy_before"] for row in of["images"]]
        assert of["images_change"]["accuracy"]["mean"] == pytest.approx(np.mean(rise))
        assert of["session"]["seconds"] <= of["session"]["seconds_max"]
    rows = {(r["fit"], r["class"], r["channel"]) for r in result["class_maps"]}
    assert {fit for fit, *_ in rows} == set(found) and {c for *_, c in rows} == {"raw", "LCN"}


def test_the_report_and_the_record_are_complete(out, result):
    page = (out / "report.html").read_text()
    assert result["quick"] and "quick test" in page
    for method in result["methods"].values():
        assert method["title"] in page
    for row in result["differences"]:
        score = row["accuracy"]
        text = f"{score['mean']:+.2f} ({score['low']:+.2f} to {score['high']:+.2f})"
        assert text in page
    figures = {path.stem for path in (out / "figures").glob("*.svg")}
    assert {"accuracy", "ratio-r2", "parity-mixtures", "called-shifted"} <= figures
    assert {"confusion-size-selected", "reliability-shifted", "class-maps-dual-patch"} <= figures
    assert page.count("data:image/svg+xml") == len(figures)
    record = json.loads((out / "run.json").read_text())
    assert record["seeds"] == [0] and len(record["models"]) == 5
    assert sum(name.endswith(".tif") for name in record["files"]) == 12


def test_finished_runs_serve_other_methods(out, command, patched, tmp_path):
    other = ["diameter" if part == METHODS else part for part in command]
    copy = shutil.copytree(out, tmp_path / "out")
    result = atomicity(*other, "--out", copy)
    assert result.exit_code == 0, result.output
    assert result.output.count("finished before") == 2
    assert list(json.loads((copy / "validation.json").read_text())["methods"]) == ["diameter"]


def test_the_same_data_by_another_path_continue(folders, command, out, monkeypatch):
    monkeypatch.chdir(folders)
    relative = [part.relative_to(folders) if hasattr(part, "exists") else part for part in command]
    assert relative != command
    result = atomicity(*relative, "--out", "out")
    assert result.exit_code == 0, result.output
    assert result.output.count("finished before") == 5


def test_the_record_of_a_run_is_a_settings_file(folders, out, monkeypatch):
    requests = []
    monkeypatch.chdir(folders)  # an earlier test runs there with relative paths
    monkeypatch.setattr(validate, "_engine", lambda _: lambda *asked, **_: requests.append(asked))
    monkeypatch.setattr(validate, "_print_scores", lambda _: None)
    ended = atomicity("validate", "--settings", out / "run.json", "--out", out)
    assert ended.exit_code == 0, ended.output
    again = json.loads(to_json(asdict(requests[0][0])))
    assert again == json.loads((out / "run.json").read_text())["parameters"]


def test_results_of_other_settings_are_kept(out, command):
    before = sorted((out / "runs").iterdir())
    refused = atomicity(*command, "--out", out, "--epochs", "3")
    assert refused.exit_code == 2 and "--overwrite" in refused.output
    assert sorted((out / "runs").iterdir()) == before


def test_results_of_other_settings_are_discarded_if_wanted(tmp_path):
    for key in ("one", "other"):
        store = runs.RunStore(tmp_path / "runs", key)
        store.create()
        assert not store.has_others and count_finished_runs(tmp_path) == 0
        assert not (tmp_path / "validation.json").exists()
        store.write(jobs.FitJob(methods.FITS["dual-patch"], 0, 0, True), {})
        store.create()
        assert count_finished_runs(tmp_path) == 1
        (tmp_path / "validation.json").write_text("{}")
    assert runs.RunStore(tmp_path / "runs", "one").has_others


def test_the_time_left_is_that_of_runs_of_the_same_fit():
    raw, dual, shipped = (
        methods.FITS[name] for name in ("raw-patch", "dual-patch", "dual-shipped")
    )
    planned = [jobs.FitJob(shipped, None, 0, True)]
    planned += [jobs.FitJob(fit, fold, 0, False) for fold in (0, 1) for fit in (raw, dual)]
    found = [{"seconds": {"training": s, "labels": 1.0}} for s in (99.0, 599.0, 1799.0)]
    assert runs.estimate_seconds(planned, found[:1]) == []  # the shipped model is not trained
    assert runs.estimate_seconds(planned, found[:2]) == [600.0, 600.0, 600.0]
    assert runs.estimate_seconds(planned, found) == [600.0, 1800.0]
    told = []
    runs._with_number(lambda *a: told.append(a), planned, found)(1, 4, "dual: Training")
    assert told == [(1, 4, "Run 4 of 5, 40 min left: dual: Training")]


def test_wrong_usage(folders, tmp_path):
    data = ["--data", folders / "data"]
    for arguments, message in (
        ([], "--simulate"),
        ([*data, "--simulate"], "--simulate"),
        (["--data", folders / "nothing"], "no such file"),
    ):
        result = atomicity("validate", "--out", tmp_path / "out", *arguments)
        assert result.exit_code == 2 and message in result.output
    result = atomicity("validate", "--out", tmp_path / "out", *data, "--methods", "tea", "--quick")
    assert result.exit_code == 1 and "there is no method 'tea'" in result.output
    result = atomicity("validate", "--out", tmp_path / "out", *data, "--folds", "5")
    assert result.exit_code == 1 and "in 5 parts needs 5" in result.output
    assert not (tmp_path / "out").exists()


def test_a_stored_run_serves_only_the_methods_that_it_has_run(out, monkeypatch):
    """One of one's own that was registered later, or was changed since, has no answers in it."""
    stored = next(p for p in out.rglob("*.json") if json.loads(p.read_text()).get("answers"))
    stored_run = json.loads(stored.read_text())
    job = SimpleNamespace(name=stored.stem, fit=methods.FITS[stored_run["fit"]])
    store = runs.RunStore(stored.parent.parent, "key")
    store.folder = stored.parent
    assert store.read(job) == stored_run

    def first(analysis):
        return methods.Answer(["Pt19"] * len(analysis.table), np.nan)

    def second(analysis):
        return methods.Answer(["Pt70"] * len(analysis.table), np.nan)

    def register(answer):
        own = methods.ComparedMethod("mine", "Mine", stored_run["fit"], answer)
        monkeypatch.setitem(methods.METHODS, "mine", own)

    register(first)
    assert store.read(job) is None
    again = SimpleNamespace(name="again", fit=job.fit)
    store.write(again, stored_run)
    assert store.read(again)["answers"] == stored_run["answers"]
    register(second)
    assert store.read(again) is None
    (stored.parent / "again.json").unlink()


OWN_METHOD = "def answer(analysis):\n    return ['Pt19'] * len(analysis.table)\n"


@pytest.mark.parametrize("later", ["other = [\n", "def other(\n", '"""', ""])
def test_a_method_is_the_one_that_was_registered(later, tmp_path, monkeypatch):
    """Whatever becomes of its file while images are read and networks are trained."""
    file = tmp_path / "own.py"
    file.write_text(OWN_METHOD)
    names = {"__name__": "own"}
    exec(compile(OWN_METHOD, file, "exec"), names)
    own = methods.ComparedMethod("own", "Own", "dual-patch", names["answer"])
    monkeypatch.setattr(methods, "METHODS", {})
    methods.register(own)
    known = methods.identities(methods.FITS["dual-patch"])
    file.write_text(later)
    methods.register(own)
    assert methods.identities(methods.FITS["dual-patch"]) == known


def test_decorated_methods_are_told_apart(monkeypatch):
    def logged(function):
        return wraps(function)(lambda *args: function(*args))

    def answer(label):
        @logged
        def first(analysis):
            return ["Pt19"]

        @logged
        def second(analysis):
            return ["Pt70"]

        return {"Pt19": first, "Pt70": second}[label]

    monkeypatch.setattr(methods, "METHODS", {})
    known = []
    for label in ("Pt19", "Pt70", "Pt70"):
        methods.register(methods.ComparedMethod("own", "Own", "dual-patch", answer(label)))
        known.append(methods.identities(methods.FITS["dual-patch"])["own"])
    assert known[0] != known[1] == known[2]


def test_a_method_whose_file_has_changed_is_another_one(tmp_path, monkeypatch):
    file = tmp_path / "own.py"
    file.write_text("answers = [\n    'no end'\n")
    names = {"__name__": "own"}
    exec(compile("def answer(analysis): return []", file, "exec"), names)
    monkeypatch.setattr(methods, "METHODS", {})
    methods.register(methods.ComparedMethod("own", "Own", "dual-patch", names["answer"]))
    assert methods.identities(methods.FITS["dual-patch"])["own"]
