"""The methods paragraph: what the record says, and nothing that it does not."""

from dataclasses import asdict, replace

import pandas as pd
import pytest

from napari_atomicity import __version__
from napari_atomicity.core.model_card import Combination, ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.detection import DetectionSettings
from napari_atomicity.io.provenance import Outcome, run_record
from napari_atomicity.io.reference_ratios import parse_reference
from napari_atomicity.reporting.methods import CITATIONS, describe_methods
from napari_atomicity.statistics.ratios.ratios import class_ratios, count_excluded
from napari_atomicity.statistics.ratios.reference import compare
from napari_atomicity.statistics.ratios.track_counts import merge_tracks
from napari_atomicity.statistics.stratified_accuracy import on_corrected
from napari_atomicity.tracking import MovieSettings
from support import CLASSES, synthetic_analysis


def record(*settings, failed=0, **more):
    done = [
        Outcome(
            f"{i}.tif", "x", "done", pixel_size_nm=0.03 + 0.01 * i,
            parameters={"detection": asdict(s)} if s else {}, calibration="none" if i else "given",
        )
        for i, s in enumerate(settings)
    ]  # fmt: skip
    bad = [Outcome(f"bad{i}", "x", "failed", "no") for i in range(failed)]
    given = {"model": None, "device": None, **more}
    return run_record([*done, *bad], started="a", finished="b", parameters={}, **given)


def told(known, table, **options):
    of_all = class_ratios(table, scope="all", n_bootstrap=20)
    found = describe_methods(known, table, of_all, **options)
    return " ".join(found.paragraphs), found


@pytest.fixture
def table() -> pd.DataFrame:
    return synthetic_analysis(30).table


def test_settings_are_told_as_used(table):
    usual, other = DetectionSettings(), DetectionSettings(threshold=4.5, split_touching=False)
    text, _ = told(record(usual, usual, other, failed=2), table)
    assert "3 images with 30 clusters were analysed with napari-atomicity" in text
    assert (
        "was 0.03 to 0.05 nm, for 1 of 3 entered by a person." in text
        and "2 further images could not be" in text
    )
    assert "for diameters of 0.6 to 3.2 nm, at a threshold of 6 times the local noise" in text
    assert "split where the saddle is below 0.9 times the lower peak" in text
    assert "(in 2 of 3 images)" in text
    assert (
        "Other settings in 1 image: for diameters of 0.6 to 3.2 nm, at a threshold of 4.5" in text
    )
    assert "touching clusters not split" in text
    text, _ = told(record(replace(usual, diameter_max_nm=2.5)), table)
    assert "1 image with 30 clusters was analysed" in text and "0.6 to 2.5 nm" in text
    assert "Other settings" not in text and "further" not in text


def test_the_average_over_symmetries_is_told(table):
    known = record(*[DetectionSettings()] * 4, failed=1)
    words = "averaged over the eight symmetries of the square"
    of_each = [image["parameters"] for image in known["images"]]
    for own in of_each[:3]:  # in the fourth, clusters were found but not classified
        own["model"] = {"model_id": "m"}
    of_each[0]["symmetries"] = False
    assert words not in told(known, table)[0]
    of_each[1]["symmetries"] = of_each[2]["symmetries"] = True
    assert f"{words} (in 2 of 3 images)." in told(known, table)[0]
    of_each[0]["symmetries"] = True
    assert f"{words}." in told(known, table)[0]


def test_stacks_are_told_as_they_were_followed(table):
    known = record(None, None, None)
    for image, range_nm in zip(known["images"], (1.0, 1.5), strict=False):
        settings = MovieSettings(search_range_nm=range_nm)
        image["parameters"] = {"movie": {"settings": settings.to_dict()}}
    text, found = told(known, table)
    assert "In 2 stacks, stage drift was corrected" in text
    assert "search range of 1 to 1.5 nm and a memory of 2 frames." in text
    assert "estimated by expectation–maximisation" in text
    assert {CITATIONS["trackpy"], CITATIONS["hmm"]} <= set(found.references)
    fixed = MovieSettings(rate=0.1).to_dict()
    known["images"][0]["parameters"] = {"movie": {"settings": fixed}}
    assert (
        "given for events and dwell times; for class ratios it was estimated"
        in (told(known, table)[0])
    )


