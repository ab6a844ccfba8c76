"""Recompute the models and simpler estimators in ``explanation/accuracy.md`` and its tables.

    python docs/scripts/make_accuracy.py [--data ../shared/data/clusters] [--build build/accuracy]
                                 [--text-only]

The data are independent simulations with ground truth that no shipped model was trained on. All
estimators see the same detections. The models of ``atomicity train`` are trained on ``train/``
first, unless they are in the build folder already. The figures are kept in ``figures.json`` of the
build folder; ``--text-only`` writes the pages from them (``accuracy_page.py``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from accuracy_page import (
    COMBINATION,
    CONDITIONS,
    DUAL,
    MIXTURE,
    NO_MODEL,
    PAGE,
    RAW,
    SECTION,
    page,
)
from accuracy_tables import TABLES, long_tables
from napari_atomicity import __version__, load
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.tables.cluster_table import NON_CLASS_LABELS, probability_columns
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.estimators import class_sizes
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.models.thresholds import by_thresholds, quantities
from napari_atomicity.pipeline.adaptation.fine_tuning import adapt
from napari_atomicity.pipeline.adaptation.result import Adaptation
from napari_atomicity.pipeline.analysis import detect_clusters
from napari_atomicity.statistics.intervals import wilson_interval
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.training.calibration.evaluation import expected_calibration_error
from napari_atomicity.training.data import match
from napari_atomicity.training.request import FolderSource, TrainRequest
from napari_atomicity.training.run import train
from napari_atomicity.validation.methods import FittedModel, label_images
from page_sections import write_section

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parents[1]
OBVIOUS = ("diameter", "intensity", "intensity / image median")


@dataclass(frozen=True, eq=False)
class Known:
    """An image with its detections, and the truth: a class for each row that has one (""), the
    true counts of the classes among all that the border does not cut."""

    detection: Analysis
    label: np.ndarray
    sample: str
    counts: pd.Series
    found: tuple[int, int, int]


def shipped_or_trained(path: Path) -> FittedModel:
    """A model of a file, on the CPU."""
    return FittedModel(*read_model(path), "cpu")


def read_folder(folder: Path) -> list[Known]:
    """Detect the clusters of every image of a folder and match them with the truth."""
    truth_of = dict(tuple(pd.read_csv(folder / "truth.csv").groupby("image")))
    images = pd.read_csv(folder / "images.csv")
    out = []
    for image, sample in zip(images["image"], images["sample"], strict=True):
        detection = detect_clusters(load(folder / image))
        truth = truth_of.get(image, pd.DataFrame(columns=["x_px", "y_px", "border", "label"]))
        rows, columns = match(detection.table, truth, detection.micrograph.calibrated())
        cut = truth["border"].to_numpy(bool)
        label = np.full(len(detection.table), "", object)
        inner = ~cut[columns]
        label[rows[inner]] = truth["label"].to_numpy()[columns[inner]]
        at_border = np.isin(np.arange(len(label)), rows[cut[columns]]).sum()
        found = (int((~cut).sum()), len(label) - int(at_border), int(inner.sum()))
        out.append(Known(detection, label, sample, truth["label"][~cut].value_counts(), found))
    return out


def analysed(images: list[Known], model: FittedModel) -> list[Analysis]:
    """The images of a folder, labelled as one session, as `atomicity analyse` does."""
    return label_images([image.detection for image in images], model)


def answers(images: list[Known], analyses: list[Analysis], card: ModelCard) -> pd.DataFrame:
    """One row per cluster of known class: truth, and the class that each estimator gives it."""
    parts = []
    names = np.array(card.classes, object)
    for image, analysis in zip(images, analyses, strict=True):
        table = analysis.table
        p = table[probability_columns(card.classes)].to_numpy(float)
        part = pd.DataFrame(
            {
                "sample": image.sample,
                "truth": image.label,
                "combination": names[p.argmax(axis=1)],
                "confidence": p.max(axis=1),
                "label": table["label"],
                "network": table["label_network"],
                "set": table["prediction_set"],
                **{k: table[k] for k in ("n_atoms", "n_atoms_low", "n_atoms_high")},
            }
        )
        intensity, diameter = table["integrated_intensity"], table["diameter_nm"]
        if analysis.scale is not None:
            # also of touching clusters, of which the registry's estimator says nothing
            q = analysis.scale.probabilities(intensity.to_numpy(), diameter.to_numpy())
            part["constrained mixture"] = names[np.nan_to_num(q).argmax(axis=1)]
            for name, value in quantities(table, analysis.scale.intensity_per_atom).items():
                if name in OBVIOUS:
                    part[name] = names[by_thresholds(value, card.thresholds[name])]
        parts.append(part)
    everything = pd.concat(parts, ignore_index=True)
    return everything[everything["truth"] != ""].reset_index(drop=True)


def ratio_scores(clusters: pd.DataFrame, name: str, classes: list[str]) -> tuple[float, float]:
    """R² and mean absolute error of the class fractions over samples and classes."""
    samples = [s for _, s in clusters.groupby("sample")]
    t = np.array([[(s["truth"] == c).mean() for c in classes] for s in samples])
    said = np.array([[(s[name] == c).mean() for c in classes] for s in samples])
    r2 = 1 - ((t - said) ** 2).sum() / ((t - t.mean()) ** 2).sum()
    return float(r2), float(np.abs(t - said).mean())


def estimator_figures(data: pd.DataFrame, name: str, classes: list[str]) -> dict[str, Any]:
    """Accuracy, recall and ratios of an estimator."""
    size = dict(zip(classes, class_sizes(classes), strict=True))
    right = data[name] == data["truth"]
    low, high = wilson_interval(right.mean(), len(data))
    r2, mae = ratio_scores(data, name, classes)
    return {
        "clusters": len(data),
        "accuracy": float(right.mean()),
        "low": float(low),
        "high": float(high),
        "recall": [float(right[data["truth"] == c].mean()) for c in classes],
        "error_in_atoms": float((data[name].map(size) - data["truth"].map(size)).abs().mean()),
        "r2": r2,
        "mae": mae,
    }


def confidence_figures(data: pd.DataFrame, classes: list[str]) -> dict[str, float]:
    """Calibration, sets and counts of the combination."""
    size = dict(zip(classes, class_sizes(classes), strict=True))
    n = data["truth"].map(size)
    right = (data["combination"] == data["truth"]).to_numpy()
    in_set = [t in s.split("|") for t, s in zip(data["truth"], data["set"], strict=True)]
    held = (data["n_atoms_low"] <= n) & (n <= data["n_atoms_high"])
    return {
        "calibration_error": expected_calibration_error(data["confidence"].to_numpy(), right),
        "no_class": float(data["label"].isin(NON_CLASS_LABELS).mean()),
        "accuracy_as_labelled": float((data["label"] == data["truth"]).mean()),
        "sets": float(np.mean(in_set)),
        "count_error": float((data["n_atoms"] / n - 1).abs().mean()),
        "count_held": float(held.mean()),
    }


def ratio_figures(
    images: list[Known], analyses: list[Analysis], card: ModelCard, method: str
) -> dict[str, Any]:
    """How many intervals of the samples contain the true fraction, their width, R² and MAE."""
    held, t, said, width = [], [], [], []
    for sample in dict.fromkeys(i.sample for i in images):
        own = [k for k, image in enumerate(images) if image.sample == sample]
        table = pd.concat([analyses[k].table for k in own], ignore_index=True)
        counts = sum((images[k].counts.reindex(card.classes).fillna(0) for k in own), 0.0)
        true = counts / counts.sum()
        found = class_ratios(table, card.classes, scope="all", method=method, card=card)
        found = found.set_index("class").loc[list(card.classes)]
        held += list(
            (found["fraction_low"] <= true + 1e-9) & (true - 1e-9 <= found["fraction_high"])
        )
        t += list(true)
        said += list(found["fraction"])
        width += list(found["fraction_high"] - found["fraction_low"])
    a, b = np.array(t), np.array(said)
    r2 = 1 - ((a - b) ** 2).sum() / ((a - a.mean()) ** 2).sum()
    return {
        "held": int(np.sum(held)),
        "intervals": len(held),
        "width": float(np.mean(width)),
        "r2": float(r2),
        "mae": float(np.abs(a - b).mean()),
    }


def timed_adaptation(analyses: list[Analysis], model: FittedModel) -> tuple[Adaptation, float]:
    start = time.perf_counter()
    result = adapt(analyses, model.card, model.tensors)
    return result, time.perf_counter() - start


def about_200(analyses: list[Analysis]) -> list[Analysis]:
    """The first images that hold at least 200 clusters together."""
    number = np.cumsum([len(a.table) for a in analyses])
    return analyses[: int(np.searchsorted(number, 200)) + 1]


def trained(data: Path, build: Path) -> tuple[dict[str, FittedModel], dict[str, float]]:
    """The models of ``atomicity train`` on the size-selected images, and the seconds they took."""
    models, seconds = {}, {}
    for name, channels in (("raw", ("raw",)), ("dual", ("raw", "LCN"))):
        path = build / f"trained-{name}.safetensors"
        if not path.is_file():
            print(f"training {path.name}", flush=True)
            train(TrainRequest(FolderSource(data / "train"), path, channels))
        models[name] = shipped_or_trained(path)
        seconds[name] = models[name].card.training.get("seconds", float("nan"))
    return models, seconds


def reliability(panels: dict[str, pd.DataFrame], path: Path) -> None:
    """Accuracy against confidence, with Wilson's intervals."""
    figure, axes = plt.subplots(1, len(panels), figsize=(2.6 * len(panels), 2.9), sharey=True)
    for axis, (title, data) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        right = (data["combination"] == data["truth"]).to_numpy()
        confidence = data["confidence"].to_numpy()
        axis.plot([0, 1], [0, 1], color="0.6", lw=1)
        which = np.clip((confidence * 10).astype(int), 0, 9)
        for k in range(10):
            own = which == k
            if own.sum() < 3:
                continue
            low, high = wilson_interval(right[own].mean(), own.sum())
            at = confidence[own].mean()
            axis.plot([at, at], [low, high], color="#0072B2", lw=1)
            axis.plot(at, right[own].mean(), "o", ms=2 + 2 * np.log10(own.sum()), color="#0072B2")
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", aspect="equal")
        axis.set_title(title, fontsize=8)
    np.atleast_1d(axes)[0].set_ylabel("accuracy")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


