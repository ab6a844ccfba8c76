"""Recompute ``docs/accuracy.md``: the shipped models and the obvious estimators, side by side.

    python docs/make_accuracy.py [--data ../shared/data/clusters]

The data are independent simulations with ground truth that no shipped model was trained on. All
estimators see the same detections; the thresholds were fitted on the training clusters of the
network itself and come with its card.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from napari_atomicity import __version__, load
from napari_atomicity.analysis import classify_clusters, detect_clusters
from napari_atomicity.model.classifier import Classifier, load_classifier
from napari_atomicity.model.thresholds import by_thresholds, quantities
from napari_atomicity.statistics.ratios import wilson_interval
from napari_atomicity.statistics.scores import atoms_of
from napari_atomicity.training.calibrate import expected_calibration_error
from napari_atomicity.training.data import match

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, eq=False)
class Scored:
    """Matched clusters of a set of images: truth and what each estimator says."""

    clusters: pd.DataFrame
    detected: int
    truths: int
    matched: int


def score_folder(folder: Path, models: dict[str, Classifier]) -> Scored:
    """Analyse every image of a folder with every estimator and match it with the truth."""
    truth_of = dict(tuple(pd.read_csv(folder / "truth.csv").groupby("image")))
    images = pd.read_csv(folder / "images.csv")
    first = next(iter(models.values())).card
    parts, detected, truths, matched = [], 0, 0, 0
    for image, sample in zip(images["image"], images["sample"], strict=True):
        detection = detect_clusters(load(folder / image))
        truth = truth_of.get(image, pd.DataFrame(columns=["x_px", "y_px", "border", "label"]))
        found = detection.table
        rows, columns = match(found, truth, detection.micrograph.calibrated())
        border = truth["border"].to_numpy(bool)
        on_border = np.zeros(len(found), bool)
        on_border[rows[border[columns]]] = True
        inner = ~border[columns]
        detected += int((~on_border).sum())
        truths += int((~border).sum())
        matched += int(inner.sum())
        part = pd.DataFrame(
            {"sample": sample, "image": image, "truth": truth["label"].to_numpy()[columns]}
        )
        for name, model in models.items():
            result = classify_clusters(detection, model)
            scale = result.parameters["intensity_per_atom"]
            p = result.table[[f"p_{c}" for c in model.card.classes]].to_numpy()[rows]
            part[name] = np.array(model.card.classes)[p.argmax(axis=1)] if len(rows) else []
            part[f"{name} confidence"] = p.max(axis=1) if len(rows) else []
            part[f"{name} label"] = result.table["label"].to_numpy()[rows]
        classes = np.array(first.classes)
        for name, value in quantities(found, scale).items():
            part[name] = classes[by_thresholds(value[rows], first.thresholds[name])]
        parts.append(part[inner])
    return Scored(pd.concat(parts, ignore_index=True), detected, truths, matched)


def ratio_scores(clusters: pd.DataFrame, name: str, classes: list[str]) -> tuple[float, float]:
    """R² and mean absolute error of the class fractions over samples and classes."""
    true, said = [], []
    for _, sample in clusters.groupby("sample"):
        true.append([(sample["truth"] == c).mean() for c in classes])
        said.append([(sample[name] == c).mean() for c in classes])
    t, s = np.array(true), np.array(said)
    return float(1 - ((t - s) ** 2).sum() / ((t - t.mean()) ** 2).sum()), float(
        np.abs(t - s).mean()
    )


def section(title: str, scored: Scored, names: list[str], classes: list[str]) -> list[str]:
    """One set of images as Markdown."""
    data = scored.clusters
    lines = [
        f"## {title}",
        "",
        f"Detection: {scored.matched} of {scored.truths} clusters found, recall "
        f"**{scored.matched / scored.truths:.3f}**; {scored.detected - scored.matched} false, "
        f"precision **{scored.matched / max(1, scored.detected):.3f}** "
        "(clusters cut by the border apart, touching ones counted).",
        "",
        "| estimator | accuracy (95 %) | " + " | ".join(f"{c} recall" for c in classes)
        + " | mean error (atoms) | ratio R² | ratio MAE |",
        "|---|---|" + "---|" * (len(classes) + 3),
    ]  # fmt: skip
    size = {c: atoms_of(c) for c in classes}
    for name in names:
        right = data[name] == data["truth"]
        low, high = wilson_interval(right.mean(), len(data))
        recall = [right[data["truth"] == c].mean() for c in classes]
        error = (data[name].map(size) - data["truth"].map(size)).abs().mean()
        r2, mae = ratio_scores(data, name, classes)
        lines.append(
            f"| {name} | **{right.mean():.3f}** ({low:.3f}-{high:.3f}) | "
            + " | ".join(f"{r:.2f}" for r in recall)
            + f" | {error:.1f} | {r2:.2f} | {mae:.3f} |"
        )
    best = names[-1]
    confidence, right = data[f"{best} confidence"], data[best] == data["truth"]
    ece = expected_calibration_error(confidence.to_numpy(), right.to_numpy())
    unknown = (data[f"{best} label"] == "unknown").mean()
    lines += [
        "",
        f"Of the {best}: expected calibration error {ece:.3f}; {unknown:.1%} of the clusters are "
        "called unknown (counted above by their most probable class). Confusion, rows true:",
        "",
        "| | " + " | ".join(classes) + " |",
        "|---|" + "---|" * len(classes),
    ]
    for c in classes:
        own = data.loc[data["truth"] == c, best]
        lines.append(f"| {c} | " + " | ".join(str(int((own == d).sum())) for d in classes) + " |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/clusters")
    parser.add_argument("--out", type=Path, default=HERE / "accuracy.md")
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"{options.data} is not there: give the folder with --data")
    models = {
        "network, raw only": load_classifier("raw", "cpu"),
        "network, dual": load_classifier("default", "cpu"),
    }
    dual = models["network, dual"].card
    names = [*dual.thresholds, *models]
    classes = list(dual.classes)
    lines = [
        "# Accuracy",
        "",
        "Made by `make accuracy` (`docs/make_accuracy.py`). The images are an independent "
        "simulation of size-selected Pt clusters with ground truth, made by other code than this "
        "package's; no shipped model was trained or calibrated on any of them, and settings were "
        "chosen on held-out fields of our own simulation. All estimators see the same detections. "
        "The thresholds were fitted on the training clusters of the network: on the diameter, and "
        "on the integrated intensity in three units. *intensity* is counts nm² as recorded; "
        "*/ image median* is relative to the median cluster of its image; */ locked mixture* is in "
        "atoms, by the scale that this package finds in each image for itself "
        "([how](how-it-works.md#the-intensity-of-one-atom)), which the networks use as well: it is "
        "most of the accuracy, and it is no part of the published method.",
        "",
        "These are simulations: how far the figures hold on a real microscope, only an image of "
        "known composition can tell.",
        "",
        f"Version {__version__}; models "
        + ", ".join(f"`{m.card.model_id}`" for m in models.values())
        + ".",
        "",
    ]  # fmt: skip
    titles = {
        "mixed": "Six mixtures, condition A (`mixed/`)",
        "shifted": "Four mixtures, condition B: blur, less dose, thicker carbon (`shifted/`)",
    }
    for folder, title in titles.items():
        if not (options.data / folder).is_dir():
            continue
        scored = score_folder(options.data / folder, models)
        digest = hashlib.sha256((options.data / folder / "truth.csv").read_bytes()).hexdigest()
        lines += section(title, scored, names, classes)
        lines += [f"Truth: `{folder}/truth.csv`, SHA-256 `{digest[:16]}`.", ""]
    lines += simulated_section(models)
    text = "\n".join(lines)
    options.out.write_text(text, encoding="utf-8")
    print(text)


def simulated_section(models: dict[str, Classifier]) -> list[str]:
    """What the cards say of held-out fields of the package's own simulation."""
    lines = [
        "## Held-out fields of our own simulation",
        "",
        "Other isomers and other images than those of the training; the figures come from the "
        "models' cards. *Unknown* should be few of the clusters, and all of what is detected in "
        "fields of single atoms and loose groups of them, where there are no clusters.",
        "",
        "| model | clusters | accuracy | further off than a neighbour | calibration error | "
        "prediction sets hold the truth (aim 0.95) | unknown | unknown among single atoms | "
        "AUROC of unknown |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, model in models.items():
        s, none = model.card.scores["test"], model.card.scores["negatives"]
        lines.append(
            f"| {name} | {s['clusters']} | {s['accuracy']:.3f} | {s['off_by_more_than_one']:.3f} | "
            f"{s['expected_calibration_error']:.3f} | {s['prediction_set_coverage']:.3f} | "
            f"{s['unknown']:.3f} | {none['unknown']:.3f} of {none['detections']} | "
            f"{none['auroc']:.4f} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
