"""Recompute ``explanation/accuracy.md``: models and obvious estimators side by side.

    python docs/make_accuracy.py [--data ../shared/data/clusters] [--build build/accuracy]

The data are independent simulations with ground truth that no shipped model was trained on. All
estimators see the same detections. The models of ``atomicity train`` are trained on ``train/``
first, unless they are in the build folder already.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from napari_atomicity import __version__, load
from napari_atomicity.core.cluster_table import NON_CLASS_LABELS, probability_columns
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.estimators import class_sizes
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.models.thresholds import by_thresholds, quantities
from napari_atomicity.pipeline.adaptation.fine_tuning import adapt
from napari_atomicity.pipeline.adaptation.result import Adaptation
from napari_atomicity.pipeline.analysis import detect_clusters
from napari_atomicity.statistics.intervals import wilson_interval
from napari_atomicity.statistics.ratios import class_ratios
from napari_atomicity.training.data import match
from napari_atomicity.training.evaluation import expected_calibration_error
from napari_atomicity.training.request import FolderSource, TrainRequest
from napari_atomicity.training.run import train
from napari_atomicity.validation.methods import FittedModel, label_images

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
OBVIOUS = ("diameter", "intensity", "intensity / image median")
TITLES = {
    "mixed": "Six mixtures, condition A (`mixed/`)",
    "shifted": "Four mixtures, condition B: blur, less dose, thicker carbon (`shifted/`)",
}


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


def row(title: str, data: pd.DataFrame, name: str, classes: list[str]) -> str:
    """A line of the table of estimators."""
    size = dict(zip(classes, class_sizes(classes), strict=True))
    right = data[name] == data["truth"]
    low, high = wilson_interval(right.mean(), len(data))
    recall = [right[data["truth"] == c].mean() for c in classes]
    error = (data[name].map(size) - data["truth"].map(size)).abs().mean()
    r2, mae = ratio_scores(data, name, classes)
    return (
        f"| {title} | **{right.mean():.3f}** ({low:.3f}-{high:.3f}) | "
        + " | ".join(f"{r:.2f}" for r in recall)
        + f" | {error:.1f} | {r2:.2f} | {mae:.3f} |"
    )


def header(classes: list[str]) -> list[str]:
    return [
        "| estimator | accuracy (95 %) | "
        + " | ".join(f"{c} recall" for c in classes)
        + " | mean error (atoms) | ratio R² | ratio MAE |",
        "|---|---|" + "---|" * (len(classes) + 3),
    ]


def rows_of(title: str, raw: pd.DataFrame, dual: pd.DataFrame, classes: list[str]) -> list[str]:
    """Lines of a family of models: network raw only, network dual, combination."""
    return [
        row(f"network, raw only{title}", raw, "network", classes),
        row(f"network, dual{title}", dual, "network", classes),
        row(f"combination (dual){title}", dual, "combination", classes),
    ]


def beside(data: pd.DataFrame, classes: list[str]) -> dict[str, float]:
    """What else is said of the clusters, and how true it is."""
    size = dict(zip(classes, class_sizes(classes), strict=True))
    n = data["truth"].map(size)
    right = (data["combination"] == data["truth"]).to_numpy()
    return {
        "ece": expected_calibration_error(data["confidence"].to_numpy(), right),
        "outside": data["label"].isin(NON_CLASS_LABELS).mean(),
        "as labelled": (data["label"] == data["truth"]).mean(),
        "sets": np.mean(
            [t in s.split("|") for t, s in zip(data["truth"], data["set"], strict=True)]
        ),
        "count": (data["n_atoms"] / n - 1).abs().mean(),
        "count held": ((data["n_atoms_low"] <= n) & (n <= data["n_atoms_high"])).mean(),
    }


def coverage(
    images: list[Known], analyses: list[Analysis], card: ModelCard, method: str
) -> tuple[int, int, float, float, float]:
    """How many of the intervals of the samples hold the true fraction, and R², MAE, width."""
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
    return int(np.sum(held)), len(held), float(r2), float(np.abs(a - b).mean()), np.mean(width)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/clusters")
    parser.add_argument("--build", type=Path, default=HERE.parent / "build/accuracy")
    parser.add_argument("--out", type=Path, default=HERE / "explanation" / "accuracy.md")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"{options.data} is not there, so this part of {options.out.name} stays as it is")
        return
    options.build.mkdir(parents=True, exist_ok=True)
    shipped = {n: shipped_or_trained(find_model(n)) for n in ("raw", "dual")}
    own, seconds = trained(options.data, options.build)
    families = {"shipped": shipped, "trained": own}
    folders = {name: read_folder(options.data / name) for name in TITLES}
    classes = list(shipped["dual"].card.classes)

    before = {
        (family, channel, folder): analysed(images, model)
        for family, models in families.items()
        for channel, model in models.items()
        for folder, images in folders.items()
    }
    adapted: dict[tuple[str, str], Adaptation] = {}
    for family, models in families.items():
        for channel, model in models.items():
            print(f"adapting {family} {channel}", flush=True)
            result, _ = timed_adaptation(before[family, channel, "shifted"], model)
            adapted[family, channel] = result
    after = {}
    for (family, channel), result in adapted.items():
        after[family, channel, "shifted"] = list(result.after)
        new = FittedModel(result.card, result.tensors, "cpu")
        after[family, channel, "mixed"] = analysed(folders["mixed"], new)
    few = about_200(before["shipped", "dual", "shifted"])
    timed = timed_adaptation(few, shipped["dual"])

    def said(of: dict, family: str, channel: str, folder: str) -> pd.DataFrame:
        return answers(folders[folder], of[family, channel, folder], families[family][channel].card)

    lines = introduction(families)
    for folder, title in TITLES.items():
        dual = said(before, "shipped", "dual", folder)
        digest = hashlib.sha256((options.data / folder / "truth.csv").read_bytes()).hexdigest()
        lines += [f"## {title}", "", *detection(folders[folder]), "", *header(classes)]
        lines += [row(name, dual, name, classes) for name in OBVIOUS]
        for family, where in (("shipped", ", shipped"), ("trained", ", trained on `train/`")):
            data = {c: said(before, family, c, folder) for c in ("raw", "dual")}
            lines += [
                row(f"constrained mixture{where}", data["dual"], "constrained mixture", classes)
            ]
            lines += rows_of(where, data["raw"], data["dual"], classes)
            if adapted[family, "dual"].accepted:
                data = {c: said(after, family, c, folder) for c in ("raw", "dual")}
                lines += rows_of(f"{where}, adapted to B", data["raw"], data["dual"], classes)
        lines += ["", f"Truth: `{folder}/truth.csv`, SHA-256 `{digest[:16]}`.", ""]
    lines += confidence_section(families, said, before, after, adapted, classes)
    lines += ratio_section(families, folders, before, after, adapted)
    lines += adaptation_section(adapted, timed, few, seconds)
    lines += simulated_section(shipped)
    reliability(
        {
            f"{family}, {folder}{when}": said(of, family, "dual", folder)
            for family in families
            for folder in ("mixed", "shifted")
            for when, of in stages(family, before, after, adapted)[-1:]
        },
        HERE / "images/reliability.png",
    )
    text = "\n".join(lines)
    options.out.write_text(text + other_sections(options.out), encoding="utf-8")
    print(text)


def other_sections(page: Path) -> str:
    """What `make_sessions.py` has written at the end of the page."""
    if not page.is_file():
        return ""
    _, marker, rest = page.read_text(encoding="utf-8").partition("<!-- sessions: begin -->")
    return f"\n{marker}{rest}" if marker else ""


def introduction(families: dict[str, dict[str, FittedModel]]) -> list[str]:
    ids = [f"`{m.card.model_id}`" for models in families.values() for m in models.values()]
    return [
        "# Accuracy",
        "",
        "This page compares the models of clusters with simpler estimators, on simulated images "
        "with known truth. Real images may give other results: only an image of known "
        "composition shows the accuracy on your microscope.",
        "",
        "**Images.** They come from an independent simulation of size-selected Pt clusters, made "
        "by other code than that of this package. They were not used to train or calibrate the "
        "shipped models. The models *trained on `train/`* come from `atomicity train` and the 40 "
        "size-selected images of that folder, starting from the shipped convolutions. Settings "
        "were chosen on our own simulation and by cross-validation within `train/`. However, the "
        "figures were examined several times during development, errors that they showed were "
        "corrected, and the learning rate and the number of steps of the adaptation were chosen "
        "with them known. They are therefore not a test on unseen data.",
        "",
        "**Estimators.** All use the same detections. *diameter* and *intensity* are thresholds "
        "fitted on the training clusters of the shipped model; the intensity is in counts nm² as "
        "recorded. The images of a folder are analysed as one session: the scale of each image is "
        "found from all of them ([details](sessions.md)). The *constrained mixture* and the "
        "networks use this scale. With each image alone, the figures are lower: see "
        "[Sessions](#sessions). The scale provides most of the accuracy, and is not part of the "
        "published method. The *combination* is the estimator of `label`. *Adapted to B* means "
        "after `atomicity adapt` on the 16 images of `shifted/`, without labels, if it was "
        "accepted. Accuracy is that of the most probable class. Intervals are Wilson's and "
        "include counting only.",
        "",
        f"Made by `make accuracy` (`docs/make_accuracy.py`). Version {__version__}; models "
        f"{', '.join(ids)}.",
        "",
    ]  # fmt: skip


def detection(images: list[Known]) -> list[str]:
    truths, detected, matched = (sum(i.found[k] for i in images) for k in range(3))
    return [
        f"Detection: {matched} of {truths} clusters found, recall **{matched / truths:.3f}**; "
        f"{detected - matched} false, precision **{matched / max(1, detected):.3f}** (without "
        "clusters cut by the border, with touching ones).",
    ]


def confidence_section(families, said, before, after, adapted, classes) -> list[str]:
    lines = [
        "## Confidence, sets, counts",
        "",
        "For the combination (dual). *Accuracy as labelled* counts `unknown` and `aggregate` as "
        "errors. *Sets* is the fraction of prediction sets that contain the truth (aim 0.95). "
        "*Count: error* is the mean relative error of the continuous count, and *count: held* "
        "the fraction of its 95 % intervals that contain the truth.",
        "",
        "| model | images | calibration error | called unknown or aggregate | accuracy as labelled "
        "| sets | count: error | count: held |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family in families:
        for when, of in stages(family, before, after, adapted):
            for folder in ("mixed", "shifted"):
                b = beside(said(of, family, "dual", folder), classes)
                lines.append(
                    f"| {family}{when} | `{folder}/` | {b['ece']:.3f} | {b['outside']:.1%} | "
                    f"{b['as labelled']:.3f} | {b['sets']:.3f} | {b['count']:.1%} | "
                    f"{b['count held']:.3f} |"
                )
    return [*lines, "", "![Accuracy against confidence](../images/reliability.png)", ""]


def stages(family, before, after, adapted) -> list[tuple[str, dict]]:
    """What is shown of a family: as it is and, if the adaptation was accepted, adapted."""
    shown = [("", before)]
    if adapted[family, "dual"].accepted:
        shown.append((", adapted to B", after))
    return shown


def ratio_section(families, folders, before, after, adapted) -> list[str]:
    lines = [
        "## Ratios and their intervals",
        "",
        "For the combination (dual), by sample, compared with the true fractions of all clusters "
        "that are not cut by the border. The columns contain the number of 95 % intervals (pairs "
        "of class and sample) that contain the true fraction, and their mean width.",
        "",
        "| model | images | method | intervals that contain the truth | mean width | ratio R² "
        "| ratio MAE |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, models in families.items():
        for when, of in stages(family, before, after, adapted):
            card = adapted[family, "dual"].card if when else models["dual"].card
            for folder, images in folders.items():
                for method in ("counted", "confusion", "em"):
                    held, n, r2, mae, width = coverage(
                        images, of[family, "dual", folder], card, method
                    )
                    lines.append(
                        f"| {family}{when} | `{folder}/` | {method} | {held} of {n} "
                        f"({held / n:.0%}) | {width:.3f} | {r2:.2f} | {mae:.3f} |"
                    )
    return [*lines, ""]


def adaptation_section(adapted, timed, few, seconds) -> list[str]:
    n = sum(len(a.table) for a in few)
    result, took = timed
    words = f"took **{took:.1f} s**" if result.accepted else f"was refused after {took:.1f} s"
    lines = [
        "## Adaptation and training",
        "",
        f"Adaptation of the shipped dual model to {len(few)} images with {n} clusters {words}. "
        f"Training on `train/` took **{seconds['dual'] / 60:.1f} min** (dual) and "
        f"{seconds['raw'] / 60:.1f} min (raw only), on {os.cpu_count()} CPU cores, without a GPU.",
        "",
        "| model | shift found | accepted | pseudo-labels | held-out labels, correct before → "
        "after | stored patches, correct before → after |",
        "|---|---|---|---|---|---|",
    ]
    for (family, channel), result in adapted.items():
        checks = result.checks
        met = checks.get("pseudo-labels left out", (np.nan, np.nan))
        kept = checks.get("training remembered", (np.nan, np.nan))
        shift = "no" if result.shift is None else f"p = {result.shift.p_value:.3f}"
        verdict = "yes" if result.accepted else "no: " + "; ".join(result.reasons)
        numbers = ", ".join(f"{c} {n}" for c, n in result.pseudo_labels.items())
        lines.append(
            f"| {family}, {channel} | {shift} | {verdict} | {numbers} "
            f"| {met[0]:.3f} → {met[1]:.3f} | {kept[0]:.3f} → {kept[1]:.3f} |"
        )
    return [*lines, ""]


def simulated_section(models: dict[str, FittedModel]) -> list[str]:
    """What the cards say of held-out fields of the package's own simulation."""
    lines = [
        "## Held-out fields of our own simulation",
        "",
        "Isomers and images differ from those of the training. The conditions vary far more than "
        "those of one microscope. The figures come from the model cards.",
        "",
        "| model | clusters | accuracy | network alone | off by more than one class "
        "| calibration error | sets contain the truth (aim 0.95) | called unknown or aggregate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, model in models.items():
        s = model.card.scores["test"]
        lines.append(
            f"| {name} | {s['clusters']} | {s['accuracy']:.3f} | {s['accuracy_of_network']:.3f} | "
            f"{s['off_by_more_than_one']:.3f} | {s['expected_calibration_error']:.3f} | "
            f"{s['prediction_set_coverage']:.3f} | {s['unknown']:.3f} |"
        )
    lines += [
        "",
        "The next table compares objects that are not classes with clusters of the classes. It "
        "contains the area under the ROC curve of `ood_score`, and the fraction labelled unknown "
        "or aggregate at its limit. *Other sizes* are mixed with clusters of the classes, at a "
        "fraction of 5 to 30 %.",
        "",
        "| | " + " | ".join(f"{n}: AUROC | {n}: flagged" for n in models) + " |",
        "|---|" + "---|" * (2 * len(models)),
    ]
    names = {"atoms": "single atoms and loose groups", "aggregates": "aggregates of two"}
    for key in models["dual"].card.scores["outside"]:
        cells = []
        for model in models.values():
            s = model.card.scores["outside"][key]
            cells.append(f"{s['auroc']:.3f} | {s['flagged']:.2f}")
        lines.append(f"| {names.get(key, key.replace('_', ' '))} | {' | '.join(cells)} |")
    lines += [
        "",
        "The last table shows the continuous count of sizes that are not classes (dual). A few "
        "images with a scale that is one class off affect the mean. *Sure* are those with a "
        "certainty of the scale of 0.9.",
        "",
        "| | clusters | mean | median | mean against truth | sure | mean of these against truth | "
        "interval contains the truth |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label, s in models["dual"].card.scores["count"].items():
        n = int(label.lstrip("PtAu"))
        lines.append(
            f"| {label} | {s['clusters']} | {s['mean']:.1f} | {s['median']:.1f} | "
            f"{s['mean'] / n - 1:+.1%} | {s['sure']} | {s['mean_of_sure'] / n - 1:+.1%} | "
            f"{s['interval_coverage']:.2f} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
