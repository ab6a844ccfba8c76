"""Score adaptations on simulated sessions under shifted conditions, for ``accuracy.md``.

    python docs/scripts/make_adaptation.py [--sessions 20] [--seed 5000] [--build build/adaptation]
                                   [--text-only]

Sessions are recorded under three kinds of shift from the conditions of the training: blur, a lower
dose with a thicker support, and another pixel size with an error of its calibration and another
gain. They are mixtures, size-selected samples, mixtures of two sizes, and single images. The
shipped model and one in the published setting (``atomicity train --start scratch --scale none``)
are adapted to each session, with pseudo-labels by the diameter and by diameter and intensity. The
second model is trained on simulated size-selected images first, unless it is in the build folder.
The results are kept in ``adaptations.csv`` there, and seeds that it has are not computed again:
delete it after a change of the adaptation. ``--text-only`` writes the section from it.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from napari_atomicity.core.tables.cluster_table import probability_columns
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.pipeline.adaptation.fine_tuning import adapt
from napari_atomicity.pipeline.adaptation.settings import COMBINED, DIAMETER, AdaptSettings
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
from page_sections import formatted_table, number, per_cent, write_section

HERE = Path(__file__).resolve().parents[1]
PAGE, SECTION = HERE / "explanation" / "accuracy.md", "adaptation"
CORRECTED = 0.05
"""Loss of accuracy against that before the shift up to which a shift counts as corrected."""
MAX_LOSS = 0.02
"""Aim: loss of accuracy by an accepted adaptation."""
NO_SHIFT = "none"
SHIFTS = ("blur", "dose", "pixel size")
KINDS = (("mixture", 3), ("one size per image", 5), ("two sizes", 3), ("mixture", 1))
"""Kinds of sessions and their numbers of images, in turn."""
GAIN_SPREAD = 0.1
ISOMERS = 12


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


def published(build: Path, epochs: int | None, seed: int) -> Path:
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
        found = adapt(before, model.card, model.tensors, AdaptSettings(pseudo_label_method=method))
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


# ---- the section
def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row of each model, kind of pseudo-labels and shift; lost and gained by accepted ones."""
    found = []
    unshifted = rows[rows["shift"] == NO_SHIFT].groupby("model")["before"].mean()
    shifted = rows[rows["shift"] != NO_SHIFT]
    keys = ["model", "method", "shift"]
    order = product(*(dict.fromkeys(shifted[key]) for key in keys))
    parts = dict(tuple(shifted.groupby(keys)))
    for model, method, shift in (key for key in order if key in parts):
        own = parts[model, method, shift]
        accepted = own["accepted"].astype(bool)
        gain = (own["after"] - own["before"])[accepted]
        labels, right = int(own["labels"].sum()), int(own["right"].sum())
        found.append(
            {
                "model": model,
                "method": method,
                "shift": shift,
                "sessions": len(own),
                "unshifted": unshifted.get(model, np.nan),
                "before": own["before"].mean(),
                "after": own["after"].mean(),
                "accepted": int(accepted.sum()),
                "unchecked": int(own["unchecked"].fillna(False).astype(bool).sum()),
                "worst_loss": max(0.0, -gain.min()) if len(gain) else np.nan,
                "low_gain": gain.quantile(0.05) if len(gain) else np.nan,
                "labels": labels,
                "right": right,
                "share_right": right / labels if labels else np.nan,
            }
        )
    return pd.DataFrame(found)


def section(rows: pd.DataFrame) -> list[str]:
    """The section of the page."""
    lines = [
        "## Adaptation to other conditions",
        "",
        "How much does an adaptation without labels gain, and can it harm? "
        "`docs/scripts/make_adaptation.py` adapts two models to simulated sessions: the shipped "
        "one, and "
        "one in the published setting, trained from scratch on 20 simulated size-selected images, "
        "each patch with its own scale. Pseudo-labels come from the diameter alone (*diameter*), "
        "as published, or from diameter and intensity (*combined*).",
        "",
        "**Shifts.** *blur*: defocus and a wider source; *dose*: a lower dose, lag and a thicker "
        "support; *pixel size*: other pixels with an error of their size, and another gain. "
        "**Sessions** are mixtures, one size per image, mixtures of two sizes, and single images "
        "in turn.",
        "",
    ]
    if rows.empty:
        return lines
    table = summary(rows)
    return [
        *lines,
        *accuracy_section(table),
        *acceptance_section(table, rows),
        *label_section(table),
    ]


KEYS = {"model": "{model}", "pseudo-labels": "{method}", "shift": "{shift}"}
"""First columns of all tables."""


