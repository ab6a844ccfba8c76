"""Adaptation: pseudo-labels, what it mends, what it must refuse, what it must not forget."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from napari_atomicity.core.apparent_size import ApparentSize
from napari_atomicity.core.errors import Cancelled, ModelError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.core.scale_reference import ScaleReference
from napari_atomicity.core.tables import cluster_table as tables
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.diameter_density import diameter_posterior
from napari_atomicity.models.domain_shift import Shift
from napari_atomicity.models.estimators import Measured
from napari_atomicity.models.inference import Classifier
from napari_atomicity.models.network import AtomicityNet
from napari_atomicity.models.out_of_distribution import COMPONENTS, features, placed
from napari_atomicity.models.scale.intensity_scale import fit_image
from napari_atomicity.pipeline.adaptation import fine_tuning, network_tuning as adapted_model
from napari_atomicity.pipeline.adaptation.checks import Split, find_objections
from napari_atomicity.pipeline.adaptation.evidence import IntensityEvidence, IntensityJudge
from napari_atomicity.pipeline.adaptation.fine_tuning import adapt
from napari_atomicity.pipeline.adaptation.network_tuning import fine_tune, match_conditions
from napari_atomicity.pipeline.adaptation.pseudo_labels import (
    Target,
    labels_by_diameter,
    labels_by_session,
)
from napari_atomicity.pipeline.adaptation.result import Adaptation
from napari_atomicity.pipeline.adaptation.settings import AdaptSettings
from napari_atomicity.pipeline.adaptation.text import (
    format_checks,
    format_learnt,
    format_verdict,
    mean_confidence,
)
from napari_atomicity.pipeline.session_labels import LabelledSession

SIZES = np.array([19, 41, 70])
CLASSES = tuple(f"Pt{n}" for n in SIZES)
DIAMETERS = 0.31 * SIZES ** (1 / 3)
REFERENCE = ScaleReference(
    tuple(np.log(SIZES)), tuple(np.log(DIAMETERS)), (((0.003, 0.0), (0.0, 0.006)),) * 3
)
QUICK = AdaptSettings(steps=40, batch_size=32, learning_rate=4e-3)
Y, X = np.mgrid[:32, :32] - 15.5
SAMPLE = np.repeat([0, 1, 2], 40)


def patches_of(label, seed, height=1.0):
    """Blobs whose height and width go with the class; ``height`` is what other conditions do."""
    rng = np.random.default_rng(seed)
    width = (3.5 + 0.9 * label)[:, None, None]
    raw = (10 + 8 * label)[:, None, None] * height * np.exp(-(Y**2 + X**2) / (2 * width**2))
    return {"raw": (raw + rng.normal(0, 1.0, raw.shape)).astype(np.float32)}


def measured_table(label, seed, name):
    rng = np.random.default_rng(seed)
    n = len(label)
    table = pd.DataFrame(
        {
            "image": name,
            "cluster_id": np.arange(1, n + 1),
            "y_px": rng.uniform(0, 500, n),
            "x_px": rng.uniform(0, 500, n),
            "integrated_intensity": 7.0 * SIZES[label] * np.exp(rng.normal(0, 0.05, n)),
            "diameter_nm": DIAMETERS[label] * np.exp(rng.normal(0, 0.07, n)),
            "eccentricity": 0.3,
        }
    )
    return tables.conform(table, CLASSES)


@pytest.fixture(scope="module")
def model():
    """A network that has really learnt bright from dim, with what it was taught to replay."""
    torch.manual_seed(0)
    card = ModelCard(
        "made", CLASSES, PatchSettings(size_px=32, channels=("raw",)), REFERENCE, width=4,
        ood_limit=1e6, sha256="0" * 64,
    )  # fmt: skip
    network = AtomicityNet(("raw",), 3, width=4)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    rng = np.random.default_rng(0)
    for step in range(120):
        label = rng.integers(3, size=48)
        batch = {c: torch.from_numpy(p) for c, p in patches_of(label, step).items()}
        loss = functional.cross_entropy(network(batch).logits, torch.from_numpy(label))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    label = np.repeat([0, 1, 2], 40)
    tensors = {f"network.{k}": v.detach().numpy() for k, v in network.state_dict().items()}
    with torch.no_grad():
        shown = {c: torch.from_numpy(p) for c, p in patches_of(label, 999).items()}
        embedding = network.eval()(shown).embedding.numpy()
    tensors |= {
        "reference.embedding": embedding,
        "reference.label": label,
        "reference.map": np.random.default_rng(0).uniform(0, 10, (120, 2)).astype(np.float32),
        "ood.mean": np.stack([embedding[label == i].mean(axis=0) for i in range(3)]),
        "ood.whitening": np.eye(embedding.shape[1], dtype=np.float32),
        "replay.raw": patches_of(label, 999)["raw"].astype(np.float16),
        "replay.label": label,
    }
    return card, tensors


def image(seed, height, n=90, name="here.tif"):
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=n)
    table = measured_table(label, seed, name)
    micrograph = Micrograph(np.zeros((8, 8), np.float32), 0.05, name=name)
    analysis = Analysis(
        micrograph, table, [], patches_of(label, seed, height), scale=fit_image(table, REFERENCE)
    )
    return label, analysis


def accuracy(analysis, label):
    p = analysis.table[[f"p_{c}" for c in CLASSES]].to_numpy()
    return (p.argmax(axis=1) == label).mean()


def test_a_shift_is_mended_and_nothing_forgotten(model):
    label, analysis = image(3, height=0.5)
    result = adapt([analysis], *model, QUICK)
    assert result.accepted, result.reasons
    assert accuracy(result.before[0], label) < 0.75
    assert accuracy(result.after[0], label) > 0.93
    first, last = result.checks["training remembered"]
    assert last >= first - 0.01
    assert result.shift.found
    assert set(result.pseudo_labels) == set(CLASSES)
    assert result.card.data["adaptation"]["from"] == model[0].model_id


def test_the_apparent_size_of_an_adapted_model_is_that_of_its_features(model):
    """The changed network has other features for the same clusters."""
    card, tensors = model
    before = Classifier(card, tensors, torch.device("cpu")).predict(patches_of(SAMPLE, 1)).embedding
    atoms = np.log(SIZES)[SAMPLE]
    constant, *weights = np.linalg.lstsq(np.insert(before, 0, 1, axis=1), atoms, rcond=None)[0]
    covariance = (((0.003, 0.0), (0.0, 0.01)),) * 3
    sizes = ApparentSize(
        tuple(np.log(SIZES)), tuple(np.log(SIZES)), covariance, 0.1, tuple(weights), constant
    )
    label, analysis = image(3, height=0.5)
    result = adapt([analysis], replace(card, apparent_size=sizes), tensors, QUICK)
    assert result.accepted, result.reasons
    fitted = result.card.apparent_size
    found = fitted.measure(result.after[0].embedding, analysis.table["diameter_nm"].to_numpy())
    assert abs((found - np.array(fitted.log_size)[label]).mean()) < 0.1
    was = sizes.measure(result.after[0].embedding, analysis.table["diameter_nm"].to_numpy())
    assert abs((was - np.log(SIZES)[label]).mean()) > 0.1


def test_what_was_learnt_from_is_not_called_unknown(model):
    """A second network that calls everything unknown, as one may under other conditions."""
    card, tensors = model
    known = Measured(measured_table(np.zeros(1, int), 0, "a"), card, None, np.full((1, 3), 1 / 3))
    label, analysis = image(3, height=0.5)
    size = tensors["ood.mean"].shape[1]
    beside = {"outside.centre": np.zeros(size), "outside.axes": np.zeros((size, COMPONENTS))}
    known = replace(known, scale=analysis.scale)
    there = placed(np.zeros((1, size), np.float32), tensors)
    n = features(known, there, tensors | beside).shape[1]
    beside |= {
        "outside.mean": np.zeros(n),
        "outside.deviation": np.ones(n),
        "outside.hidden.weight": np.zeros((2, n)),
        "outside.hidden.bias": np.zeros(2),
        "outside.output.weight": np.zeros((3, 2)),
        "outside.output.bias": np.array([0.0, 4.0, -4.0]),
    }
    result = adapt([analysis], card, tensors | beside, QUICK)
    assert result.accepted, result.reasons
    assert (result.before[0].table["label"] == "unknown").all()
    assert (result.after[0].table["label"] == "unknown").mean() < 0.05
    assert accuracy(result.after[0], label) > 0.93


def test_averaged_images_are_judged_as_people_will_see_them(model, monkeypatch):
    seen = []  # rows, and whether they were averaged

    class Noted(Classifier):
        def predict(self, patches, *args, symmetries=False):
            seen.append((len(patches["raw"]), symmetries))
            return super().predict(patches, *args, symmetries=symmetries)

    monkeypatch.setattr("napari_atomicity.pipeline.adaptation.fine_tuning.Classifier", Noted)
    label, averaged = image(3, height=0.5)
    averaged = replace(averaged, parameters={"symmetries": True})
    other, plain = image(4, height=0.5, n=70, name="plain.tif")
    result = adapt([averaged, plain], *model, QUICK)
    assert result.accepted, result.reasons
    # 120 patches of the training are replayed, in one view
    assert set(seen) == {(90, True), (70, False), (120, False)}
    p = [a.table[[f"p_{c}" for c in CLASSES]].to_numpy() for a in result.before]
    share = np.bincount(np.concatenate(p).argmax(axis=1)).max() / 160
    assert result.checks["largest share of a class"][0] == pytest.approx(share)
    assert accuracy(result.after[0], label) > 0.93 < accuracy(result.after[1], other)


def test_the_mean_confidence_is_that_of_labels_that_are_classes():
    _, analysis = image(3, height=0.5)
    table = analysis.table.assign(label_predicted="Pt19", confidence=0.9)
    table.loc[:2, ["label_predicted", "confidence"]] = ["unknown", 0.0]
    table.loc[3:4, ["label_predicted", "confidence"]] = ["aggregate", 0.0]
    part = replace(analysis, table=table)
    assert mean_confidence([part, part]) == pytest.approx(0.9)
    unknown = replace(analysis, table=table.assign(label_predicted="unknown"))
    assert np.isnan(mean_confidence([unknown]))


def test_the_same_seed_gives_the_same_model(model):
    _, analysis = image(3, height=0.5)
    short = replace(QUICK, steps=10)
    one, two = (adapt([analysis], *model, short).tensors for _ in range(2))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_what_contradicts_itself_is_rolled_back(model):
    """Corrections at random can't be met; the model stays, and says why."""
    _, analysis = image(4, height=1.0)
    given = np.random.default_rng(0).choice(np.array(CLASSES, object), 90)
    table = tables.settle_labels(analysis.table.assign(label_corrected=given))
    result = adapt([replace(analysis, table=table)], *model, QUICK)
    assert not result.accepted
    assert result.reasons
    assert result.tensors is model[1] and result.card is model[0]
    assert result.corrections == 90
    assert result.after is result.before


