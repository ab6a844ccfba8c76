"""Images of a session are labelled jointly."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import napari_atomicity
from napari_atomicity.core.acquisition_session import AcquisitionSession
from napari_atomicity.core.errors import Cancelled
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables.cluster_table import settle_labels
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.analysis import analyse, apply_scale, detect_clusters, embed_clusters
from napari_atomicity.pipeline.session_labels import label_session, summarise_session
from napari_atomicity.project import EditKind, ImageEdit, Project
from napari_atomicity.reporting.template_data import session_entries
from napari_atomicity.simulation.example_data import example_path, example_truth_path
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.training.data import match

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
GAINS = (0.9, 1.1, 1.0, 0.85, 1.15)


@pytest.fixture(scope="module")
def classifier():
    return load_classifier("default", "cpu")


@pytest.fixture(scope="module")
def example(classifier):
    """The example with the true class of each cluster."""
    micrograph = napari_atomicity.load(example_path())
    analysis = analyse(micrograph, classifier, umap=False)
    truth = pd.read_csv(example_truth_path())
    rows, truths = match(analysis.table, truth, micrograph.calibrated())
    label = np.full(len(analysis.table), "", object)
    label[rows] = truth["label"].to_numpy()[truths]
    return analysis, label


def stated(known, kept=()) -> AcquisitionSession:
    """A session with images of known composition."""
    return AcquisitionSession("session", (), known, kept=frozenset(kept))


def only(analysis: Analysis, rows: np.ndarray, gain: float, name: str) -> Analysis:
    """An image that holds some of the clusters, recorded with another gain."""
    index = np.flatnonzero(rows)
    table = analysis.table.iloc[index].reset_index(drop=True).assign(image=name)
    table["integrated_intensity"] *= gain
    image = analysis.micrograph
    return replace(
        analysis,
        micrograph=Micrograph(image.data * gain, image.pixel_size_nm, name),
        table=table,
        outlines=[analysis.outlines[i] for i in index],
        patches={c: p[index] for c, p in analysis.patches.items()},
        embedding=analysis.embedding[index],
        class_maps={c: m[index] for c, m in analysis.class_maps.items()},
        parameters={
            **analysis.parameters,
            "intensity_per_atom": analysis.parameters["intensity_per_atom"] * gain,
        },
    )


@pytest.fixture(scope="module")
def size_selected(example):
    """An image per class, and the gains with which they were recorded."""
    analysis, label = example
    return [
        only(analysis, label == name, gain, f"{name}.tif")
        for name, gain in zip(CLASSES, GAINS, strict=True)
    ]


def accuracy(analyses) -> float:
    right = [a.table["label_predicted"] == a.micrograph.name.removesuffix(".tif") for a in analyses]
    return float(np.concatenate(right).mean())


def test_size_selected_images_are_labelled_rightly(size_selected, example, classifier):
    found = label_session(size_selected, classifier)
    assert accuracy(found.analyses) >= 0.85
    scales = np.array([a.scale.intensity_per_atom for a in found.analyses])
    true = example[0].scale.intensity_per_atom * np.array(GAINS)
    assert np.abs(np.log(scales / true)).max() < 0.15
    recorded = [a.parameters["intensity_per_atom"] for a in found.analyses]
    assert recorded == pytest.approx(list(scales), rel=0.03)
    assert all(a.parameters["session"]["images"] == 5 for a in found.analyses)


def test_patches_and_intensities_are_in_the_new_unit(size_selected, classifier):
    for before, after in zip(
        size_selected, label_session(size_selected, classifier).analyses, strict=True
    ):
        factor = before.parameters["intensity_per_atom"] / after.parameters["intensity_per_atom"]
        assert after.patches["raw"] == pytest.approx(before.patches["raw"] * factor, rel=1e-4)
        assert (after.patches["LCN"] == before.patches["LCN"]).all()


def test_places_in_the_map_follow_the_features(size_selected, classifier):
    placed = [embed_clusters(image, classifier) for image in size_selected]
    found = label_session(placed, classifier)
    assert found.n_changed
    for after in found.analyses:
        expected = embed_clusters(after, classifier).table[["umap_1", "umap_2"]]
        assert after.table[["umap_1", "umap_2"]].to_numpy() == pytest.approx(expected.to_numpy())


def test_intervals_include_that_labels_may_be_shifted_together(example, classifier):
    """A session of one size only; its parameters are kept as JSON by projects and parts."""
    analysis, label = example
    images = [only(analysis, label == "Pt55", gain, f"{gain}.tif") for gain in GAINS[:3]]
    found = label_session(images, classifier).analyses
    unsure = [a for a in found if a.scale.certainty < 0.975]
    assert unsure
    for a in found:
        session = a.parameters["session"]
        assert (a.parameters["scale_solutions"] is not None) == (a in unsure)
        if a in unsure:
            drawn = np.bincount(list(map(int, session["draws"])), minlength=len(a.scale.weight))
            assert drawn / len(session["draws"]) == pytest.approx(a.scale.weight, abs=0.12)
            stored = replace(a, parameters=json.loads(json.dumps(a.parameters)))
            wide, narrow = stored.ratios(), class_ratios(a.table)
            assert (wide["fraction"] == narrow["fraction"]).all()
            width = [(x["fraction_high"] - x["fraction_low"]).sum() for x in (wide, narrow)]
            assert width[0] > width[1]


def test_copies_of_an_image_tell_nothing_more(size_selected, classifier):
    def copy(analysis, name):
        return only(analysis, np.ones(len(analysis.table), bool), 1.0, name)

    once = label_session(size_selected, classifier)
    copies = [copy(size_selected[i], f"copy {i}.tif") for i in (4, 0, 0, 0)]
    found = label_session([*size_selected, *copies], classifier)
    assert found.class_fit.describe() == once.class_fit.describe()
    assert found.scale.log_scale_sd == pytest.approx(once.scale.log_scale_sd)
    alone = [a.scale.intensity_per_atom for a in once.analyses]
    with_copies = [a.scale.intensity_per_atom for a in found.analyses]
    assert with_copies == pytest.approx([*alone, alone[4], *[alone[0]] * 3])


def test_a_second_time_nothing_changes(size_selected, classifier):
    once = label_session(size_selected, classifier)
    again = label_session(once.analyses, classifier)
    assert again.n_changed == 0
    for a, b in zip(once.analyses, again.analyses, strict=True):
        pd.testing.assert_frame_equal(a.table, b.table)


def test_labels_with_another_scale_do_not_depend_on_reopening(example, classifier, tmp_path):
    """A project stores no predictions, but the units of the intensity in which they were made."""
    own = example[0]
    (tmp_path / own.micrograph.name).write_bytes(example_path().read_bytes())
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths([tmp_path / own.micrograph.name])
        project.image_files.update_metadata(own.micrograph)
        entry = ImageEdit(own.micrograph.name, EditKind.ANALYSIS, "Ada")
        project.record(entry, None, own)
        project.flush()
    with Project(tmp_path / "p.atomicity") as project:
        stored = project.load_all()[own.micrograph.name].analysis
    scale = replace(own.scale, shift=own.scale.shift + np.array([0.025, 0.0]))
    kept, reopened = (apply_scale(x, classifier, scale).table for x in (own, stored))
    confidence = kept["confidence"].to_numpy()
    assert np.abs(confidence - own.table["confidence"]).max() > 0.01
    assert reopened["confidence"].to_numpy() == pytest.approx(confidence, abs=1e-3)


def test_labels_of_a_person_stay(size_selected, classifier):
    first = size_selected[0]
    table = first.table.copy()
    table.loc[0, ["label_corrected", "annotator"]] = "Pt70", "Ada"
    corrected = replace(first, table=settle_labels(table))
    found = label_session([corrected, *size_selected[1:]], classifier).analyses[0].table
    assert found.loc[0, "label"] == "Pt70"
    assert found.loc[0, "annotator"] == "Ada"


def test_a_known_sample_anchors_the_others(size_selected, classifier):
    images = [size_selected[1], size_selected[2]]
    known = {"Pt30.tif": {"Pt30": 1.0}}
    session = replace(stated(known), pixel_size_error=0.005)
    found = label_session(images, classifier, session=session)
    assert accuracy(found.analyses) >= 0.85
    assert all(a.parameters["session"]["pixel_size_error"] == 0.005 for a in found.analyses)


def test_a_known_sample_that_its_clusters_contradict_is_not_used(
    example, size_selected, classifier
):
    analysis, label = example
    mixture = only(analysis, np.isin(label, ["Pt19", "Pt41", "Pt70"]), 1.0, "mixture.tif")
    images, wrong = [mixture, size_selected[1]], {"mixture.tif": {"Pt55": 1.0}}
    unknown = label_session(images, classifier)
    found = label_session(images, classifier, session=stated(wrong))
    for before, after in zip(unknown.analyses, found.analyses, strict=True):
        pd.testing.assert_frame_equal(before.table, after.table)
    sessions = [a.parameters["session"] for a in found.analyses]
    test = sessions[0]["known_sample"]
    assert test["contradicted"] and not test["used"] and test["log_bayes_factor"] < -10
    assert not any("known_agreement" in session for session in sessions), "none is used"
    assert "known_sample" not in sessions[1] and "relies_on_contradicted" not in sessions[1]
    notes = [" ".join(a.ratios()["note"]) for a in found.analyses]
    assert "contradict the known sample: its composition was not used" in notes[0]
    assert "contradict" not in notes[1]
    kept = label_session(images, classifier, session=stated(wrong, kept=wrong))
    assert kept.analyses[0].parameters["session"]["known_sample"] == {**test, "used": True}
    assert kept.analyses[0].scale.intensity_per_atom != pytest.approx(
        unknown.analyses[0].scale.intensity_per_atom, rel=0.1
    )
    for a in kept.analyses:
        assert "relies on a known sample that its clusters contradict" in a.ratios()["note"][0]
    right = {"Pt30.tif": {"Pt30": 1.0}}
    test = (
        label_session(images, classifier, session=stated(right)).analyses[1].parameters["session"]
    )
    assert test["known_sample"]["used"] and not test["known_sample"]["contradicted"]


def test_lone_atoms_tell_the_scale_of_few_clusters(example, classifier):
    analysis, label = example
    few = np.isin(np.arange(len(label)), np.flatnonzero(label == "Pt55")[:2])
    image = only(analysis, few, 1.0, "few.tif")
    one_atom = analysis.scale.intensity_per_atom
    atoms = {"intensity": one_atom, "error": 0.03, "n_atoms": 20}
    anchored = replace(image, parameters={**image.parameters, "lone_atoms": atoms})
    before, after = (label_session([x], classifier).analyses[0] for x in (image, anchored))
    assert [x.parameters["session"]["lone_atoms"] for x in (before, after)] == [0, 1]
    assert after.scale.certainty > max(before.scale.certainty, 0.95)
    assert after.scale.intensity_per_atom == pytest.approx(one_atom, rel=0.1)


def test_some_images_are_labelled_by_what_the_others_tell(size_selected, classifier):
    name = size_selected[1].micrograph.name
    all_labelled = label_session(size_selected, classifier).analyses
    found = label_session(size_selected, classifier, only={name}).analyses
    for before, after, joint in zip(size_selected, found, all_labelled, strict=True):
        expected = joint if before is size_selected[1] else before
        pd.testing.assert_frame_equal(after.table, expected.table)


def test_a_known_class_that_the_model_lacks_is_refused(size_selected, classifier):
    with pytest.raises(napari_atomicity.AtomicityError, match="no class Pt56"):
        label_session(size_selected, classifier, session=stated({"Pt30.tif": {"Pt56": 1.0}}))


def test_without_patches_they_are_cut_again(example, classifier):
    analysis, _ = example
    kept = apply_scale(replace(analysis, predictions=()), classifier, analysis.scale)
    cut = apply_scale(replace(analysis, patches={}), classifier, analysis.scale)
    assert (cut.table["label_predicted"] == kept.table["label_predicted"]).all()
    assert cut.patches["raw"] == pytest.approx(kept.patches["raw"], abs=1e-3)


def test_an_image_without_clusters_is_no_obstacle(size_selected, classifier):
    flat = Micrograph(np.ones((64, 64), np.float32), 0.04, "nothing.tif")
    nothing = analyse(flat, classifier, umap=False)
    found = label_session([nothing, *size_selected], classifier)
    assert len(found.analyses[0].table) == 0
    assert accuracy(found.analyses[1:]) >= 0.85


def test_it_can_be_cancelled(size_selected, classifier):
    with pytest.raises(Cancelled):
        label_session(size_selected, classifier, stop=lambda: True)


def test_images_must_be_classified(example, classifier):
    detected = detect_clusters(example[0].micrograph)
    with pytest.raises(napari_atomicity.AtomicityError, match=detected.micrograph.name):
        label_session([detected], classifier)


def test_no_image_is_no_session(classifier):
    assert label_session([], classifier).analyses == []


def test_sizes_that_are_no_classes_are_named(example, classifier):
    """A sample of known composition in the session shows that others are between the classes."""
    rng = np.random.default_rng(0)
    analysis, label = example
    # Each is another image: copies would tell nothing more.
    references = [only(analysis, label == "Pt41", 1 + i / 1e4, f"ref{i}.tif") for i in range(24)]
    known = {image.micrograph.name: {"Pt41": 1.0} for image in references}
    unknown = []
    for i in range(24):
        image = only(analysis, np.isin(label, ["Pt30", "Pt55"]), 1.0, f"{i}.tif")
        size = label[np.isin(label, ["Pt30", "Pt55"])]
        factor = np.where(size == "Pt30", 25 / 30, 48 / 55) * rng.lognormal(0, 0.05, len(size))
        table = image.table.assign(
            integrated_intensity=image.table["integrated_intensity"] * factor
        )
        unknown.append(replace(image, table=table))
    found = label_session([*references, *unknown], classifier, session=stated(known))
    assert not found.class_fit.fits
    np.testing.assert_allclose(found.class_fit.atoms, [25, 48], rtol=0.1)
    record = found.analyses[-1].parameters["session"]
    assert record["misfit"].startswith("this session does not fit")
    # The report draws the histogram with the peaks, and what each source tells of the scale.
    images = [a.micrograph.name for a in found.analyses]
    summary = summarise_session(
        AcquisitionSession("may", tuple(images), known),
        images,
        found.scale,
        found.class_fit,
        classifier.card,
    )
    scale, sizes = session_entries([summary])
    assert scale["title"].startswith("may: ") and "<img" in scale["image"] + sizes["image"]
    assert "⚠ The sizes do not agree" in scale["caption"] and "Known: ref0.tif" in scale["caption"]
    assert [source.name for source in summary.sources][-1] == "known samples"
    session = stated({"ref0.tif": {"Pt41": 1}})
    alike = label_session(references + references[:2], classifier, session=session)
    assert alike.class_fit is None or alike.class_fit.fits