def accuracy_section(table: pd.DataFrame) -> list[str]:
    """Accuracy before the shift, before and after the adaptation."""
    words = []
    for model, own in table.groupby("model", sort=False):
        gain, left = own["after"] - own["before"], own["unshifted"] - own["after"]
        words.append(
            f"The accuracy of the model *{model}* changes by {gain.min():+.3f} to "
            f"{gain.max():+.3f}; after the adaptation it differs from that before the shift by "
            f"{-left.max():+.3f} to {-left.min():+.3f}."
        )
    columns = {
        **KEYS,
        "sessions": "{sessions}",
        "before the shift": "{unshifted:.3f}",
        "before adaptation": "{before:.3f}",
        "after": "{after:.3f}",
    }
    return [
        "### Accuracy before and after adaptation",
        "",
        "The table shows the mean accuracy over sessions: under the conditions of the training, "
        "after the shift, and after the adaptation. Refused adaptations count with the unchanged "
        "model.",
        "",
        *formatted_table(table.to_dict("records"), columns),
        " ".join(words),
        "",
    ]


def acceptance_section(table: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """How often adaptations were accepted, and what accepted ones lost."""
    accepted = rows[(rows["shift"] != NO_SHIFT) & rows["accepted"].astype(bool)]
    lost = int((accepted["before"] - accepted["after"] > MAX_LOSS).sum())
    keys = ["model", "seed"]
    unshifted = rows[rows["shift"] == NO_SHIFT].drop_duplicates(keys).set_index(keys)["before"]
    left = unshifted.loc[pd.MultiIndex.from_frame(accepted[keys])].to_numpy() - accepted["after"]
    shown = table.assign(
        worst_loss=[number(x, 3) for x in table["worst_loss"]],
        low_gain=[f"{x:+.3f}" if np.isfinite(x) else number(x, 3) for x in table["low_gain"]],
    )
    columns = {
        **KEYS,
        "accepted": "{accepted}",
        "not checked": "{unchecked}",
        "worst loss": "{worst_loss}",
        "5 % quantile of the gain": "{low_gain}",
    }
    return [
        "### Accepted adaptations",
        "",
        "The table shows how many adaptations were accepted, how many could not be checked, the "
        "largest loss of accuracy by an accepted one, and the gain that 95 % of the accepted ones "
        "exceed.",
        "",
        *formatted_table(shown.to_dict("records"), columns),
        f"Of {len(accepted)} accepted adaptations, {lost} lost more than {MAX_LOSS}. In these "
        f"sessions, the accuracy after the adaptation differs from that before the shift by "
        f"{-left.mean():+.3f} in the mean (median {-left.median():+.3f}); in "
        f"{int((left <= CORRECTED).sum())} of {len(left)} it is at most {CORRECTED} lower.",
        "",
    ]


def label_section(table: pd.DataFrame) -> list[str]:
    """How many pseudo-labels were right."""
    shares = table.groupby("method", sort=False)[["right", "labels"]].sum()
    words = [
        f"{per_cent(row['right'] / row['labels'])} of the labels by *{method}* are right"
        for method, row in shares.iterrows()
        if row["labels"]
    ]
    shown = table.assign(share_right=[per_cent(x) for x in table["share_right"]])
    columns = {
        **KEYS,
        "pseudo-labelled clusters": "{labels}",
        "right": "{right}",
        "share": "{share_right}",
    }
    return [
        "### Pseudo-labels",
        "",
        "The table shows how many clusters of known class got a pseudo-label, and how many of "
        "these labels were right. They are counted for refused adaptations too.",
        "",
        *formatted_table(shown.to_dict("records"), columns),
        f"{'; '.join(words)}.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=20, help="of each kind of shift")
    parser.add_argument("--seed", type=int, default=5020, help="of the first session")
    parser.add_argument(
        "--epochs", type=int, help="of the published setting; automatic if not given"
    )
    parser.add_argument("--published", type=Path, help="model of the published setting")
    parser.add_argument("--build", type=Path, default=HERE.parent / "build/adaptation")
    parser.add_argument("--text-only", action="store_true", help="write the page from results")
    options = parser.parse_args()
    kept = options.build / "adaptations.csv"
    if not options.text_only:
        measure(options, kept)
    rows = pd.read_csv(kept, keep_default_na=False, na_values=[""])
    write_section(PAGE, SECTION, section(rows))


def measure(options: argparse.Namespace, kept: Path) -> None:
    """Adapt both models to all sessions, and keep the results after each seed."""
    options.build.mkdir(parents=True, exist_ok=True)
    sizes = [atoms_of(name) or 0 for name in CLASSES]
    isomers = options.build / "isomers.npz"
    library = read_or_build_library(isomers, sizes, ISOMERS, options.seed)
    own = options.published or published(options.build, options.epochs, options.seed + 1)
    models = {
        "shipped": FittedModel(*read_model(find_model("default")), "cpu"),
        "published setting": FittedModel(*read_model(own), "cpu"),
    }
    rows: list[dict] = pd.read_csv(kept).to_dict("records") if kept.is_file() else []
    done = {row["seed"] for row in rows}
    for seed in sorted({*range(options.seed, options.seed + options.sessions)} - done):
        for shift in (NO_SHIFT, *SHIFTS):
            session = stored(options.build / "sessions", shift, seed, library)
            for name, model in models.items():
                for row in adaptations(name, model, shift, seed, session):
                    rows.append(row)
                    print({k: v for k, v in row.items() if k != "reason"}, flush=True)
        pd.DataFrame(rows).to_csv(kept, index=False)


if __name__ == "__main__":
    main()