def test_too_little_to_learn_from_is_said(model):
    _, analysis = image(5, height=0.5, n=6)
    result = adapt([analysis], *model, QUICK)
    assert not result.accepted
    assert "at least 10" in result.reasons[0]


def test_labels_of_one_class_are_refused_and_its_name_is_told(model):
    table = measured_table(np.full(60, 0), 5, "here.tif")
    micrograph = Micrograph(np.zeros((8, 8), np.float32), 0.05, name="here.tif")
    patches = patches_of(np.full(60, 0), 5)
    analysis = Analysis(micrograph, table, [], patches, scale=fit_image(table, REFERENCE))
    result = adapt([analysis], *model, QUICK)
    assert result.refused and not result.accepted
    assert "unambiguous clusters are Pt19" in result.reasons[0]
    assert result.classes_without_labels == ("Pt41", "Pt70")
    assert result.summary()["classes_without_pseudo_labels"] == ["Pt41", "Pt70"]


def test_a_class_without_pseudo_labels_is_named(model):
    label = np.random.default_rng(1).choice([0, 2], 90)
    table = measured_table(label, 3, "here.tif")
    micrograph = Micrograph(np.zeros((8, 8), np.float32), 0.05, name="here.tif")
    patches = patches_of(label, 3, 0.5)
    analysis = Analysis(micrograph, table, [], patches, scale=fit_image(table, REFERENCE))
    result = adapt([analysis], *model, QUICK)
    assert not result.refused and result.classes_without_labels == ("Pt41",)