@dataclass(frozen=True, eq=False)
class Measured:
    """Analyses of the folders by each model, before and after its adaptation to condition B.

    Keys are the family and the channels of the model, and the folder.
    """

    data: Path
    families: dict[str, dict[str, FittedModel]]
    folders: dict[str, list[Known]]
    before: dict[tuple[str, str, str], list[Analysis]]
    after: dict[tuple[str, str, str], list[Analysis]]
    adapted: dict[tuple[str, str], Adaptation]

    def stages(self, family: str) -> list[tuple[str, dict]]:
        """A family as it is and, if the adaptation was accepted, adapted."""
        shown = [(family, self.before)]
        if self.adapted[family, "dual"].accepted:
            shown.append((f"{family}, adapted to B", self.after))
        return shown

    def answers(self, of: dict, family: str, channels: str, folder: str) -> pd.DataFrame:
        card = self.families[family][channels].card
        return answers(self.folders[folder], of[family, channels, folder], card)


def measure(data: Path, families: dict[str, dict[str, FittedModel]]) -> Measured:
    """Analyse both folders with all models, and adapt each to condition B."""
    folders = {name: read_folder(data / name) for name in CONDITIONS}
    before = {
        (family, channels, folder): analysed(images, model)
        for family, models in families.items()
        for channels, model in models.items()
        for folder, images in folders.items()
    }
    adapted, after = {}, {}
    for family, models in families.items():
        for channels, model in models.items():
            print(f"adapting {family} {channels}", flush=True)
            result, _ = timed_adaptation(before[family, channels, "shifted"], model)
            adapted[family, channels] = result
            new = FittedModel(result.card, result.tensors, "cpu")
            after[family, channels, "shifted"] = list(result.after)
            after[family, channels, "mixed"] = analysed(folders["mixed"], new)
    return Measured(data, families, folders, before, after, adapted)


