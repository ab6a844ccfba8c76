"""`atomicity adapt`: what is written, what is said, what is refused; corrections of a table."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from napari_atomicity import load
from napari_atomicity.cli.commands import app
from napari_atomicity.core.errors import ModelError, ReadError, TableError
from napari_atomicity.io.tables import write_clusters
from napari_atomicity.models.domain_shift import Shift
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.adaptation import runs as adapting, text as adaptation_text
from napari_atomicity.pipeline.adaptation.result import Adaptation
from napari_atomicity.pipeline.adaptation.runs import read_corrections, with_corrections
from napari_atomicity.pipeline.adaptation.settings import AdaptRequest
from napari_atomicity.pipeline.analysis import analyse, apply_scale
from napari_atomicity.pipeline.session_labels import label_session
from napari_atomicity.simulation.example_data import example_path
from support import synthetic_analysis

KINDS = ("png", "svg")


def atomicity(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def analysed(adaptable):
    """The image as the model sees it; nobody may write to it."""
    model, image = adaptable
    return analyse(load(image), str(model), "cpu", umap=False)


@pytest.fixture
def contradictory(analysed, tmp_path):
    """A table in which a person gave every cluster a label at random."""
    label = np.random.default_rng(1).choice(["Pt19", "Pt70"], len(analysed.table))
    table = analysed.table.assign(label_corrected=label, label=label)
    return write_clusters(table, tmp_path / "random.csv")


# ---- the command
def test_a_model_is_adapted_and_written_under_the_name_of_its_file(
    adaptable, tmp_path, quick_adaptation
):
    model, image = adaptable
    bad, out = tmp_path / "bad.tif", tmp_path / "new" / "mine.safetensors"
    bad.write_text("no image")
    result = atomicity(
        "adapt", bad, image, "--model", model, "--out", out, "--device", "cpu", "--json"
    )
    assert result.exit_code == 1, result.stderr  # one of the images could not be read
    summary = json.loads(result.stdout)
    card, tensors = read_model(out)
    assert card.name == "mine" and summary["model_id"] == card.model_id
    assert summary["accepted"] and set(summary["pseudo_labels"]) == {"Pt19", "Pt70"}
    old = read_model(model)[1]
    assert any(not np.array_equal(v, old[k]) for k, v in tensors.items() if "network" in k)
    assert card.data["adaptation"]["images"][0]["image"] == "field.tif"
    assert [i["status"] for i in summary["images"]] == ["failed", "done"]
    assert set(summary["after"]["ratios"]) >= {"Pt19", "Pt70"}
    after = analyse(load(image), str(out), "cpu", umap=False).table
    counted = after[~after["touches_border"] & after["label"].isin(card.classes)]["label"]
    share = counted.value_counts(normalize=True)["Pt19"]
    assert summary["after"]["ratios"]["Pt19"] == pytest.approx(share)
    said = result.stderr
    for words in ("bad.tif: ", "The conditions", "Learnt from", "accepted: ", card.model_id):
        assert words in said
    row = next(line for line in said.splitlines() if line.startswith("  Pt19"))
    assert row.count("%") == 2 and f"{100 * share:.1f}" in row


def test_what_does_not_help_is_rolled_back_and_nothing_is_written(
    adaptable, contradictory, tmp_path, quick_adaptation
):
    model, image = adaptable
    out = tmp_path / "new" / "mine.safetensors"
    command = ("adapt", image, "--model", model, "--out", out, "--corrections", contradictory)
    result = atomicity(*command, "--json")
    assert result.exit_code == 1
    assert "rolled back, " in result.stderr.splitlines()[-1]
    assert not out.parent.exists()
    summary = json.loads(result.stdout)
    assert not summary["accepted"] and summary["model_id"] is None and summary["reasons"]
    assert summary["corrections"] > 40 and summary["before"] == summary["after"]


def test_a_model_that_needs_no_change_is_written_as_it_is(tmp_path):
    out = tmp_path / "mine.safetensors"
    result = atomicity("adapt", example_path(), "--model", "raw", "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert not summary["accepted"] and not summary["needed"]
    assert "no change needed: " in result.stderr and "unchanged model" in result.stderr
    card, tensors = read_model(out)
    assert card.name == "mine" and summary["model_id"] == card.model_id
    shipped = read_model(find_model("raw"))[1]
    assert all(np.array_equal(values, shipped[name]) for name, values in tensors.items())


@pytest.mark.parametrize("outcome", ["accepted", "rolled back"])
def test_the_report_has_figures_record_and_reason(
    adaptable, contradictory, tmp_path, quick_adaptation, outcome
):
    model, image = adaptable
    out, folder = tmp_path / "m.safetensors", tmp_path / "report"
    command = ["adapt", image, "--model", model, "--out", out, "--report", folder, "--json"]
    more = ["--corrections", contradictory] if outcome == "rolled back" else []
    result = atomicity(*command, *more)
    summary = json.loads(result.stdout)
    assert summary["accepted"] == (outcome == "accepted") == (result.exit_code == 0)
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    plots = {f"figures/{n}.{k}" for n in ("ratios", "confidence", "embedding") for k in KINDS}
    tables = {"ratios-before.csv", "ratios-after.csv"}
    assert written == {"report.html", "run.json", "ro-crate-metadata.json", *tables, *plots}
    html = (folder / "report.html").read_text()
    first = "Accepted" if outcome == "accepted" else "Rolled back"
    assert f"<b>{first}" in html and summary["reasons"][0].split("'")[0] in html
    assert html.count("<img") == 3 and "figures/" not in html.partition("Full record")[0]
    record = json.loads((folder / "run.json").read_text())
    assert record["adaptation"]["accepted"] == summary["accepted"]
    assert record["model"]["model_id"] == read_model(model)[0].model_id
    before, after = (pd.read_csv(folder / name) for name in sorted(tables, reverse=True))
    assert before.equals(after) == (outcome == "rolled back")
    again = atomicity(*command)
    assert again.exit_code == 2 and "report" in again.stderr


def test_images_have_the_labels_of_their_session_before(adaptable, analysed, tmp_path, monkeypatch):
    model, image = adaptable
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in paths:
        shutil.copy(image, path)
    seen = []

    def stop(analyses, *_):
        seen.extend(analyses)
        raise ReadError("enough")

    monkeypatch.setattr(adapting, "adapt_images", stop)
    request = AdaptRequest(out=tmp_path / "m.safetensors", model=str(model), device="cpu")
    with pytest.raises(ReadError, match="enough"):
        adapting.adapt_files(paths, request)
    alone = [
        replace(analysed, micrograph=a.micrograph, table=analysed.table.assign(image=path.name))
        for a, path in zip(seen, paths, strict=True)
    ]
    together = label_session(alone, str(model), "cpu").analyses
    for found, expected in zip(seen, together, strict=True):
        pd.testing.assert_frame_equal(found.table, expected.table)
        assert found.parameters["session"] == expected.parameters["session"]


def test_pseudo_labels_by_diameter_state_their_ranges(adaptable, tmp_path, quick_adaptation):
    model, image = adaptable
    command = ("adapt", image, "--model", model, "--out", tmp_path / "m.safetensors", "--json")
    result = atomicity(*command, "--pseudo-labels", "diameter")
    summary = json.loads(result.stdout)
    assert summary["pseudo_label_method"] == "diameter" and summary["min_probability"] == 0.9
    assert list(summary["diameter_ranges_nm"]) == ["Pt19", "Pt70"]
    assert "whose class is right with at least 90 %: Pt19 " in result.stderr
    refused = atomicity(*command, "--pseudo-labels", "diameter", "--min-probability", "1")
    assert refused.exit_code == (2 if result.exit_code == 0 else 1)
    result = atomicity(
        *command, "--pseudo-labels", "diameter", "--min-probability", "1", "--overwrite"
    )
    assert result.exit_code == 1
    assert "refused, no model is written: no cluster has an unambiguous" in result.stderr
    assert "pseudo-labels by intensity and diameter" in result.stderr
    assert "take more images" not in result.stderr
    summary = json.loads(result.stdout)
    assert summary["refused"] and summary["classes_without_pseudo_labels"] == ["Pt19", "Pt70"]


def test_without_json_standard_output_is_empty(adaptable, tmp_path, quick_adaptation):
    model, image = adaptable
    out = tmp_path / "m.safetensors"
    result = atomicity("adapt", image, "--model", model, "--out", out)
    assert result.exit_code == 0 and result.stdout == ""


def test_no_image_left_is_1(adaptable, tmp_path):
    (tmp_path / "bad.tif").touch()
    result = atomicity(
        "adapt", tmp_path / "bad.tif", "--model", adaptable[0], "--out", tmp_path / "m.safetensors"
    )
    assert result.exit_code == 1 and "bad.tif: " in result.stderr
    assert "no image could be analysed" in result.stderr


def test_wrong_usage_is_2_at_once(adaptable, tiny_model, tmp_path):
    model, image = adaptable
    out = tmp_path / "m.safetensors"
    table = tmp_path / "t.csv"
    pd.DataFrame({"image": ["a"], "label_corrected": ["Pt19"]}).to_csv(table)
    for arguments, words in (
        ((image, "--model", model, "--out", tmp_path / "m.pt"), "must be a .safetensors file"),
        ((image, "--model", model), "--out"),
        (("--model", model, "--out", out), "Missing argument"),
        ((image, "--model", tiny_model, "--out", out), "no patches of its training"),
        ((image, "--model", "nobody", "--out", out), "no model 'nobody'"),
        ((image, "--model", model, "--out", model), "cannot replace"),
        ((image, "--model", model, "--out", out, "--corrections", table), "lack the columns"),
    ):
        result = atomicity("adapt", *arguments)
        assert result.exit_code == 2 and words in result.stderr, (words, result.stderr)
        assert not out.exists() and "clusters" not in result.stderr


def test_corrections_of_no_image_are_2(adaptable, analysed, tmp_path):
    model, image = adaptable
    table = analysed.table.assign(image="other.tif", label_corrected="Pt19", label="Pt19")
    path = write_clusters(table, tmp_path / "other.csv")
    result = atomicity(
        "adapt", image, "--model", model, "--out", tmp_path / "m.safetensors",
        "--corrections", path,
    )  # fmt: skip
    assert result.exit_code == 2
    assert "the corrections match no cluster" in result.stderr


# ---- corrections of a table
def at(analysis, path):
    """An analysis whose image lies at a path."""
    return replace(analysis, micrograph=replace(analysis.micrograph, path=path))


def given(**columns):
    return pd.DataFrame({"frame": 0, "label_corrected": "Pt70", **columns})


@pytest.mark.parametrize("name", ["field.tif", "field", "day/field.tif", "day/field"])
def test_corrections_find_their_cluster_by_name_and_place(tmp_path, name):
    analysis = at(synthetic_analysis(12), tmp_path / "day" / "field.tif")
    y, x = analysis.table.loc[4, ["y_px", "x_px"]]
    near = given(image=[name, name], y_px=[y + 0.5, -90.0], x_px=[x - 0.5, 0.0])
    (found,), lost = with_corrections([analysis], near)
    assert lost == 1
    assert found.table["label_corrected"].tolist() == [""] * 4 + ["Pt70"] + [""] * 7
    assert found.table.loc[4, "label"] == "Pt70"
    assert (analysis.table["label_corrected"] == "").all()


def test_corrections_of_another_frame_or_of_a_name_that_two_images_share_are_lost(tmp_path):
    one, two = (
        at(synthetic_analysis(5, f"{day}/field.tif"), tmp_path / day / "field.tif")
        for day in ("1", "2")
    )
    y, x = one.table.loc[0, ["y_px", "x_px"]]
    rows = given(image=["field.tif", "2/field.tif"], y_px=y, x_px=x)
    (first, second), lost = with_corrections([one, two], rows)
    assert lost == 1
    assert (first.table["label_corrected"] == "").all()
    assert (second.table["label_corrected"] != "").tolist() == [True] + 4 * [False]
    _, lost = with_corrections([one], rows.assign(image="1/field.tif", frame=3))
    assert lost == 2


def test_a_table_of_corrections_is_read_as_it_may_be(tmp_path, adaptable):
    card, _ = read_model(adaptable[0])
    path = tmp_path / "c.csv"
    table = pd.DataFrame(
        {"image": ["a", "a", "b"], "y_px": 1.0, "x_px": 2.0, "label_corrected": ["", "Pt19", ""]}
    )
    table.to_csv(path, index=False)
    read = read_corrections(path, card)
    assert read["label_corrected"].tolist() == ["Pt19"] and read["frame"].tolist() == [0]
    table.assign(label_corrected="").to_csv(path, index=False)
    with pytest.raises(TableError, match="no cluster of this table is corrected"):
        read_corrections(path, card)
    table.assign(label_corrected="Pt30").to_csv(path, index=False)
    with pytest.raises(TableError, match="no class 'Pt30'"):
        read_corrections(path, card)
    with pytest.raises(ReadError):
        read_corrections(tmp_path / "none.csv", card)


# ---- in memory
def test_analyses_of_another_model_are_classified_first(adaptable, analysed):
    classifier = load_classifier(adaptable[0], "cpu")
    assert adapting.classified_by(analysed, classifier) is analysed
    other = replace(
        analysed,
        table=analysed.table.assign(umap_1=1.0, model_id="other-0"),
        parameters={**analysed.parameters, "model": {"model_id": "other-0"}},
    )
    again = adapting.classified_by(other, classifier)
    assert set(again.table["model_id"]) == {classifier.card.model_id}
    assert again.table["umap_1"].isna().all()
    np.testing.assert_allclose(again.embedding, analysed.embedding, atol=1e-5)


def test_a_cluster_that_is_not_classified_yet_changes_no_label_before(adaptable, analysed):
    """As a piece of a split one, which gets the scale that the session has told."""
    classifier = load_classifier(adaptable[0], "cpu")
    shift = analysed.scale.shift + np.array([np.log(1.5), 0])
    session = apply_scale(analysed, classifier, replace(analysed.scale, shift=shift))
    assert not session.table["label_predicted"].equals(analysed.table["label_predicted"])
    bare = session.table.copy()
    bare.loc[0, ["label_predicted", "label", "model_id"]] = ""
    embedding = session.embedding.copy()
    embedding[0] = np.nan
    before = adapting.classified_by(
        replace(session, table=bare, embedding=embedding, predictions=()), classifier
    )
    assert before.table["label"].equals(session.table["label"])
    np.testing.assert_allclose(before.table["confidence"], session.table["confidence"], atol=1e-6)


def test_an_adapted_model_says_who_it_is_before_it_is_saved(
    adaptable, analysed, tmp_path, quick_adaptation
):
    model, _ = adaptable
    found = adapting.adapt_images([analysed], str(model), "mine", "cpu")
    assert found.accepted
    old, new = load_classifier(model, "cpu").card.model_id, found.card.model_id
    assert new.startswith("mine-") and new.split("-")[1] != old.split("-")[1]
    assert set(found.before[0].table["model_id"]) == {old}
    assert set(found.after[0].table["model_id"]) == {new}
    assert found.after[0].parameters["model"]["model_id"] == new
    adapting.save_model(tmp_path / "mine.safetensors", found.card, found.tensors)
    assert read_model(find_model(tmp_path / "mine.safetensors"))[0].model_id == new


def test_a_model_without_replay_is_refused_before_anything_is_computed(tiny_model):
    with pytest.raises(ModelError, match="no patches"):
        adapting.adapt_images([], str(tiny_model))


# ---- in words
def shift(p_value, **figures):
    return Shift(p_value, 2.0, figures)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (None, "Too few clusters to tell"),
        (shift(0.4), "The conditions are within those of the training."),
        (
            shift(0.4, sharpness_per_nm=(0.5, 1.0, 3.0)),
            "those of the training. Outside by itself: sharpness 0.5 per nm, below 1–3.",
        ),
        (
            shift(0.005, noise_atoms_per_nm2=(9.0, 1.0, 4.0), sharpness_per_nm=(2.0, 1.0, 3.0)),
            "differ from those of the training (p = 0.005): noise 9 atoms/nm², above 1–4.",
        ),
        (shift(0.005, sharpness_per_nm=(0.5, 1.0, 3.0)), "sharpness 0.5 per nm, below 1–3."),
    ],
)
def test_the_shift(known, words):
    assert adaptation_text.format_shift(known).endswith(words) or known is None
    assert words in adaptation_text.format_shift(known)


def test_the_outcome():
    nothing = float("nan")
    checks = {
        "kept": (0.5, 0.75),
        "surprise (-ln p)": (0.912, 0.4),
        "corrections left out": (nothing, nothing),
    }
    found = Adaptation(
        False, ("too little", "too late"), None, {}, None, {"Pt19": 3, "Pt70": 4}, 2, checks, (), ()
    )
    assert adaptation_text.format_verdict(found).startswith(
        "Rolled back, the model stays what it was: too little; too late. "
    )
    left_out = {"pseudo-labels left out": 100, "corrections left out": 0}
    good = replace(found, checks={"pseudo-labels left out": (0.97, 0.95)}, left_out=left_out)
    words = adaptation_text.format_verdict(good)
    assert not good.has_model  # and the command says "rolled back"
    assert words.startswith("Rolled back, the model stays what it was: 97 of 100 pseudo-labels")
    assert words.endswith(
        "agree with it already. An adapted model is no better: too little; too late."
    )
    unknown = adaptation_text.format_verdict(replace(good, unchecked=True))
    assert unknown.startswith("Refused, ")
    assert unknown.endswith("agree with it already. Too little; too late.")
    assert adaptation_text.format_verdict(replace(good, accepted=True)).startswith("Accepted")
    poor = replace(good, checks={"pseudo-labels left out": (0.7, 0.6)})
    assert adaptation_text.format_verdict(poor).startswith("Rolled back")
    assert adaptation_text.format_verdict(replace(found, accepted=True)).startswith(
        "Accepted: too l"
    )
    clusters = "There are 7 clusters with an unambiguous class: 3 Pt19, 4 Pt70"
    learnt = replace(found, left_out={"pseudo-labels left out": 0, "corrections left out": 1})
    assert adaptation_text.format_learnt(replace(learnt, accepted=True)) == (
        "Learnt from 6 clusters (1 of them corrected by a person); 1 more (1 of them corrected by "
        f"a person) was left out as a check. {clusters}."
    )
    assert adaptation_text.format_learnt(found) == (
        f"Nothing was learnt. {clusters} (2 of them corrected by a person)."
    )
    unchecked = replace(found, unchecked=True)
    assert adaptation_text.format_verdict(unchecked).startswith("Refused, the model stays")
    kept = adaptation_text.format_verdict(replace(unchecked, accepted=True))
    assert kept.startswith("Accepted, although it could not be checked: ")
    assert adaptation_text.format_missing(found) == ""
    missing = replace(found, pseudo_labels={"Pt19": 3, "Pt41": 0, "Pt70": 4})
    assert "Pt41" not in adaptation_text.format_learnt(missing)
    assert adaptation_text.format_missing(missing).startswith("No pseudo-labels of Pt41: ")
    refused = replace(found, checks={})
    assert adaptation_text.format_verdict(refused).startswith("Refused, the model stays")
    assert adaptation_text.format_checks(found) == [
        "kept: 50.0 % → 75.0 %",
        "loss on held-out labels (-ln p): 0.91 → 0.40",
    ]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (0.9, 0.8, "falls from 0.90 to 0.80"),
        (0.8, 0.9, "rises from 0.80 to 0.90"),
        (0.901, 0.899, "is 0.90 as before"),
        (float("nan"), 0.9, ""),
    ],
)
def test_confidence_is_said_to_rise_only_where_it_does(before, after, words):
    assert words in adaptation_text.format_confidence(before, after)
    assert ("rises" in adaptation_text.format_confidence(before, after)) == ("rises" in words)


def test_reasons_of_an_accepted_model_do_not_speak_of_confidence(
    adaptable, analysed, quick_adaptation
):
    found = adapting.adapt_images([analysed], str(adaptable[0]), "mine", "cpu")
    assert found.accepted and not any("confiden" in reason for reason in found.reasons)
    assert found.reasons[-1].startswith("the labels left out fit better (mean −ln p ")