def test_diameters_alone_mend_a_shift_as_published(model):
    label, analysis = image(3, height=0.5)
    settings = replace(QUICK, pseudo_label_method="diameter", posterior=0.9)
    result = adapt([analysis], *model, settings)
    assert result.accepted, result.reasons
    assert accuracy(result.after[0], label) > accuracy(result.before[0], label) + 0.1
    assert result.card.data["adaptation"]["pseudo_label_method"] == "diameter"
    diameter = analysis.table["diameter_nm"].to_numpy()
    within = sum(
        ((diameter >= low) & (diameter <= high)).sum()
        for ranges in result.diameter_ranges.values()
        for low, high in ranges
    )
    assert sum(result.pseudo_labels.values()) == within < 90


def test_wrong_labels_by_diameter_are_not_learnt(model, monkeypatch):
    """Labels one class too large agree with those left out, but not with the intensities."""
    label, analysis = image(3, height=1.0)
    wrong = [np.minimum(label + 1, 2)]
    monkeypatch.setattr(
        "napari_atomicity.pipeline.adaptation.pseudo_labels.labels_by_diameter", lambda *_: wrong
    )
    settings = replace(QUICK, pseudo_label_method="diameter")
    result = adapt([analysis], *model, settings)
    assert not result.accepted and result.checks
    assert any("estimate from the intens" in reason for reason in result.reasons), result.reasons
    kept = adapt([analysis], *model, replace(settings, accept_unchecked=True))
    assert not kept.accepted  # it could be checked, and is wrong