# ---- figures
def figures_of(measured: Measured, seconds: dict[str, float]) -> dict[str, Any]:
    """All figures of the pages."""
    families = measured.families
    classes = list(families["shipped"]["dual"].card.classes)
    few = about_200(measured.before["shipped", "dual", "shifted"])
    result, took = timed_adaptation(few, families["shipped"]["dual"])
    return {
        "version": __version__,
        "models": [m.card.model_id for models in families.values() for m in models.values()],
        "classes": classes,
        "folders": {name: folder_figures(measured, name) for name in CONDITIONS},
        "estimators": [row for f in CONDITIONS for row in estimator_rows(measured, f, classes)],
        "confidence": [
            {"condition": CONDITIONS[folder], "model": model}
            | confidence_figures(measured.answers(of, family, "dual", folder), classes)
            for family in families
            for model, of in measured.stages(family)
            for folder in CONDITIONS
        ],
        "ratios": ratio_rows(measured),
        "adaptations": [adaptation_row(key, found) for key, found in measured.adapted.items()],
        "timed_adaptation": {
            "images": len(few),
            "clusters": sum(len(a.table) for a in few),
            "seconds": took,
            "accepted": result.accepted,
        },
        "training_seconds": seconds,
        "cores": os.cpu_count(),
    }


def folder_figures(measured: Measured, name: str) -> dict[str, Any]:
    """Detections of a folder, and the sum of its truth."""
    images = measured.folders[name]
    clusters, detected, matched = (sum(i.found[k] for i in images) for k in range(3))
    truth = (measured.data / name / "truth.csv").read_bytes()
    return {
        "clusters": clusters,
        "detected": detected,
        "matched": matched,
        "sha256": hashlib.sha256(truth).hexdigest(),
    }


