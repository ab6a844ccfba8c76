"""Measure how well wrong compositions of known samples are found, and how right the labels are.

    python docs/scripts/make_known_samples.py [--rounds 7]

The limit `models.scale.session_scale.MIN_LOG_BAYES_FACTOR` is set on the sessions of the first
seed; the figures that the script prints are of the sessions of the other one, with other isomers.
Sessions are simulated once and kept in ``build/known_samples``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from napari_atomicity.core.apparent_size import ApparentSize
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables.cluster_table import probability_columns
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.inference import Classifier, load_classifier
from napari_atomicity.models.scale.image_evidence import ImageMeasurements
from napari_atomicity.models.scale.intensity_scale import is_bright, usable
from napari_atomicity.models.scale.session_images import require_references
from napari_atomicity.models.scale.session_scale import fit_session
from napari_atomicity.pipeline.analysis import classify_clusters, detect_clusters
from napari_atomicity.pipeline.session_labels import label_session
from napari_atomicity.simulation.sessions import SessionImage, draw_session, simulate_session
from napari_atomicity.simulation.structures import Isomer, read_or_build_library
from napari_atomicity.training.data import match

BUILD = Path(__file__).resolve().parents[2] / "build" / "known_samples"
CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
SIZES = (19, 30, 41, 55, 70)
ISOMERS = 30
CALIBRATION, TEST = 61000, 72000
"""Seeds of isomers and sessions: to set the limit, and to measure what it does."""
N_IMAGES = 8
IMPURE = "impure sizes"
"""Size-selected samples with 5 % of clusters of other sizes."""
KINDS = ("mixture", "one size per image", "two sizes", "one size", "few clusters", IMPURE)
IMPURITY = 0.05
MIN_DIFFERENCE = 0.3
"""Total variation distance between a wrong mixture and the true one, at least."""


# ---- sessions
def planned(kind: str, seed: int) -> tuple[list[SessionImage], list[dict[str, float]]]:
    """Images of a session, and the compositions that a person would state of them."""
    drawn = draw_session("one size per image" if kind == IMPURE else kind, CLASSES, N_IMAGES, seed)
    stated = [dict(image.settings.mixture) for image in drawn]
    if kind == IMPURE:
        shares = [
            {c: (1 - IMPURITY) * own.get(c, 0.0) + IMPURITY / len(CLASSES) for c in CLASSES}
            for own in stated
        ]
        drawn = [
            replace(image, settings=replace(image.settings, mixture=mixture))
            for image, mixture in zip(drawn, shares, strict=True)
        ]
    return drawn, stated


def measured_session(
    library: list[Isomer], kind: str, seed: int, classifier: Classifier
) -> Iterator[pd.DataFrame]:
    """Yield a table of the clusters of each image: what tells the scale, labels and truth."""
    plan, stated = planned(kind, seed)
    fields = list(simulate_session(library, plan))
    analyses = [
        classify_clusters(
            detect_clusters(Micrograph(f.micrograph.data, f.micrograph.pixel_size_nm, name=p.name)),
            classifier,
        )
        for f, p in zip(fields, plan, strict=True)
    ]
    labelled = label_session(analyses, classifier).analyses
    for number, (analysis, field) in enumerate(zip(labelled, fields, strict=True)):
        table = clusters(analysis, classifier)
        rows, truths = match(table, field.truth, field.micrograph.calibrated())
        truth = np.full(len(table), "", object)
        truth[rows] = field.truth["label"].to_numpy(object)[truths]
        composition = "|".join(str(stated[number].get(c, 0.0)) for c in CLASSES)
        yield table.assign(truth=truth, image=number, stated=composition, kind=kind, seed=seed)


def clusters(analysis: Analysis, classifier: Classifier) -> pd.DataFrame:
    """Measurements and labels of the clusters of an image."""
    table = analysis.table
    reference, scale = require_references(classifier.card)
    intensity = table["integrated_intensity"].to_numpy(float)
    size = reference.measure(analysis.embedding, table["diameter_nm"].to_numpy(float))
    tells = usable(table) & np.isfinite(size) & is_bright(intensity, scale)
    columns = [
        "y_px", "x_px", "touches_border", "label_predicted", "label_mixture", "label_network",
        *probability_columns(CLASSES),
    ]  # fmt: skip
    kept = table[columns].copy()
    return kept.assign(log_intensity=np.log(intensity), log_size=size, tells=np.asarray(tells))


def simulate(first: int, rounds: int) -> pd.DataFrame:
    """Read the sessions of a seed; simulate those that are not kept yet."""
    library = read_or_build_library(BUILD / f"isomers_{first}.npz", SIZES, ISOMERS, first)
    classifier = load_classifier("default", "cpu")
    found = []
    for seed in range(first, first + rounds):
        for kind in KINDS:
            path = BUILD / f"{kind.replace(' ', '_')}_{seed}.csv"
            if not path.exists():
                table = pd.concat(measured_session(library, kind, seed, classifier))
                table.to_csv(path, index=False)
                print(path.name, flush=True)
            found.append(pd.read_csv(path, keep_default_na=False, na_values=[""]))
    return pd.concat(found, ignore_index=True)


# ---- statements
def images_of(table: pd.DataFrame) -> list[tuple[ImageMeasurements, np.ndarray]]:
    """Images of a session with their true shares, as a person would state them."""
    found = []
    for _, image in table.groupby("image"):
        rows = image[image["tells"].astype(bool)]
        measured = ImageMeasurements(
            rows["log_intensity"].to_numpy(float), rows["log_size"].to_numpy(float)
        )
        found.append((measured, np.array(image["stated"].iloc[0].split("|"), float)))
    return found


def wrong_statements(true: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw a wrong composition of each kind that is possible."""
    one, n = np.eye(len(true)), len(true)
    mixture = rng.dirichlet(np.full(n, 2.0))
    while np.abs(mixture - true).sum() / 2 < MIN_DIFFERENCE:
        mixture = rng.dirichlet(np.full(n, 2.0))
    if true.max() < 0.8:
        return {"one size of a mixture": one[rng.integers(n)], "another mixture": mixture}
    own = int(true.argmax())
    near = [i for i in range(n) if abs(i - own) == 1]
    far = [i for i in range(n) if abs(i - own) > 1]
    return {
        "neighbouring size": one[rng.choice(near)],
        "far size": one[rng.choice(far)],
        "a mixture of one size": mixture,
    }