def test_what_the_intensities_cannot_judge_is_kept_only_if_told(model, monkeypatch):
    label, analysis = image(3, height=0.5)
    unknown = IntensityEvidence(0.5, 0.5, 0.5, judged=False)
    monkeypatch.setattr(IntensityJudge, "compare", lambda *_: unknown)
    monkeypatch.setattr(
        "napari_atomicity.pipeline.adaptation.pseudo_labels.labels_by_diameter",
        lambda *_: [label.copy()],
    )
    settings = replace(QUICK, pseudo_label_method="diameter")
    refused = adapt([analysis], *model, settings)
    assert refused.unchecked and not refused.accepted and refused.tensors is model[1]
    assert "could not be checked" in format_verdict(refused)
    kept = adapt([analysis], *model, replace(settings, accept_unchecked=True))
    assert kept.unchecked and kept.accepted
    assert accuracy(kept.after[0], label) > accuracy(kept.before[0], label)


def test_the_images_of_a_session_are_labelled_with_one_scale():
    """Blur makes the clusters of one size as wide as the next: alone, such an image misleads."""
    labels = SAMPLE, np.ones_like(SAMPLE)
    wider = DIAMETERS[2] / DIAMETERS[1]
    analyses = [session_image(x, 1, lambda t: t.assign(diameter_nm=wider * t["diameter_nm"]))
                for x in labels]  # fmt: skip
    alone = labels_by_session(analyses[1:], CARD, 0.95)[0]
    assert not (alone == 1).any()
    together = labels_by_session(analyses, CARD, 0.95)
    assert (together[0] == SAMPLE).mean() > 0.9
    assert (together[1] == 1).mean() > 0.9


def test_the_width_of_a_class_does_not_decide_the_scale():
    """Clusters half-way between two classes, as narrow as one of them is in the reference."""
    widths = 0.015, 0.005, 0.015
    narrow = replace(REFERENCE, covariance=tuple(((0.003, 0.0), (0.0, w)) for w in widths))
    half_way = np.sqrt(DIAMETERS[1] / DIAMETERS[2])
    analysis = session_image(
        np.full(80, 2), 3, lambda t: t.assign(diameter_nm=half_way * t["diameter_nm"])
    )
    found = labels_by_session([analysis], replace(CARD, scale=narrow), 0.95)[0]
    assert not (found == 1).any()


def test_diameters_of_an_image_err_together():
    """Images of one size each, whose isomers or focus change all diameters of an image."""
    analyses = [
        session_image(
            np.full(60, k), 9 + k, lambda t, e=e: t.assign(diameter_nm=np.exp(e) * t["diameter_nm"])
        )
        for k, e in enumerate((0.082, -0.102, 0.017))
    ]
    found = np.concatenate(labels_by_session(analyses, CARD, 0.9))
    named = found >= 0
    assert named.any() and (found[named] == np.repeat([0, 1, 2], 60)[named]).all()


@pytest.mark.parametrize("features", ["useless", "contradicting"])
def test_features_of_a_network_veto_labels_but_need_not_give_them(features):
    label = np.random.default_rng(0).integers(3, size=150)
    by_diameter = ApparentSize.from_diameters(REFERENCE)
    log_size = np.array(by_diameter.log_size)
    size, scatter = {
        "useless": (log_size.mean() + np.random.default_rng(1).normal(0, 0.5, 150), 1.0),
        "contradicting": (log_size[np.minimum(label + 1, 2)], 0.02),
    }[features]
    sizes = replace(
        by_diameter, weights=(1.0,), scatter=0.05, covariance=(((0.003, 0), (0, scatter**2)),) * 3
    )
    analysis = replace(session_image(label, 1), embedding=size[:, None])
    found = labels_by_session([analysis], replace(CARD, apparent_size=sizes), 0.9)[0]
    alone = labels_by_session([analysis], CARD, 0.9)[0]
    assert (alone == label).mean() > 0.95
    if features == "useless":
        assert (found == alone).mean() > 0.95
    else:
        assert (found[label < 2] == -1).all()


@pytest.mark.parametrize(("classes", "judged"), [([0, 1, 2], True), ([1], False)])
def test_intensities_of_one_size_judge_nothing(classes, judged):
    label = np.resize(classes, 60)
    tables_of_images = [measured_table(label, seed, f"{seed}.tif") for seed in range(2)]
    judge = IntensityJudge(tables_of_images, REFERENCE)
    found = judge.compare([np.maximum(label - 1, 0)] * 2, [label] * 2)
    assert found.judged == judged
    if judged:
        assert found.p_better > 0.95 and found.after > 0.95
        assert judge.compare([label] * 2, [np.minimum(label + 1, 2)] * 2).p_better < 0.05


def test_the_judge_does_not_use_the_diameters():
    """Labels by the diameter share its errors, so the evidence for them must not."""
    images = [measured_table(SAMPLE, seed, f"{seed}.tif") for seed in range(2)]
    wider = [table.assign(diameter_nm=4 * table["diameter_nm"]) for table in images]
    labels = [np.maximum(SAMPLE - 1, 0)] * 2, [SAMPLE] * 2
    assert IntensityJudge(images, REFERENCE).compare(*labels) == IntensityJudge(
        wider, REFERENCE
    ).compare(*labels)


