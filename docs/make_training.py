"""How networks of one's own compare with the model that training starts from.

``python docs/make_training.py --sets 25 --workers 2`` simulates sets of 1, 2, 4, 8 and 16
size-selected images per class under four kinds of conditions, trains on them as `atomicity train`
does, and scores the models on other isomers: size-selected images and mixtures, each as a session.
It writes a table into docs/explanation/accuracy.md. Scores of finished sets are kept in
build/training and are not computed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.models.estimators import combination
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.imaging import Microscope
from napari_atomicity.simulation.sessions import random_image_settings
from napari_atomicity.simulation.structures import Isomer, library_of
from napari_atomicity.training.cards import new_card
from napari_atomicity.training.classifier import (
    Start,
    continue_on_all_images,
    train_classifier,
)
from napari_atomicity.training.data import PatchSet, training_and_held_out
from napari_atomicity.training.evaluation import expected_calibration_error
from napari_atomicity.training.held_out import predict_as_used, stack_labelled, stack_labels
from napari_atomicity.training.request import SCRATCH, FolderSource, TrainRequest, settings_for
from napari_atomicity.training.simulated import label_field, split_library
from napari_atomicity.training.size_selected import join_files

PAGE = Path(__file__).parent / "explanation" / "accuracy.md"
BUILD = Path("build") / "training"
BEGIN, END = "<!-- training: begin -->", "<!-- training: end -->"
IMAGES = (1, 2, 4, 8, 16)
SEED = 52_000
ISOMERS = 30
"""Per class and set: a third each for the training, the size-selected test and the mixtures."""
TEST_IMAGES, MIXTURE_IMAGES = 3, 10
GAIN_SPREAD = 0.12
FIELD = FieldSettings(shape_px=(560, 560), clusters_per_nm2=0.04)
PT = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
AU = ("Au20", "Au55", "Au92")


@dataclass(frozen=True)
class Condition:
    """Conditions of sets of images, and what training on them starts from."""

    title: str
    settings: FieldSettings
    classes: tuple[str, ...] = PT
    start: str = "default"


CONDITIONS = {
    "usual": Condition("as the shipped model knows them", FIELD),
    "blurred": Condition(
        "far more blur, an eighth of the dose, 0.055 nm per pixel, thick carbon",
        replace(
            FIELD,
            pixel_size_nm=0.055,
            shape_px=(440, 440),
            carbon_nm=6.0,
            roughness=0.2,
            microscope=Microscope(defocus_nm=10.0, source_nm=0.2, dose_e_per_a2=800.0),
        ),
    ),
    "gain": Condition(
        "another microscope: gain and black level 10 times as large, thick carbon",
        replace(
            FIELD,
            carbon_nm=6.0,
            roughness=0.2,
            microscope=Microscope(gain=60.0, black_level=4000.0, source_nm=0.12),
        ),
    ),
    "gold": Condition("Au20, Au55, Au92, from scratch", FIELD, AU, SCRATCH),
}


@lru_cache(maxsize=1)
def library_of_set(classes: tuple[str, ...], seed: int) -> list[Isomer]:
    """Return the isomers of a set; the sets of one number under all conditions share them."""
    return library_of(classes, ISOMERS, seed)


def simulate_image(
    isomers: list[Isomer], mixture: dict[str, float], condition: Condition, seed: Sequence[int]
) -> PatchSet:
    """Simulate an image of a mixture, and detect its clusters."""
    rng = np.random.default_rng(seed)
    own = replace(random_image_settings(condition.settings, rng, GAIN_SPREAD), mixture=mixture)
    name = "-".join(map(str, seed))
    field = simulate_field(isomers, own, int(rng.integers(2**31)), name)
    return label_field(field, condition.classes, PatchSettings())


def simulate_set(condition: Condition, seed: int, n_train: int) -> dict[str, list[PatchSet]]:
    """Simulate the images of a set: "train" in the order of its classes, "single" and "mixed".

    An image is the same whatever the number of training images.
    """
    of_condition = list(CONDITIONS.values()).index(condition)
    shares = dict.fromkeys(("train", "single", "mixed"), 1 / 3)
    library = library_of_set(condition.classes, seed)
    isomers: dict[str, list[Isomer]] = {name: [] for name in shares}
    for label in condition.classes:
        of_class = [i for i in library if i.label == label]
        for name, some in split_library(of_class, seed, shares).items():
            isomers[name] += some
    out: dict[str, list[PatchSet]] = {
        part: [
            simulate_image(isomers[part], {label: 1.0}, condition, (seed, of_condition, n, c, i))
            for c, label in enumerate(condition.classes)
            for i in range(number)
        ]
        for n, (part, number) in enumerate((("train", n_train), ("single", TEST_IMAGES)))
    }
    rng = np.random.default_rng([seed, 1])
    drawn = rng.dirichlet([2.0] * len(condition.classes), MIXTURE_IMAGES)
    mixtures = [dict(zip(condition.classes, map(float, x), strict=True)) for x in drawn]
    out["mixed"] = [
        simulate_image(isomers["mixed"], mixture, condition, (seed, of_condition, 2, 0, i))
        for i, mixture in enumerate(mixtures)
    ]
    return out


def train(parts: Sequence[PatchSet], condition: Condition, seed: int) -> Start:
    """Train as `atomicity train --data` does."""
    request = TrainRequest(
        FolderSource(Path("set")), Path("set.safetensors"), start=condition.start, seed=seed
    )
    known = [part.take((part.table["truth"] != "").to_numpy(bool)) for part in parts]
    whole = join_files(known)
    sets = training_and_held_out(whole, seed)
    start = None if condition.start == SCRATCH else read_model(find_model(condition.start))
    settings = settings_for(request, len(sets["train"]))
    model = train_classifier(
        sets["train"], sets["held_out"], new_card(request, sets, list(condition.classes)),
        settings, "cpu", start=start, with_map=False,
    )  # fmt: skip
    return model if start else continue_on_all_images(model, list(sets.values()), settings, "cpu")


def score(model: Start, sessions: Sequence[Sequence[PatchSet]]) -> dict[str, float]:
    """Score a model on sessions of other isomers."""
    p, label = [], []
    for session in sessions:
        images = predict_as_used(
            *model, PatchSet.join(session), torch.device("cpu"), one_session=True
        )
        p.append(stack_labelled(images, [combination(image.known) for image in images]))
        label.append(stack_labels(images))
    right = [x.argmax(axis=1) == y for x, y in zip(p, label, strict=True)]
    confidence, all_right = np.concatenate(p).max(axis=1), np.concatenate(right)
    return {
        "single": float(right[0].mean()),
        "mixed": float(right[1].mean()),
        "right": float(all_right.mean()),
        "calibration_error": expected_calibration_error(confidence, all_right),
        "sure_but_wrong": float(((confidence > 0.9) & ~all_right).mean()),
        "clusters": len(all_right),
    }


def measure_sets(job: tuple[Sequence[str], int, tuple[int, ...]]) -> None:
    """Measure the sets of one number under some conditions."""
    names, k, numbers = job
    torch.set_num_threads(1)
    for name in names:
        measure_set(name, k, numbers)


def measure_set(name: str, k: int, numbers: tuple[int, ...]) -> None:
    """Simulate a set, train on its first images of each class, and write the scores."""
    path = BUILD / f"{name}-{k}.json"
    rows = json.loads(path.read_text()) if path.is_file() else []
    missing = [n for n in numbers if n not in {row["images"] for row in rows}]
    if not missing:
        return
    condition = CONDITIONS[name]
    n_train = max(missing)
    images = simulate_set(condition, SEED + k, n_train)
    sessions = [images["single"], images["mixed"]]
    if not rows and condition.start != SCRATCH:
        rows.append({"images": 0, **score(read_model(find_model(condition.start)), sessions)})
    for n in missing:
        chosen = [x for i, x in enumerate(images["train"]) if i % n_train < n]
        rows.append({"images": n, **score(train(chosen, condition, k), sessions)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    print(name, k, {row["images"]: round(row["right"], 3) for row in rows}, flush=True)


# ---- the table
def table(scores: pd.DataFrame) -> list[str]:
    """Return a table of all conditions as Markdown."""
    lines = [
        "| conditions | images of each class | sets | right, size-selected | right, mixtures | "
        "right, all | more than the start, mean (95 %) | in the worst 5 % of sets | "
        "calibration error | sure but wrong |",
        "|" + "---|" * 10,
    ]
    for name, condition in CONDITIONS.items():
        own = scores[scores["condition"] == name]
        start = own[own["images"] == 0].set_index("set")["right"]
        for n, rows in own.groupby("images"):
            gain = (rows.set_index("set")["right"] - start).dropna()
            lines.append(_row(condition.title, int(n), rows, gain))
    return lines


def _row(title: str, n: int, rows: pd.DataFrame, gain: pd.Series) -> str:
    mean = rows[["single", "mixed", "right", "calibration_error", "sure_but_wrong"]].mean()
    gained, worst = "", ""
    if n and len(gain):
        half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
        gained = f"{gain.mean():+.3f} ({gain.mean() - half:+.3f} to {gain.mean() + half:+.3f})"
        worst = f"{gain.quantile(0.05):+.3f}"
    cells = [
        title, "start" if n == 0 else str(n), str(len(rows)), f"{mean['single']:.3f}",
        f"{mean['mixed']:.3f}", f"{mean['right']:.3f}", gained, worst,
        f"{mean['calibration_error']:.3f}", f"{100 * mean['sure_but_wrong']:.1f} %",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def read_scores() -> pd.DataFrame:
    """Read the scores of all finished sets."""
    rows = []
    for path in sorted(BUILD.glob("*-*.json")):
        name, _, k = path.stem.rpartition("-")
        rows += [{"condition": name, "set": int(k), **row} for row in json.loads(path.read_text())]
    return pd.DataFrame(rows)


def page(scores: pd.DataFrame, card: ModelCard) -> str:
    """Return the section."""
    text = [
        BEGIN,
        "## Networks of one's own",
        "",
        f"`docs/make_training.py` trained on simulated sets (seeds from {SEED}) from "
        f"{card.model_id}, gold from scratch. A set has its own isomers for the training, the "
        "size-selected test images and the mixtures. Each test is a session. *Start*: the shipped "
        "model on the same test images. No set was used to choose a setting.",
        "",
        *table(scores),
        "",
        END,
    ]
    return "\n".join(text)


def main() -> None:
    """Measure what is missing, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=25, help="sets of each condition")
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    parser.add_argument("--images", type=int, nargs="*", default=list(IMAGES), help="per class")
    parser.add_argument("--conditions", nargs="*", default=list(CONDITIONS), choices=CONDITIONS)
    options = parser.parse_args()
    numbers = tuple(options.images)
    jobs = [(options.conditions, k, numbers) for k in range(options.sets)]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        list(pool.map(measure_sets, jobs))
    text = page(read_scores(), read_model(find_model("default"))[0])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before.rstrip()}\n\n{text}{after or chr(10)}", encoding="utf-8")


if __name__ == "__main__":
    main()
