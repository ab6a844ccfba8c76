"""Score adaptations on simulated sessions under shifted conditions; print tables for the pages.

    python docs/make_adaptation.py [--sessions 20] [--seed 5000] [--build build/adaptation]

Sessions are recorded under three kinds of shift from the conditions of the training: blur, a lower
dose with a thicker support, and another pixel size with an error of its calibration and another
gain. They are mixtures, size-selected samples, mixtures of two sizes, and single images. The
shipped model and one in the published setting (``atomicity train --start scratch --scale none``)
are adapted to each session, with pseudo-labels by the diameter and by diameter and intensity. The
second model is trained on simulated size-selected images first, unless it is in the build folder.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from napari_atomicity.core.cluster_table import probability_columns
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.pipeline.adaptation.fine_tuning import adapt, choose_settings
from napari_atomicity.pipeline.adaptation.settings import COMBINED, DIAMETER
from napari_atomicity.pipeline.analysis import detect_clusters
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.sessions import draw_session, simulate_session
from napari_atomicity.simulation.structures import Isomer, read_or_build_library
from napari_atomicity.statistics.scores import atoms_of
from napari_atomicity.training.data import match
from napari_atomicity.training.request import FolderSource, TrainRequest
from napari_atomicity.training.run import train
from napari_atomicity.validation.data import SELECTED
from napari_atomicity.validation.methods import FittedModel, label_images
from napari_atomicity.validation.simulated import (
    CLASSES,
    CONDITION_A,
    SimulatedData,
    simulate_data,
)

HERE = Path(__file__).resolve().parent
NO_SHIFT = "none"
SHIFTS = ("blur", "dose", "pixel size")
KINDS = (("mixture", 3), ("one size per image", 5), ("two sizes", 3), ("mixture", 1))
"""Kinds of sessions and their numbers of images, in turn."""
GAIN_SPREAD = 0.1
ISOMERS = 12
EPOCHS = 250


@dataclass(frozen=True, eq=False)
class Session:
    """Detected clusters of the images, and the class index of each, -1 where it has none."""

    detections: list[Analysis]
    truth: list[np.ndarray]


def conditions(shift: str, rng: np.random.Generator) -> tuple[FieldSettings, float]:
    """Draw the conditions of a session, and the relative error of its pixel size."""
    settings = replace(CONDITION_A, shape_px=(640, 640), clusters_per_nm2=0.04)
    microscope, error = settings.microscope, 0.0
    if shift == "blur":
        microscope = replace(
            microscope,
            defocus_nm=float(rng.choice([-1, 1]) * rng.uniform(4, 8)),
            source_nm=float(rng.uniform(0.11, 0.16)),
        )
    elif shift == "dose":
        microscope = replace(
            microscope,
            dose_e_per_a2=float(rng.uniform(800, 2000)),
            lag=float(rng.uniform(0.1, 0.3)),
        )
        settings = replace(
            settings,
            carbon_nm=float(rng.uniform(4.5, 6)),
            roughness=float(rng.uniform(0.1, 0.2)),
        )
    elif shift == "pixel size":
        gain = float(microscope.gain * np.exp(rng.uniform(-1.5, 1.5)))
        microscope = replace(microscope, gain=gain)
        pixel_nm = float(np.exp(rng.uniform(np.log(0.03), np.log(0.05))))
        edge = round(25.6 / pixel_nm)
        settings = replace(settings, pixel_size_nm=pixel_nm, shape_px=(edge, edge))
        error = float(rng.choice([-1, 1]) * rng.uniform(0.02, 0.06))
    return replace(settings, microscope=microscope), error


def simulate(shift: str, seed: int, library: Sequence[Isomer]) -> Session:
    """Simulate a session, detect its clusters, and match them with the truth."""
    rng = np.random.default_rng([seed, *shift.encode()])
    settings, error = conditions(shift, rng)
    kind, n_images = KINDS[seed % len(KINDS)]
    plan = draw_session(kind, CLASSES, n_images, seed, settings, GAIN_SPREAD)
    detections, truth = [], []
    for field in simulate_session(library, plan):
        true_pixel_nm = field.micrograph.calibrated()
        micrograph = replace(field.micrograph, pixel_size_nm=true_pixel_nm * (1 + error))
        detection = detect_clusters(micrograph)
        rows, columns = match(detection.table, field.truth, true_pixel_nm)
        inner = ~field.truth["touches_border"].to_numpy(bool)[columns]
        label = np.full(len(detection.table), -1)
        label[rows[inner]] = field.truth["label"].map(CLASSES.index).to_numpy()[columns[inner]]
        # what an adaptation needs of an image is in its table and its patches
        detections.append(detection)
        truth.append(label)
    return Session(detections, truth)


def stored(folder: Path, shift: str, seed: int, library: Sequence[Isomer]) -> Session:
    """A session of the build folder; simulated first if it is not there."""
    path = folder / f"{shift.replace(' ', '_')}_{seed}.pickle"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(simulate(shift, seed, library)))
    found: Session = pickle.loads(path.read_bytes())
    return found


def published(build: Path, epochs: int, seed: int) -> Path:
    """A model of the published setting, of 20 simulated size-selected images; trained if needed."""
    path = build / "published.safetensors"
    if not path.is_file():
        data = build / "training"
        settings = SimulatedData(
            folds=1, images=4, mixture_images=1, mixtures=1, isomers=7, seed=seed
        )
        simulate_data(data, settings)
        request = TrainRequest(
            FolderSource(data / SELECTED),
            path,
            start="scratch",
            scale="none",
            epochs=epochs,
            patience=0,
        )
        train(request)
    return path


def accuracy(analyses: Sequence[Analysis], truth: Sequence[np.ndarray]) -> float:
    """Share of the clusters of known class whose most probable class is right."""
    right = []
    for analysis, label in zip(analyses, truth, strict=True):
        p = np.nan_to_num(analysis.table[probability_columns(CLASSES)].to_numpy(float), nan=-1)
        right.append((p.argmax(axis=1) == label)[label >= 0])
    return float(np.concatenate(right).mean())


def adaptations(name: str, model: FittedModel, shift: str, seed: int, session: Session) -> Iterator:
    """Adapt a model to a session by each method; a row of the table of each."""
    before = label_images(session.detections, model)
    first = accuracy(before, session.truth)
    common = {"model": name, "shift": shift, "seed": seed, "before": first}
    if shift == NO_SHIFT:
        yield {**common, "method": "", "after": first, "accepted": False}
        return
    for method in (DIAMETER, COMBINED):
        found = adapt(before, model.card, model.tensors, choose_settings(method))
        last = accuracy(found.after, session.truth) if found.accepted else first
        label = np.concatenate(found.pseudo_label_rows)
        true = np.concatenate(session.truth)
        named = (label >= 0) & (true >= 0)
        yield {
            **common,
            "method": method,
            "after": last,
            "accepted": found.accepted,
            "unchecked": found.unchecked,
            "labels": int(named.sum()),
            "right": int((label == true)[named].sum()),
            "reason": "; ".join(found.reasons),
        }


def table(rows: pd.DataFrame) -> list[str]:
    """Markdown of the adaptations, by model, method and shift."""
    lines = [
        "| model | pseudo-labels | shift | sessions | right before the shift | before adaptation "
        "| after | accepted | worst loss of an accepted one | 5 % quantile of its gain "
        "| pseudo-labels right |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    unshifted = rows[rows["shift"] == NO_SHIFT].groupby("model")["before"].mean()
    shifted = rows[rows["shift"] != NO_SHIFT]
    for (model, method, shift), own in shifted.groupby(["model", "method", "shift"], sort=False):
        gain = (own["after"] - own["before"])[own["accepted"].astype(bool)]
        worst = f"{max(0.0, -gain.min()):.3f}" if len(gain) else "–"
        low = f"{gain.quantile(0.05):+.3f}" if len(gain) else "–"
        n, right = int(own["labels"].sum()), int(own["right"].sum())
        lines.append(
            f"| {model} | {method} | {shift} | {len(own)} | {unshifted.get(model, np.nan):.3f} "
            f"| {own['before'].mean():.3f} | {own['after'].mean():.3f} | {len(gain)} "
            f"({int(own['unchecked'].sum())} could not be checked) | {worst} | {low} "
            f"| {right} of {n} ({right / max(n, 1):.1%}) |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=20, help="of each kind of shift")
    parser.add_argument("--seed", type=int, default=5000, help="of the first session")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the published setting")
    parser.add_argument("--published", type=Path, help="model of the published setting")
    parser.add_argument("--build", type=Path, default=HERE.parent / "build/adaptation")
    options = parser.parse_args()
    options.build.mkdir(parents=True, exist_ok=True)
    sizes = [atoms_of(name) or 0 for name in CLASSES]
    isomers = options.build / "isomers.npz"
    library = read_or_build_library(isomers, sizes, ISOMERS, options.seed)
    own = options.published or published(options.build, options.epochs, options.seed + 1)
    models = {
        "shipped": FittedModel(*read_model(find_model("default")), "cpu"),
        "published setting": FittedModel(*read_model(own), "cpu"),
    }
    rows: list[dict] = []
    for seed in range(options.seed, options.seed + options.sessions):
        for shift in (NO_SHIFT, *SHIFTS):
            session = stored(options.build / "sessions", shift, seed, library)
            for name, model in models.items():
                for row in adaptations(name, model, shift, seed, session):
                    rows.append(row)
                    print({k: v for k, v in row.items() if k != "reason"}, flush=True)
        pd.DataFrame(rows).to_csv(options.build / "adaptations.csv", index=False)
    print("\n".join(table(pd.DataFrame(rows))))


if __name__ == "__main__":
    main()