def test_what_is_not_known_is_not_told(table):
    text, found = told(record(None), table.assign(model_id=""))
    for words in (
        "stack",
        "intensity scale",
        "Markov",
        "Laplacian",
        "classified by",
        "UMAP",
        "Grad-CAM",
        "label given",
        "Compared",
    ):
        assert words not in text
    assert "None" not in text and "nan" not in text
    assert not any("UMAP" in r or "Grad-CAM" in r for r in found.references)


def test_references_are_numbered_as_they_are_met(table):
    placed = table.assign(umap_1=0.0, umap_2=0.0)
    text, found = told(record(DetectionSettings()), placed)
    numbers = [text.index(f"[{i + 1}]") for i in range(len(found.references))]
    assert numbers == sorted(numbers) and f"[{len(found.references) + 1}]" not in text
    of_stacks = {CITATIONS["trackpy"], CITATIONS["hmm"]}
    assert set(found.references) == set(CITATIONS.values()) - of_stacks
    assert __version__ in found.references[0] and "2026-02014" not in text
    assert found.references[1].endswith("doi:10.1038/s41524-026-02014-z")


@pytest.mark.parametrize(
    ("scores", "source", "how"),
    [
        ({"held_out_known_scale": {}}, "folder", ", with the intensity scale found as in an "),
        ({}, "folder", ", shuffled into mixtures, is 0.750"),
        ({"test": {"clusters": 12, "accuracy": 0.75}}, "napari_atomicity.simulation", " is 0.750"),
    ],
)
def test_the_scale_of_the_accuracy_is_named(table, scores, source, how):
    scores = {"held_out": {"clusters": 12, "accuracy": 0.75}, **scores}
    card = ModelCard("m", CLASSES, scores=scores, data={"source": source}, sha256="ab" * 32)
    text, _ = told(record(None, model=card.provenance(), device="cpu"), table, card=card)
    assert f"clusters of held-out images{how}" in text