def estimator_rows(measured: Measured, folder: str, classes: list[str]) -> list[dict[str, Any]]:
    """Figures of all estimators in a folder."""
    rows = []

    def add(estimator: str, model: str, data: pd.DataFrame, name: str) -> None:
        about = {"condition": CONDITIONS[folder], "estimator": estimator, "model": model}
        rows.append(about | estimator_figures(data, name, classes))

    dual = measured.answers(measured.before, "shipped", "dual", folder)
    for name in OBVIOUS:
        add(name, NO_MODEL, dual, name)
    for family in measured.families:
        for model, of in measured.stages(family):
            raw, dual = (measured.answers(of, family, c, folder) for c in ("raw", "dual"))
            if of is measured.before:
                add(MIXTURE, model, dual, "constrained mixture")
            add(RAW, model, raw, "network")
            add(DUAL, model, dual, "network")
            add(COMBINATION, model, dual, "combination")
    return rows


def ratio_rows(measured: Measured) -> list[dict[str, Any]]:
    """Figures of the ratios of all models by each method."""
    rows = []
    for family, models in measured.families.items():
        for model, of in measured.stages(family):
            is_adapted = of is measured.after
            card = (measured.adapted[family, "dual"] if is_adapted else models["dual"]).card
            for folder, images in measured.folders.items():
                for method in ("counted", "confusion", "em"):
                    about = {"condition": CONDITIONS[folder], "model": model, "method": method}
                    analyses = of[family, "dual", folder]
                    rows.append(about | ratio_figures(images, analyses, card, method))
    return rows


def adaptation_row(key: tuple[str, str], result: Adaptation) -> dict[str, Any]:
    """What an adaptation to all images of condition B did; shares before and after."""
    unknown = (np.nan, np.nan)
    return {
        "model": key[0],
        "channels": key[1],
        "p_value": None if result.shift is None else float(result.shift.p_value),
        "accepted": result.accepted,
        "reasons": list(result.reasons),
        "labels": {c: int(n) for c, n in result.pseudo_labels.items()},
        "left_out": [float(x) for x in result.checks.get("pseudo-labels left out", unknown)],
        "stored": [float(x) for x in result.checks.get("training remembered", unknown)],
    }


def draw_reliability(measured: Measured) -> None:
    """Draw the figure of the page."""
    panels = {}
    for family in measured.families:
        model, of = measured.stages(family)[-1]
        for folder, condition in CONDITIONS.items():
            panels[f"{model}, {condition}"] = measured.answers(of, family, "dual", folder)
    reliability(panels, HERE / "images/reliability.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/clusters")
    parser.add_argument("--build", type=Path, default=HERE.parent / "build/accuracy")
    parser.add_argument("--text-only", action="store_true", help="write the pages from the figures")
    options = parser.parse_args()
    shipped = {n: shipped_or_trained(find_model(n)) for n in ("raw", "dual")}
    kept = options.build / "figures.json"
    if not options.text_only:
        if not options.data.is_dir():
            print(f"{options.data} is not there, so this part of the pages stays as it is")
            return
        options.build.mkdir(parents=True, exist_ok=True)
        own, seconds = trained(options.data, options.build)
        measured = measure(options.data, {"shipped": shipped, "trained": own})
        kept.write_text(json.dumps(figures_of(measured, seconds), indent=1), encoding="utf-8")
        draw_reliability(measured)
    figures = json.loads(kept.read_text(encoding="utf-8"))
    cards = {name: model.card for name, model in shipped.items()}
    write_section(PAGE, SECTION, page(figures, cards))
    write_section(TABLES, SECTION, long_tables(figures, cards))


if __name__ == "__main__":
    main()