def test_replayed_patches_take_on_the_blur_of_the_new_ones():
    sharp = patches_of(SAMPLE, 1)["raw"]
    blurred = gaussian_filter(patches_of(SAMPLE, 2)["raw"], (0, 1.5, 1.5))
    matched = match_conditions({"raw": sharp}, {"raw": blurred}, 2.8, np.random.default_rng(0))
    detail = [np.abs(np.diff(p, axis=2)).mean() for p in (sharp, matched["raw"], blurred)]
    assert abs(detail[1] / detail[2] - 1) < 0.3 < abs(detail[0] / detail[2] - 1)
    np.testing.assert_allclose(matched["raw"].sum(axis=(1, 2)), sharp.sum(axis=(1, 2)), rtol=0.02)


def test_an_image_whose_scale_jumps_teaches_nothing(model, monkeypatch):
    """Another reference that puts the scale a class off must not make its own pseudo-labels."""
    _, analysis = image(3, height=0.5)
    wrong = replace(REFERENCE, log_intensity=tuple(np.log(SIZES) - 0.6))
    monkeypatch.setattr(
        "napari_atomicity.pipeline.adaptation.fine_tuning.refined", lambda *_: wrong
    )
    result = adapt([analysis], *model, QUICK)
    assert not result.accepted
    assert sum(result.pseudo_labels.values()) == 0


def test_diameters_and_patches_in_their_own_unit_need_no_scale(model, monkeypatch):
    _, analysis = image(3, height=0.5)
    wrong = replace(REFERENCE, log_intensity=tuple(np.log(SIZES) - 0.6))
    monkeypatch.setattr(
        "napari_atomicity.pipeline.adaptation.fine_tuning.refined", lambda *_: wrong
    )
    card, tensors = model
    settings = replace(QUICK, pseudo_label_method="diameter", posterior=0.9)
    for unit, learns in (("atoms", False), ("patch", True)):
        own = replace(card, patches=replace(card.patches, raw_unit=unit))
        result = adapt([analysis], own, tensors, settings)
        assert (sum(result.pseudo_labels.values()) > 0) == learns


def test_what_leaves_nothing_to_decide_by_is_not_kept(model):
    """One correction of a class is learnt from, but none is left out."""
    label, analysis = image(3, height=1.0)
    given = np.full(90, "unknown", object)
    given[[np.flatnonzero(label == i)[0] for i in range(3)]] = CLASSES
    table = tables.settle_labels(analysis.table.assign(label_corrected=given))
    few = replace(analysis, table=table)
    many = [replace(few, micrograph=replace(few.micrograph, name=f"{i}.tif")) for i in range(4)]
    result = adapt(many, *model, replace(QUICK, held_out=0.0))
    assert result.corrections == 12
    assert np.isfinite(result.checks["corrections left out"][1])


def test_numbers_of_labels_learnt_from_and_left_out_add_up(model):
    label, analysis = image(3, height=0.5)
    given = np.full(90, "", object)
    for i in range(2):
        given[np.flatnonzero(label == i)[:3]] = CLASSES[i]
    table = tables.settle_labels(analysis.table.assign(label_corrected=given))
    result = adapt([replace(analysis, table=table)], *model, QUICK)
    assert result.accepted, result.reasons
    total, left = sum(result.pseudo_labels.values()), sum(result.left_out.values())
    assert result.corrections == 6 and result.left_out["corrections left out"] == 2
    assert format_learnt(result).startswith(
        f"Learnt from {total - left} clusters (4 of them corrected by a person); {left} more "
        f"(2 of them corrected by a person) were left out as a check. There are {total} clusters "
    )
    before, after = (round(2 * share) for share in result.checks["corrections left out"])
    said = "as before" if before == after else f"instead of {before} of 2"
    assert f"{after} of 2 corrections left out agree {said}" in result.reasons
    assert f"right on held-out corrections: {before} of 2 → {after} of 2" in format_checks(result)


def test_clusters_in_excluded_regions_teach_nothing(model):
    label, analysis = image(3, height=0.5)
    given = np.full(90, "", object)
    given[[np.flatnonzero(label == i)[0] for i in range(3)]] = CLASSES
    table = tables.settle_labels(analysis.table.assign(label_corrected=given))
    table = table.assign(excluded=(given != "") | (np.arange(90) < 30))
    result = adapt([replace(analysis, table=table)], *model, QUICK)
    assert result.corrections == 0
    assert 0 < sum(result.pseudo_labels.values()) <= 90 - table["excluded"].sum()