def test_the_card_is_told(table):
    card = ModelCard(
        "m",
        CLASSES,
        PatchSettings(2.4, 48, 0.6, ("raw", "LCN")),
        combination=Combination(1, 1, (), 0),
        sha256="ab" * 32,
        scores={"held_out": {"clusters": 12, "accuracy": 0.75}},
        intended_use="Platinum on carbon.",
        limits="No gold",
    )
    text, _ = told(record(None, model=card.provenance(), device="cpu"), table, card=card)
    for words in (
        f"SHA-256 of the weights {'ab' * 32}",
        "into Pt19, Pt30, Pt41, Pt55, Pt70.",
        "patches of 2.4 nm (48 × 48 pixels), channels raw and LCN",
        "Gaussian windows of 0.6 nm",
        "pooled with those of a mixture model",
        "contain the true class in 95 % of the cases",
        "accuracy on 12 clusters of held-out images is 0.750.",
        "Intended use: Platinum on carbon. Limits: No gold.",
        "Device: cpu.",
    ):
        assert words in text
    # Of several models, each has its own hash, and the text says whose card it tells.
    other = {"model_id": "adapted", "sha256": "cd" * 32}
    both = record(None, None, model=card.provenance())
    both["images"][0]["parameters"]["model"] = other
    mixed = table.assign(model_id=[card.model_id, "adapted"] * (len(table) // 2))
    text, _ = told(both, mixed, card=card)
    assert f"{card.model_id} (SHA-256 of the weights {'ab' * 32}) and adapted (SHA-256" in text
    assert f"{'cd' * 32}) into" in text
    assert f"What follows describes {card.model_id} alone" in text
    alone = replace(card, patches=PatchSettings(channels=("raw",)), combination=None, scores={})
    text, _ = told(record(None), table, card=alone)
    assert "channel raw." in text and "local contrast" not in text
    assert "mixture model" not in text and "accuracy" not in text


@pytest.fixture
def adapted() -> ModelCard:
    """The card of a model that learnt from labels in one of two images."""
    learnt = {
        "images": [{"image": "0.tif", "sha256": None}, {"image": "1.tif", "sha256": "ab"}],
        "pseudo_labels": {"Pt19": 100, "Pt70": 40},
        "corrections": 6,
        "pseudo_label_method": "combined",
        "held_out": 0.25,
    }
    return ModelCard("m", CLASSES, data={"adaptation": learnt}, sha256="ab" * 32)


def test_what_an_adapted_model_learnt_from_is_told(table, adapted):
    text, _ = told(record(None, None), table, card=adapted)
    assert (
        "adapted to 2 images (1 of them analysed here) by fine-tuning on pseudo-labels of 134 "
        "clusters by intensity and diameter and 6 labels by people, of which 25 % of each class"
    ) in text
    text, _ = told(record(None), table, card=replace(adapted, data={}))
    assert "adapted" not in text


def joint_record(*sessions):
    """A record of images with what is known of their sessions; None for a single image."""
    known = record(*[None] * len(sessions))
    for image, session in zip(known["images"], sessions, strict=True):
        image["parameters"]["certainty_of_scale"] = 0.9
        if session is not None:
            name, n, composition, told_of_it = session
            image.update(session=name, known=composition)
            image["parameters"]["session"] = {"images": n, **told_of_it}
    return known


def test_the_images_of_the_intensity_scale_are_told(table):
    card = ModelCard("m", CLASSES, combination=Combination(1, 1, (), 0), sha256="ab" * 32)
    text, _ = told(joint_record(None, None), table, card=card)
    assert "integrated intensity of one atom, is estimated from the clusters of each image." in text
    assert "jointly" not in text and "session" not in text
    may, june = ("may", 2, {}, {}), ("june", 2, {}, {})
    text, _ = told(joint_record(may, may, june, june), table, card=card)
    words = "jointly from the clusters of all images of an acquisition session (4 images in 2 sess"
    assert words in text and "each image." not in text and "Known" not in text
    # A blind annotator sees no sessions, and the model may not be installed.
    text, _ = told(joint_record(("", 2, {}, {}), ("", 2, {}, {}), None), table)
    assert "of an acquisition session (2 images)." in text
    assert "In 1 other image, it is estimated from the clusters of the single image." in text


def test_known_samples_and_earlier_sessions_are_told(table):
    prior = {"prior": {"intensity_per_atom": 1.0, "log_sd": 0.2}}

    def tested(used, contradicted):
        return {"known_sample": {"used": used, "contradicted": contradicted}, **prior}

    pure, mixed = {"Pt55": 1.0}, {"Pt19": 0.5, "Pt70": 0.5}
    images = [("may", 4, pure, tested(True, False)), ("may", 4, mixed, tested(True, False))]
    images += [("may", 4, pure, tested(True, False)), ("may", 4, {}, prior)]
    text, _ = told(joint_record(*images), table)
    assert "Known compositions of 3 images are used for the scale (Pt55; Pt19:0.5, Pt70:" in text
    assert "That of an earlier session with the same instrument is its prior." in text
    assert "contradict" not in text
    images = [("may", 3, pure, tested(False, True)), ("may", 3, pure, tested(True, True))]
    text, _ = told(joint_record(*images, ("may", 3, {}, {})), table)
    assert "Known compositions of 1 image are used for the scale (Pt55). The clusters of 1" in text
    assert "The stated composition of 1 image is not used, because the clusters con" in text
    assert "is its prior (in 2 of 3 images)." in text
    # What would tell a blind annotator the labels is not in the record.
    text, _ = told(joint_record(("", 2, {}, tested(True, False)), ("", 2, {}, {})), table)
    assert "Known" not in text and "composition" not in text


def test_the_error_of_the_pixel_size_is_told(table):
    images = [("may", 2, {}, {"pixel_size_error": error}) for error in (0.02, 0.005)]
    text, _ = told(joint_record(*images), table)
    assert "a standard error of 0.5 or 2 % of the pixel size is included" in text


def test_every_cluster_that_does_not_count_has_one_reason(table):
    table = table.copy()
    table["excluded"] = False
    table.loc[0, ["excluded", "touches_border"]] = True
    table.loc[1, "touches_border"] = True
    table.loc[1, "label"] = "unknown"
    table.loc[2:4, "label"] = "unknown"
    table.loc[5, "label"] = "aggregate"
    table.loc[6, "label"] = ""
    expected = {
        "in excluded regions": 1,
        "cut by the border": 1,
        "labelled unknown": 3,
        "labelled aggregate": 1,
        "without a label": 1,
    }
    assert count_excluded(table, table) == expected
    tracks = [*range(1, len(table) - 1), -1, -1]
    tracked = table.assign(track_id=tracks)
    assert count_excluded(tracked, merge_tracks(tracked))["in no track"] == 2
    text, _ = told(record(None), table)
    assert "Class ratios include 23 clusters and exclude 1 cluster in excluded regions" in text
    assert "1 cluster labelled aggregate and 1 cluster without a label." in text


def test_people_are_counted_and_not_named(table):
    table = table.copy()
    table.loc[:2, ["label", "label_corrected"]] = "Pt70"
    table.loc[2, "label_predicted"] = ""
    log = pd.DataFrame(
        [
            ("Ann", "a", 1, "Pt70", "label"),
            ("Bob", "a", 2, "Pt70", "label"),
            ("consensus", "a", 3, "Pt70", "label"),
            ("Ann", "a", 7, "", "remove"),
            ("Ann", "a", 8, "", "remove"),
            ("Ann", "a", 8, "", "add"),
            ("Cid", "a", 1, "Pt19", "label"),
            ("Cid", "a", 1, "", "label"),  # undone
        ],
        columns=["annotator", "image", "cluster_id", "label", "what"],
    )
    text, _ = told(record(None), table, corrections=log, corrected=on_corrected(table, CLASSES))
    assert "3 clusters have a label given by a person (8 entries by 2 people in the log)" in text
    assert "The model had no label for 1 of them. 1 cluster was removed manually." in text
    assert "Ann" not in text and "Bob" not in text
    text, _ = told(record(None), table, corrections=log[log["annotator"] == "consensus"])
    assert "given by a person (1 entry in the log)" in text
    text, _ = told(record(None), table)
    assert "3 clusters have a label given by a person, which replaces" in text


def test_clusters_changed_by_people_are_told(table):
    rows = [
        (91, "remove", "1", False),  # not a cluster
        (92, "remove", "2", False), (1, "add", "2", False), (2, "add", "2", False),  # split
        (93, "remove", "3", False), (94, "remove", "3", False), (3, "add", "3", False),  # merged
        (4, "add", "4", False), (5, "add", "5", False),
        (95, "add", "6", False), (95, "remove", "7", True),  # undone
        (6, "remove", "8", False), (96, "add", "8", False), (97, "add", "8", False),  # undone
        (96, "remove", "9", True), (97, "remove", "9", True), (6, "add", "9", True),
        (7, "remove", "10", False), (7, "add", "11", True),  # back
        (8, "move", "12", False),
    ]  # fmt: skip
    log = pd.DataFrame(rows, columns=["cluster_id", "what", "time", "undo"])
    log = log.assign(annotator="Ann", image=table["image"].iloc[0], label="", undone=False)
    text, _ = told(record(None), table, corrections=log)
    assert (
        "1 cluster was removed, 2 clusters were added, 1 cluster was split and 2 clusters were "
        "merged manually."
    ) in text


def test_a_reference_is_told_with_its_figures(table):
    found = compare(table, parse_reference("Pt19:Pt41 = 1:2"), n_bootstrap=20)
    text, _ = told(record(None), table, comparison=found)
    assert f"Compared with 5 reference fractions, R² = {found.r2:.3f} and the mean absolute" in text
    equal = compare(table, parse_reference("Pt19:Pt30:Pt41:Pt55:Pt70 = 1:1:1:1:1"), n_bootstrap=20)
    text, _ = told(record(None), table, comparison=equal)
    assert "R² is not defined (all reference fractions are equal)" in text
