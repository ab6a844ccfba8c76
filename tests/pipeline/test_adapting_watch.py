"""A watched folder whose model is adapted when conditions change: announced, named, resumed."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from napari_atomicity.cli.commands import app
from napari_atomicity.core.errors import ModelError
from napari_atomicity.io.tables import read_clusters
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.pipeline.adaptation import watch as module
from napari_atomicity.pipeline.adaptation.result import Adaptation
from napari_atomicity.pipeline.adaptation.runs import named
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs import finalize
from napari_atomicity.pipeline.runs.part_store import PartStore

CHECKS = {"pseudo-labels left out": (0.5, 0.9), "surprise (-ln p)": (1.0, 0.5)}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing is drawn."""
    monkeypatch.setattr(finalize, "write_report", lambda path, *_, **__: path.write_text(""))
    monkeypatch.setattr(PartStore, "draw", lambda *_: None)


@pytest.fixture
def outcomes(monkeypatch):
    """Adaptations of few clusters, which end as told and learn nothing; what they were asked."""
    asked = []

    def set_outcomes(*accepted):
        ends = iter(accepted)

        def adapt_images(analyses, model, name, device, stop=None):
            asked.append([a.micrograph.name for a in analyses])
            card, tensors = read_model(find_model(model))
            bias = {k: v + 1e-3 for k, v in tensors.items() if k.endswith("ood.mean")}
            numbers = {"Pt19": 8, "Pt70": 7}
            found = Adaptation(
                next(ends),
                ("told so",),
                card,
                {**tensors, **bias},
                None,
                numbers,
                0,
                CHECKS,
                (),
                (),
            )
            return named(found, name)

        monkeypatch.setattr(module, "adapt_images", adapt_images)
        return asked

    monkeypatch.setattr(module, "MIN_CLUSTERS", 0)
    monkeypatch.setattr(module, "refuse_unadaptable", lambda *_: None)
    return set_outcomes


@pytest.fixture
def go(images, tmp_path, tiny_model):
    """A session over the folder of images: its run, the names that it took, and its messages.

    With "none", images are not labelled jointly, which analyses them twice.
    """

    def run(sessions="auto", on_image=lambda name: None):
        took, said = [], []

        def take(live):
            took.append(live.outcome.image)
            on_image(live.outcome.image)

        session = module.AdaptingWatch(
            images,
            tmp_path / "out",
            RunRequest(str(tiny_model), "cpu", umap=False, session=sessions),
            said.append,
            {"settle_s": 0.02, "patience_s": 0.2, "reference_images": 6},
        )
        done = session.run(take, until_idle_s=0.0)
        return done, took, "\n".join(said)

    return run


def images_and_model(folder):
    table = read_clusters(folder / "clusters.csv")
    record = json.loads((folder / "run.json").read_text())
    (model,) = set(table["model_id"])
    assert record["model"]["model_id"] == model and record["status"] == "done"
    done = [one for one in record["images"] if one["status"] == "done"]
    assert {one["parameters"]["model"]["model_id"] for one in done} == {model}
    return {one["image"] for one in done}, model


def test_an_accepted_model_labels_the_images_since_the_change(
    moved, outcomes, go, images, tmp_path
):
    moved(0, "abcdefgh")
    moved(6, "ijklm")
    asked = outcomes(True)
    run, took, said = go()
    assert len(asked) == 1 and all(name.startswith("at 6") for name in asked[0])
    out = tmp_path / "out"
    before, first = images_and_model(out)
    after, second = images_and_model(out / "adapted-1")
    assert before == {f"at 0 {c}.tif" for c in "abcdefgh"}
    assert after == {f"at 6 {c}.tif" for c in "ijklm"}
    assert first.startswith("tiny-") and second.startswith("adapted-1-")
    assert read_model(out / "adapted-1.safetensors")[0].model_id == second
    assert "ADAPTATION" in said and "Accepted: told so" in said and second in said
    models = pd.read_csv(out / "models.csv").set_index("image")
    assert models.loc["at 0 a.tif"].tolist() == [first, "."]
    assert models.loc["at 6 m.tif"].tolist() == [second, "adapted-1"]
    summary = run.summary()
    assert [one["model_id"] for one in summary["stages"]] == [first, second]
    assert summary["adaptations"][0]["accepted"] and summary["analysed"] == 13
    assert len(summary["images"]) == 13 and not run.interrupted

    # a restart continues with the adapted model, and knows the images of the first one
    moved(6, "no")
    (images / "at 0 a.tif").rename(images / "renamed.tif")
    run, took, said = go()
    assert took == ["at 6 n.tif", "at 6 o.tif"] and "using the model" in said
    assert "renamed.tif was at 0 a.tif" in said
    assert len(images_and_model(out / "adapted-1")[0]) == 7
    assert images_and_model(out)[0] == before
    assert len(pd.read_csv(out / "models.csv")) == 15