def test_corrected_clusters_that_are_not_whole_or_not_measured_teach_nothing(model):
    """As in a training on corrected labels."""
    label, analysis = image(3, height=0.5)
    given = np.full(90, "", object)
    given[[np.flatnonzero(label == i)[0] for i in range(3)]] = CLASSES
    table = tables.settle_labels(analysis.table.assign(label_corrected=given))
    table = table.assign(touches_border=given == CLASSES[0])
    table.loc[given == CLASSES[1], "diameter_nm"] = np.nan
    assert adapt([replace(analysis, table=table)], *model, QUICK).corrections == len(CLASSES) - 2


def test_the_training_patches_that_decide_do_not_depend_on_the_images(model):
    """Or figures of one model would differ between choices of images."""
    _, small = image(3, height=1.0, n=40)
    _, large = image(4, height=1.0)
    card, tensors = model
    wrong = tensors["replay.label"].copy()
    wrong[np.random.default_rng(1).permutation(120)[:40]] = 1
    spoilt = {**tensors, "replay.label": wrong}
    found = [adapt([analysis], card, spoilt, QUICK) for analysis in (small, large, small)]
    assert len({result.checks["training remembered"][0] for result in found}) == 1
    assert found[0].pseudo_labels != found[1].pseudo_labels


LEFT_OUT = {"pseudo-labels left out": 20, "corrections left out": 10}


@pytest.mark.parametrize(
    ("left_out", "corrected", "remembered", "accepted"),
    [
        ((0.2, 0.7), (np.nan, np.nan), (0.9, 0.7), True),
        ((0.2, 0.7), (np.nan, np.nan), (0.9, 0.4), False),
        ((0.2, 0.7), (0.5, 0.6), (0.9, 0.8), False),
        ((0.7, 0.72), (np.nan, np.nan), (0.9, 0.85), False),
        ((0.7, 0.72), (np.nan, np.nan), (0.9, 0.895), True),
    ],
)
def test_what_is_lost_of_the_training_must_be_gained_elsewhere(
    left_out, corrected, remembered, accepted
):
    checks = {
        "pseudo-labels left out": left_out,
        "corrections left out": corrected,
        "surprise (-ln p)": (2.0, 1.0),
        "training remembered": remembered,
        "largest share of a class": (0.4, 0.4),
    }
    objections = find_objections(checks, QUICK, LEFT_OUT)
    assert not objections if accepted else "of the clusters of the training, " in objections[0]


def test_what_rolls_back_a_gain_on_corrections_is_said_with_its_limit():
    checks = {
        "pseudo-labels left out": (1.0, 1.0),
        "corrections left out": (0.4, 1.0),
        "surprise (-ln p)": (0.5, 0.04),
        "training remembered": (0.94, 0.9),
        "largest share of a class": (0.4, 0.4),
    }
    left_out = {"pseudo-labels left out": 12, "corrections left out": 15}
    reasons = find_objections(checks, QUICK, left_out)
    found = Adaptation(
        False, reasons, None, {}, None, {"Pt19": 60}, 60, checks, (), (), left_out=left_out
    )
    assert format_verdict(found) == (
        "Rolled back, the model stays what it was: 15 of 15 corrections left out would be met "
        "instead of 6 of 15, but of the clusters of the training, 90.0 % would be right instead of "
        "94.0 %, a loss of 4.0 percentage points where 1.0 may be lost (the labels that gain "
        "least decide that: +0.0 points, pseudo-labels left out). The corrected labels count "
        "in the ratios as they are. Correct more labels and adapt again, or train a model on "
        "them (Train)."
    )
    assert "Train" not in format_verdict(replace(found, corrections=0))


@pytest.mark.parametrize(("n", "contradict"), [(6, False), (60, True)])
def test_labels_contradict_each_other_if_clearly_too_few_are_met(n, contradict):
    checks = {
        "pseudo-labels left out": (0.2, 0.45),
        "corrections left out": (np.nan, np.nan),
        "surprise (-ln p)": (2.0, 1.0),
        "training remembered": (0.9, 0.9),
        "largest share of a class": (0.4, 0.4),
    }
    left_out = {"pseudo-labels left out": n, "corrections left out": 0}
    assert bool(find_objections(checks, QUICK, left_out)) == contradict


def test_a_network_that_labels_the_unambiguous_clusters_stays_as_it_is(model):
    """Labels that the network already gives cannot show that an adapted one is better."""
    _, analysis = image(3, height=1.0)
    result = adapt([analysis], *model, QUICK)
    assert not result.accepted and result.tensors is model[1]
    (reason,) = result.reasons
    assert "already labels" in reason and "correct wrong labels" in reason
    assert "No change needed" in format_verdict(result)
    for drifted in (True, False):  # other conditions alone are no reason to adapt
        shifted = replace(result, shift=Shift(0.01 if drifted else 0.9, 2.0, {}, drifted))
        assert ("conditions differ, but" in format_verdict(shifted)) == shifted.shift.found
        assert shifted.shift.found == drifted


