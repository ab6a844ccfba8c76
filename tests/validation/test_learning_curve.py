"""`atomicity validate --learning-curve` from the folders to the report."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from napari_atomicity.cli.commands import app
from napari_atomicity.core.errors import AtomicityError, Cancelled, ReadError
from napari_atomicity.statistics.score_intervals import (
    LabelPairs,
    resample_scores,
    score_intervals,
)
from napari_atomicity.training.calibration.evaluation import expected_calibration_error
from napari_atomicity.validation import methods, runs
from napari_atomicity.validation.data import MIXED, SELECTED, SHIFTED, ValidationImage
from napari_atomicity.validation.jobs import run_job
from napari_atomicity.validation.learning_curve.jobs import TEST, divide, plan_curve
from napari_atomicity.validation.learning_curve.summary import (
    SCORES,
    _gain,
    curve_sentences,
    interval_of_mean,
)
from napari_atomicity.validation.request import ValidationRequest
from napari_atomicity.validation.runs import estimate_seconds
from napari_atomicity.validation.simulated import simulated_request

METHODS = "dual-patch,dual-shipped-combination"
REASON = "there are no held-out clusters of Pt19"


def atomicity(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def command(folders):
    data = ["--data", folders / "data", "--mixtures", folders / "mixtures"]
    few = ["--quick", "--device", "cpu", "--methods", METHODS, "--images-per-class", "2,1,9"]
    return ["validate", "--learning-curve", *data, *few]


@pytest.fixture(scope="module")
def trained_on():
    """Seed and names of the training images of each training."""
    return []


@pytest.fixture(scope="module")
def patched(trained_on):
    """A training that refuses one image of each class, and tells what it is given."""
    network = methods.FITS["dual-patch"]

    def fit(training):
        names = set(training.part.table["image"])
        trained_on.append((training.seed, names))
        if len(names) < 2 * len(training.classes):
            raise AtomicityError(REASON)
        return network.fit(training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods.FITS, "dual-patch", replace(network, fit=fit))
        yield


@pytest.fixture(scope="module")
def out(folders, command, patched):
    """A small learning curve, interrupted after the first training and continued."""
    folder = folders / "curve"
    finished = []

    def interrupted(job, *others):
        if sum(job.n_images > 1 for job in finished):
            raise Cancelled
        finished.append(job)
        return run_job(job, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "run_job", interrupted)
        stopped = atomicity(*command, "--out", folder)
        assert stopped.exit_code == 130, stopped.output
    assert [job.n_images for job in finished] == [0, 1, 2]
    result = atomicity(*command, "--out", folder, "--json")
    assert result.exit_code == 0, result.output
    # The run that was not possible is tried again.
    assert result.output.count("finished before") == 2
    assert result.output.count("repeat 1: not possible: ") == 1
    printed = json.loads(result.stdout)
    assert printed.pop("file") == str(folder / "learning_curve" / "learning_curve.json")
    assert all(sentence in result.stderr for sentence in printed["sentences"])
    return folder / "learning_curve"


@pytest.fixture(scope="module")
def result(out):
    return json.loads((out / "learning_curve.json").read_text())


def points(result, method):
    return {point["images_per_class"]: point for point in result["methods"][method]["points"]}


def test_each_number_of_images_is_scored(result):
    assert result["images_per_class"] == [1, 2] and result["test_images"] == [4, 4]
    assert list(points(result, "dual-shipped-combination")) == [0]
    scored = [points(result, "dual-patch")[2], *points(result, "dual-shipped-combination").values()]
    for point in scored:
        assert point["repeats"] == 2 and point["not_possible"] is None
        assert list(point["groups"]) == [SELECTED, MIXED]
        for group, scores in point["groups"].items():
            for name in SCORES if group == MIXED else ("accuracy", "calibration_error"):
                assert scores[name]["low"] <= scores[name]["mean"] <= scores[name]["high"]


def test_scores_are_the_means_over_the_repeats(out, result):
    trained = [json.loads(path.read_text()) for path in (out / "runs").glob("dual-patch-2-*.json")]
    for group in (SELECTED, MIXED):
        found = points(result, "dual-patch")[2]["groups"][group]
        answers = [pd.DataFrame(of["answers"]) for of in trained]
        answers = [a[(a["group"] == group) & (a["true"] != "") & (a["predicted"] != "")]
                   for a in answers]  # fmt: skip
        right = [a["true"] == a["predicted"] for a in answers]
        assert found["accuracy"]["mean"] == pytest.approx(np.mean([r.mean() for r in right]))
        errors = [
            expected_calibration_error(a["confidence"].to_numpy(float), r.to_numpy())
            for a, r in zip(answers, right, strict=True)
        ]
        assert found["calibration_error"]["mean"] == pytest.approx(np.mean(errors))


def test_a_number_of_images_that_the_training_refuses_is_not_the_end(out, result):
    point = points(result, "dual-patch")[1]
    assert point["groups"] == {} and point["repeats"] == 0 and point["not_possible"] == REASON
    table = pd.read_csv(out / "learning_curve.csv").set_index(["method", "images_per_class"])
    assert table.loc[("dual-patch", 1), "not_possible"] == REASON
    assert f"not possible: {REASON}" in (out / "report.html").read_text()
    assert any("1 image per class is not possible" in text for text in result["sentences"])


def test_numbers_without_enough_images_are_named(result):
    assert result["left_out"] == [
        "Pt19 has 3 images to train on in addition to those to test on: the curve has no points "
        "with 9 per class."
    ]


def test_test_images_are_the_same_for_all_numbers_and_trained_on_by_none(out, trained_on, result):
    for seed in result["seeds"]:
        tested = set()
        for path in (out / "runs").glob(f"*-seed{seed}.json"):
            answers = pd.DataFrame(json.loads(path.read_text())["answers"])
            own = frozenset(answers.loc[answers["group"] == SELECTED, "image"])
            tested.add(own)
        learnt = [names for of_seed, names in trained_on if of_seed == seed]
        assert len(tested) == 1 and not set.union(*learnt) & next(iter(tested))
        assert len(min(learnt, key=len)) == 2 and min(learnt, key=len) < max(learnt, key=len)


def test_gains_are_those_of_the_same_clusters():
    tables = {}
    for n, share in ((1, 0.5), (2, 0.75)):
        true = np.array(["Pt19", "Pt70"] * 40, object)
        right = np.arange(80) % 4 < 4 * share
        predicted = np.where(right, true, "Pt19")
        tables[n] = pd.DataFrame({"image": np.repeat(list("abcd"), 20), "sample": "one",
                                  "true": true, "predicted": predicted, "seed": 0})  # fmt: skip
    gain = _gain(tables[2], tables[1], ["Pt19", "Pt70"])
    accuracies = [(t["true"] == t["predicted"]).mean() for t in tables.values()]
    assert gain["mean"] == pytest.approx(accuracies[1] - accuracies[0])
    assert gain["low"] <= gain["mean"] <= gain["high"] and gain["sd"] is None
    assert _gain(tables[2], pd.DataFrame(), ["Pt19", "Pt70"])["mean"] is None


def test_sentences_table_and_report_agree(out, result):
    accuracy = points(result, "dual-patch")[2]["groups"][SELECTED]["accuracy"]
    figure = f"{accuracy['mean']:.2f} ± {accuracy['sd']:.2f}"
    assert result["sentences"][0].startswith(f"With 2 images per class, {figure} of the clusters")
    page = (out / "report.html").read_text()
    assert page.index(figure) < page.index("<table>") and page.count("data:image/svg+xml") == 1
    table = pd.read_csv(out / "learning_curve.csv").set_index(["method", "group"])
    assert table.loc[("dual-patch", SELECTED), "accuracy"] == pytest.approx(accuracy["mean"])
    assert {path.name for path in (out / "figures").iterdir()} == {
        "learning-curve.png", "learning-curve.svg"
    }  # fmt: skip
    record = json.loads((out / "run.json").read_text())
    assert record["seeds"] == [0, 1] and record["parameters"]["images_per_class"] == [2, 1, 9]


def test_more_repeats_use_the_finished_runs(command, out, patched):
    result = atomicity(*command, "--out", out.parent, "--repeats", "3")
    assert result.exit_code == 0, result.output
    assert result.output.count("finished before") == 4
    assert json.loads((out / "learning_curve.json").read_text())["seeds"] == [0, 1, 2]


# ---- division of the images
class Named(ValidationImage):
    name = property(lambda self: self.file)


def images(**numbers):
    return [
        Named(SELECTED, c, f"{c}/{i}", None, np.empty(0), np.empty(0))
        for c, n in numbers.items()
        for i in range(n)
    ]


def test_smaller_training_sets_are_parts_of_larger_ones():
    given = images(Pt19=20, Pt70=24)
    division = divide(given, (1, 2, 4, 8, 16, 32), [0, 1, 2])
    assert division.numbers == (1, 2, 4, 8, 16)
    assert "Pt19 has 16 images" in division.left_out[0] and "32" in division.left_out[0]
    assert division.test_images() == [4 + 8] * 3
    labels = np.array([i.sample for i in given])
    for place in division.places.values():
        for label in ("Pt19", "Pt70"):
            own = place[labels == label]
            assert sorted(own[own != TEST]) == list(range(16))
    first, second, _ = division.places.values()
    assert (first != second).any()


def test_parts_of_a_table_are_tested_in_turn():
    given = images(Pt19=9, Pt70=9)
    parts = {i.file: int(i.file.split("/")[1]) % 3 for i in given}
    division = divide(given, (1, 4, 8), [5, 6, 7, 8], parts)
    assert division.numbers == (1, 4)
    of_part = np.array(list(parts.values()))
    for tested, place in zip((2, 0, 1, 2), division.places.values(), strict=True):
        assert ((place == TEST) == (of_part == tested)).all()
    with pytest.raises(ReadError, match="at least two parts"):
        divide(given, (1,), [0], {"Pt19/0": 0})


def test_a_class_with_one_image_is_refused():
    with pytest.raises(ReadError, match="Pt70 has too few images: 0 to train on"):
        divide(images(Pt19=4, Pt70=1), (1, 2), [0])


# ---- scores and sentences
def test_intervals_contain_repeats_and_images():
    rng = np.random.default_rng(0)
    alike = [rng.normal(0.9, 0.01, 1000) for _ in range(3)]
    low, high = interval_of_mean(alike)
    assert low == pytest.approx(0.9 - 0.0196, abs=0.003)  # not narrower for three repeats
    assert high == pytest.approx(0.9 + 0.0196, abs=0.003)
    apart = [values + shift for values, shift in zip(alike, (-0.1, 0.0, 0.1), strict=True)]
    assert interval_of_mean(apart)[0] < 0.83 and interval_of_mean(apart)[1] > 0.97
    assert interval_of_mean([np.full(10, np.nan)]) == (None, None)


def test_one_repeat_has_the_intervals_of_its_images():
    rng = np.random.default_rng(1)
    true = rng.choice(["Pt19", "Pt70"], 300)
    table = pd.DataFrame({
        "image": rng.choice(list("abcdef"), 300),
        "sample": "one",
        "true": true,
        "predicted": np.where(rng.random(300) < 0.8, true, "Pt19"),
    })  # fmt: skip
    pairs = LabelPairs(table, ["Pt19", "Pt70"], ["one"])
    ends = score_intervals(pairs)[0]["accuracy"]
    assert interval_of_mean([resample_scores(pairs)["accuracy"]]) == pytest.approx(ends, abs=0.003)


def curve(**accuracies):
    def point(n, mean):
        of = {SELECTED: {"accuracy": {"mean": mean, "sd": 0.02}}}
        return {"images_per_class": n, "repeats": 2, "not_possible": None, "groups": of}

    return {
        name: {"title": name, "points": [point(n, mean) for n, mean in of.items()]}
        for name, of in accuracies.items()
    }


def test_sentences_say_how_many_images_are_enough():
    found = curve_sentences(curve(A={2: 0.7, 4: 0.93, 8: 0.935}, B={4: 0.9}, Shipped={0: 0.97}))
    assert found == [
        "With 4 images per class, 0.93 ± 0.02 of the clusters of other images are right (A, the "
        "best with 8); up to 8 images per class add less than 0.01.",
        "A: with 2 images per class, 0.70 ± 0.02; with 4 images per class, 0.93 ± 0.02; with 8 "
        "images per class, 0.94 ± 0.02.",
        "B: with 4 images per class, 0.90 ± 0.02.",
        "Shipped: without training, 0.97 ± 0.02.",
    ]
    rising = curve_sentences(curve(A={1: 0.7, 4: 0.9}))
    assert rising[0].endswith("with 4); more images may add to it.")


def test_the_time_left_grows_with_the_number_of_images():
    division = divide(images(Pt19=8, Pt70=8), (1, 2, 4), [0])
    fit = methods.FITS["dual-patch"]
    jobs = plan_curve([fit], division)
    refused = {"not_possible": REASON, "seconds": {}}
    assert estimate_seconds(jobs, [refused]) == []
    assert estimate_seconds(jobs, [refused, {"seconds": {"training": 60.0}}]) == [120.0]


# ---- simulated data and usage
def test_enough_images_are_simulated(tmp_path, monkeypatch):
    simulated = []
    monkeypatch.setattr(
        "napari_atomicity.validation.simulated.simulate_data",
        lambda folder, settings, *others: simulated.append(settings),
    )
    request = ValidationRequest(tmp_path, images_per_class=(1, 5), folds=3)
    found = simulated_request(request, tmp_path, learning_curve=True)
    # Two parts train on five images of each class, and a third one is tested.
    assert (simulated[0].images, simulated[0].folds, simulated[0].shifted) == (9, 3, False)
    assert found.shifted is None and found.mixtures == tmp_path / MIXED
    assert simulated_request(request, tmp_path).shifted == tmp_path / SHIFTED
    assert simulated[1].shifted and simulated[1].images == 8


def test_wrong_usage(folders, tmp_path):
    data = ["--data", folders / "data", "--learning-curve", "--out", tmp_path / "out"]
    for arguments, message in (
        (["--shifted", folders / "shifted"], "no --shifted"),
        (["--folds", "4"], "--folds is not used"),
        (["--seeds", "4"], "--seeds is not used"),
        (["--images-per-class", "1,some"], "--images-per-class"),
        (["--images-per-class", "0,1"], "--images-per-class"),
    ):
        result = atomicity("validate", *data, *arguments)
        assert result.exit_code == 2 and message in result.output