def test_an_image_renamed_since_the_change_is_labelled_again(moved, outcomes, go, images, tmp_path):
    moved(0, "abcdefgh")
    moved(6, "ijklm")
    outcomes(True)

    def rename(name):
        before = images / "at 6 i.tif"
        if name == before.name and before.exists():
            before.rename(images / "at 6 z.tif")

    go(on_image=rename)
    after, _ = images_and_model(tmp_path / "out" / "adapted-1")
    assert after == {f"at 6 {c}.tif" for c in "zjklm"}
    models = pd.read_csv(tmp_path / "out" / "models.csv")
    assert len(models) == 13 and "at 6 i.tif" not in set(models["image"])


def test_a_model_that_is_rolled_back_is_announced_and_not_used(moved, outcomes, go, tmp_path):
    moved(0, "abcdefgh")
    moved(6, "ijklmnop")
    asked = outcomes(False, False)
    run, _, said = go()
    # the second attempt waits for twice as many images
    assert len(asked) == 2 and len(asked[1]) >= 2 * len(asked[0])
    assert said.count("Rolled back, the model stays what it was: told so") == 2
    assert "next attempt after" in said
    out = tmp_path / "out"
    assert len(images_and_model(out)[0]) == 16
    assert not list(out.glob("adapted*"))
    assert [one["accepted"] for one in run.summary()["adaptations"]] == [False, False]
    assert len(run.summary()["stages"]) == 1


def test_what_cannot_be_adapted_goes_on_and_says_why(moved, outcomes, go, monkeypatch):
    def refuse(*_, **__):
        raise ModelError("no memory on the device")

    moved(0, "abcdefgh")
    moved(6, "ijklm")
    outcomes()
    monkeypatch.setattr(module, "adapt_images", refuse)
    run, took, said = go("none")
    assert "no memory on the device" in said and len(took) == 13
    assert not run.interrupted and run.summary()["adaptations"] == []


def test_few_clusters_are_not_learnt_from_before_there_are_many_images(
    moved, outcomes, go, monkeypatch
):
    moved(0, "abcdefgh")
    moved(6, "ijklm")
    asked = outcomes(True)
    monkeypatch.setattr(module, "MIN_CLUSTERS", 1000)
    assert go("none")[1] and not asked
    monkeypatch.setattr(module, "MAX_IMAGES", 4)
    moved(6, "nopqr")
    go("none")
    assert len(asked) == 1 and len(asked[0]) >= 4


def test_without_a_change_nothing_is_adapted(moved, outcomes, go, tmp_path):
    moved(0, "abcdefghij")
    asked = outcomes()
    run, _, said = go("none")
    assert not asked and "ADAPTATION" not in said and run.analysed == 10
    assert set(pd.read_csv(tmp_path / "out" / "models.csv")["results"]) == {"."}


def test_a_model_that_cannot_be_adapted_is_wrong_usage(images, tmp_path, tiny_model):
    command = ["watch", images, "--out", tmp_path / "out", "--model", tiny_model, "--once"]
    for more, words in (
        (["--adapt"], "no patches of its training"),
        (["--adapt", "--reference-images", "0"], "--adapt needs"),
    ):
        result = CliRunner().invoke(app, [str(a) for a in [*command, *more]])
        assert result.exit_code == 2 and words in result.stderr, result.stderr
        assert not (tmp_path / "out").exists()


def test_the_command_adapts(moved, outcomes, images, tmp_path, tiny_model):
    moved(0, "abcdefgh")
    moved(6, "ijklm")
    outcomes(True)
    command = ["watch", images, "--out", tmp_path / "out", "--model", tiny_model, "--once"]
    more = ["--device", "cpu", "--adapt", "--reference-images", "6", "--json"]
    result = CliRunner().invoke(app, [str(a) for a in [*command, *more]])
    assert result.exit_code == 0, result.stderr
    assert "ALARM" in result.stderr and "ADAPTATION" in result.stderr
    assert result.stderr.index("ALARM") < result.stderr.index("ADAPTATION")
    assert len(json.loads(result.stdout)["stages"]) == 2
    # without the option, the first model would label the images since the change too
    more.remove("--adapt")
    result = CliRunner().invoke(app, [str(a) for a in [*command, *more]])
    assert result.exit_code == 2 and "Continue them with --adapt" in result.stderr
    result = CliRunner().invoke(app, [str(a) for a in [*command, *more, "--overwrite"]])
    assert result.exit_code == 2 and "Continue them with --adapt" in result.stderr