def test_who_has_corrected_labels_is_not_told_to_correct_them(model):
    """Corrections that the network mostly agrees with count in the ratios as they are."""
    label, analysis = image(3, height=1.0)
    given = np.array(CLASSES, object)[label]
    given[np.flatnonzero(label == 0)[:4]] = "Pt41"
    table = tables.settle_labels(analysis.table.assign(label_corrected=given))
    result = adapt([replace(analysis, table=table)], *model, QUICK)
    assert not result.needed
    words = format_verdict(result)
    assert words.startswith("No change needed: ") and "adapt again" not in words
    assert "labels 86 of 90 unambiguous clusters as expected and misses 4 (4 of 90" in words
    assert "not significantly fewer than 90 %" in words and "count in the ratios" in words


def test_corrections_of_a_network_that_labels_most_clusters_are_learnt(model):
    """Few corrections among many pseudo-labels are enough of a reason to adapt."""
    label, analysis = image(3, height=1.0)
    wrong = np.flatnonzero(label == 0)[:4]
    p = Classifier(*model, torch.device("cpu")).predict(analysis.patches).probabilities
    assert (p.argmax(axis=1)[wrong] == 0).all()
    given = np.full(90, "", object)
    given[wrong] = "Pt41"
    table = tables.settle_labels(analysis.table.assign(label_corrected=given))
    result = adapt([replace(analysis, table=table)], *model, QUICK)
    assert result.corrections == 4
    assert not any("already labels" in reason for reason in result.reasons)


@pytest.fixture
def shifted_scales(monkeypatch):
    """Shift all scales of adapted models by 0.6, or only those found by the apparent size."""

    def set_shift(only_by_size):
        def label(analyses, classifier, **_):
            shift = 0.0 if only_by_size and classifier.card.apparent_size is None else 0.6
            scales = [replace(a.scale, shift=np.add(a.scale.shift, [shift, 0.0])) for a in analyses]
            moved = [replace(a, scale=s) for a, s in zip(analyses, scales, strict=True)]
            return LabelledSession(moved, None, len(moved))

        monkeypatch.setattr(fine_tuning, "label_session", label)

    return set_shift


def test_a_scale_that_would_shift_by_a_class_is_rolled_back(model, shifted_scales):
    _, analysis = image(3, height=0.5)
    shifted_scales(only_by_size=False)
    result = adapt([analysis], *model, QUICK)
    assert not result.accepted and not result.refused
    assert result.tensors is model[1] and result.after is result.before
    assert "scale of 1 of 1 images" in result.reasons[0]
    assert "more images" in result.reasons[0]


def test_an_apparent_size_that_shifts_the_scale_is_left_out(model, shifted_scales):
    card, tensors = model
    label, analysis = image(3, height=0.5)
    shifted_scales(only_by_size=True)
    sizes = ApparentSize.from_diameters(REFERENCE)
    result = adapt([analysis], replace(card, apparent_size=sizes), tensors, QUICK)
    assert result.accepted, result.reasons
    assert result.card.apparent_size is None
    assert accuracy(result.after[0], label) > 0.93


@pytest.mark.parametrize(
    ("weights", "unit", "channels"),
    [
        ((0.0, 0.0, 1.0, 1.0), "atoms", ("LCN",)),
        ((0.0, 0.0, 1.0, 1.0, 2.0), "atoms", ("LCN",)),
        ((1.0, 0.0, 1.0, 1.0), "atoms", ()),
        ((), "atoms", ()),
        ((0.0, 0.0, 1.0, 1.0), "patch", ()),
    ],
)
def test_features_stay_only_where_they_give_the_scale(weights, unit, channels):
    sizes = replace(ApparentSize.from_diameters(REFERENCE), weights=weights)
    patches = PatchSettings(channels=("raw", "LCN"), raw_unit=unit)
    card = ModelCard("made", CLASSES, patches, REFERENCE, apparent_size=sizes)
    assert adapted_model.channels_of_scale(card) == channels


def test_the_features_of_a_frozen_channel_stay():
    torch.manual_seed(0)
    old = AtomicityNet(("raw", "LCN"), 3, width=4)
    patches = patches_of(SAMPLE, 1)["raw"]
    target = Target({"raw": patches, "LCN": patches}, SAMPLE, SAMPLE < 0, SAMPLE < 0)
    replayed = {"replay.raw": patches, "replay.LCN": patches, "replay.label": SAMPLE}
    settings = replace(QUICK, steps=2)
    split = Split.random(target, SAMPLE, settings)
    new = fine_tune(old, target, replayed, split, settings, torch.device("cpu"), ("LCN",))
    same = {
        name: all(
            torch.equal(a, b)
            for a, b in zip(part.parameters(), old.branches[name].parameters(), strict=True)
        )
        for name, part in new.branches.items()
    }
    assert same == {"raw": False, "LCN": True}
    assert not torch.equal(new.head.weight, old.head.weight)