def test_session(table: pd.DataFrame, reference: ApparentSize) -> Iterator[dict[str, object]]:
    """Test true and wrong statements of each image of a session, in three contexts."""
    images, kind, seed = images_of(table), table["kind"].iloc[0], int(table["seed"].iloc[0])
    rng = np.random.default_rng([seed, *kind.encode()])
    unknown = [image for image, _ in images]
    known = [replace(image, shares=true) for image, true in images]
    for i, (image, true) in enumerate(images):
        if not len(image.log_intensity):
            continue
        for statement, shares in {"true": true, **wrong_statements(true, rng)}.items():
            stated = replace(image, shares=shares)
            for context, others in (("alone", None), ("session", unknown), ("all known", known)):
                if others is None:
                    fitted, number = [stated], 0
                else:
                    fitted, number = [*others[:i], stated, *others[i + 1 :]], i
                found = fit_session(fitted, reference)
                n_wrong = int(found.contradicted.sum() - found.contradicted[number])
                yield {
                    "kind": kind, "seed": seed, "image": i, "n": len(image.log_intensity),
                    "statement": statement, "context": context,
                    "log_bayes_factor": found.log_bayes_factor[number],
                    "contradicted": found.contradicted[number], "others": n_wrong,
                }  # fmt: skip


# ---- what is printed
def table_of_statements(tests: pd.DataFrame) -> list[str]:
    """Share of the statements that are contradicted, by kind and context."""
    lines = [
        "| statement | samples | alone | in its session | all known |",
        "|---|---|---|---|---|",
    ]
    for statement in dict.fromkeys(tests["statement"]):
        own = tests[tests["statement"] == statement]
        rate = own.groupby("context")["contradicted"].mean()
        number = len(own) // own["context"].nunique()
        shares = " | ".join(f"{rate[c]:.3f}" for c in ("alone", "session", "all known"))
        lines.append(f"| {statement} | {number} | {shares} |")
    return lines


def table_of_labels(clusters: pd.DataFrame) -> list[str]:
    """Accuracy of the labels of each estimator, and R² of the fractions of the images."""
    whole = clusters[~clusters["touches_border"].astype(bool) & clusters["truth"].isin(CLASSES)]
    columns = probability_columns(CLASSES)
    whole = whole[whole[columns].notna().all(axis=1)]
    best = np.array(CLASSES)[whole[columns].to_numpy().argmax(axis=1)]
    network = whole["label_network"].to_numpy(object)
    mixture = whole["label_mixture"].fillna("").to_numpy(object)
    labels = {
        "combination": best,
        "mixture": np.where(mixture == "", network, mixture),
        "network": network,
    }
    lines = [
        "| sessions | clusters | combination | mixture | network | R² of each |",
        "|---|---|---|---|---|---|",
    ]
    for kind in [*KINDS, "all"]:
        rows = np.ones(len(whole), bool) if kind == "all" else (whole["kind"] == kind).to_numpy()
        truth = whole["truth"].to_numpy(object)[rows]
        images = [whole[name][rows] for name in ("kind", "seed", "image")]
        right = [f"{(label[rows] == truth).mean():.3f}" for label in labels.values()]
        true = fractions(truth, images)
        spread = ((true - true.mean()) ** 2).sum()
        r2 = [
            f"{1 - ((fractions(label[rows], images) - true) ** 2).sum() / spread:.3f}"
            for label in labels.values()
        ]
        lines.append(f"| {kind} | {rows.sum()} | {' | '.join(right)} | {', '.join(r2)} |")
    return lines


def fractions(labels: np.ndarray, images: list[pd.Series]) -> np.ndarray:
    """Fractions of the classes in each image, (n_images, n_classes)."""
    counts = pd.crosstab(images, labels).reindex(columns=list(CLASSES), fill_value=0)
    return counts.div(counts.sum(axis=1), axis=0).to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    reference = require_references(load_classifier("default", "cpu").card)[0]
    for name, first in (("set the limit on", CALIBRATION), ("test", TEST)):
        clusters = simulate(first, options.rounds)
        tests = pd.DataFrame(
            found
            for _, session in clusters.groupby(["seed", "kind"])
            for found in test_session(session, reference)
        )
        true = tests[tests["statement"] == "true"]["log_bayes_factor"]
        print(f"\nSessions to {name}: true statements have log Bayes factors from {true.min():.1f}")
        print("\n".join([*table_of_statements(tests), "", *table_of_labels(clusters)]))


if __name__ == "__main__":
    main()