def test_a_model_without_replay_is_refused(model):
    card, tensors = model
    _, analysis = image(5, height=0.5)
    bare = {k: v for k, v in tensors.items() if not k.startswith("replay.")}
    with pytest.raises(ModelError, match="replay"):
        adapt([analysis], card, bare, QUICK)


def test_it_can_be_stopped(model):
    _, analysis = image(5, height=0.5)
    calls = []

    def stop():
        calls.append(1)
        return len(calls) > 4

    with pytest.raises(Cancelled):
        adapt([analysis], *model, QUICK, stop=stop)


# ---- pseudo-labels


CARD = ModelCard("m", CLASSES, scale=REFERENCE)


def session_image(label, seed, change=lambda table: table):
    table = change(measured_table(label, seed, "a"))
    return Analysis(Micrograph(np.zeros((8, 8), np.float32), 0.05, name="a"), table, [])


def by_session(label, seed, change=lambda table: table, posterior=0.95):
    return labels_by_session([session_image(label, seed, change)], CARD, posterior)[0]


def test_pseudo_labels_are_right_and_most_are_there():
    label = np.random.default_rng(0).integers(3, size=150)
    found = by_session(label, 1)
    named = found >= 0
    assert named.mean() > 0.6
    assert (found[named] == label[named]).mean() > 0.97


def test_more_certainty_gives_fewer_pseudo_labels():
    label = np.random.default_rng(0).integers(3, size=150)
    noise = np.exp(np.random.default_rng(3).normal(0, 0.12, 150))

    def noisy(table):
        return table.assign(integrated_intensity=noise * table["integrated_intensity"])

    few, many = (by_session(label, 1, noisy, posterior) >= 0 for posterior in (0.999, 0.9))
    assert few.sum() < many.sum()
    assert not (few & ~many).any()


def by_diameter(label, seed, shift=0.0, change=None):
    """Labels by the diameter of an image of these clusters, and of two others of its session."""
    card = ModelCard("m", CLASSES, scale=REFERENCE)
    images = []
    for k, own in enumerate((label, np.full(40, 0), np.full(40, 2))):
        table = measured_table(own, seed + k, "a")
        table = table.assign(diameter_nm=np.exp(shift) * table["diameter_nm"])
        images.append(table if change is None else change(table))
    blank = Micrograph(np.zeros((8, 8), np.float32), 0.05, name="a")
    return labels_by_diameter([Analysis(blank, table, []) for table in images], card, 0.9)[0]


def test_labels_by_diameter_leave_out_touching_and_cut_clusters():
    def cut(table):
        table.loc[:9, "touches_border"] = True
        table.loc[10:19, "touches_neighbour"] = True
        table.loc[20:29, "diameter_nm"] = np.nan
        return table

    found = by_diameter(np.repeat([0, 2], 40), 1, change=cut)
    assert (found[:30] == -1).all() and (found[30:] >= 0).any()


@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.1])
def test_labels_by_diameter_are_right_as_often_as_they_say_whatever_the_common_error(shift):
    label = np.random.default_rng(2).integers(3, size=120)
    found = by_diameter(label, 3, shift)
    named = found >= 0
    assert named.mean() > 0.2
    assert (found[named] == label[named]).mean() >= 0.9


def test_an_image_alone_gives_fewer_labels_by_diameter_if_its_error_may_be_large():
    label = np.full(60, 1)
    diameters = [measured_table(label, 4, "a")["diameter_nm"].to_numpy()]
    card = ModelCard("m", CLASSES, scale=REFERENCE)
    sure, unsure = (
        (diameter_posterior(diameters, card, scatter).probabilities[0].max(axis=1) >= 0.9).mean()
        for scatter in (0.01, 0.15)
    )
    assert unsure < sure / 2


def test_touching_and_cut_clusters_teach_nothing():
    label = np.random.default_rng(0).integers(3, size=100)
    found = by_session(label, 1, lambda t: t.assign(touches_neighbour=np.arange(100) < 50))
    assert (found[:50] == -1).all() and (found[50:] >= 0).any()


def test_blur_of_the_whole_session_leaves_the_labels_right():
    label = np.random.default_rng(0).integers(3, size=150)
    found = by_session(label, 1, lambda t: t.assign(diameter_nm=1.08 * t["diameter_nm"]))
    assert (found >= 0).mean() > 0.6
    assert (found[found >= 0] == label[found >= 0]).mean() > 0.97


def test_one_size_alone_gives_fewer_labels():
    mixture, one = (by_session(label, 2) for label in (SAMPLE, np.full(14, 1)))
    assert (one >= 0).mean() < (mixture >= 0).mean()
