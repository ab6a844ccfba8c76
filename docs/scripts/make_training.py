"""How trained networks compare with the model that training starts from.

``python docs/scripts/make_training.py --sets 25 --workers 2`` simulates sets of 1, 2, 4, 8 and 16
size-selected images per class under four kinds of conditions, trains on them as `atomicity train`
does, and scores the models on other isomers: size-selected images and mixtures, each as a session.
It writes a section of docs/explanation/accuracy.md. Scores of finished sets are kept beside it in
training_sets.csv and are not computed again, so that the table grows over several runs: delete the
file after a change of the models or of the training. With ``--keep FOLDER``, trained models and
isomers stay there: after a change of the analysis alone, delete the table only, and no model is
trained again. ``--text-only`` writes the section alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.io.tables import write_table
from napari_atomicity.models.estimators import combination
from napari_atomicity.models.files import find_model, read_model, save_model
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.imaging import Microscope
from napari_atomicity.simulation.metals import composition
from napari_atomicity.simulation.sessions import random_image_settings
from napari_atomicity.simulation.structures import Isomer, library_of, read_or_build_library
from napari_atomicity.training.calibration.evaluation import expected_calibration_error
from napari_atomicity.training.calibration.held_out import (
    predict_as_used,
    stack_labelled,
    stack_labels,
)
from napari_atomicity.training.classifier import Start, train_in_memory
from napari_atomicity.training.data import PatchSet
from napari_atomicity.training.prepared_sets import label_field, split_library
from napari_atomicity.training.request import SCRATCH, FolderSource, TrainRequest
from napari_atomicity.training.run import read_start
from napari_atomicity.training.size_selected import join_files
from page_sections import markdown_table, per_cent, span, write_section

PAGE = Path(__file__).parents[1] / "explanation" / "accuracy.md"
SCORES = PAGE.with_name("training_sets.csv")
SECTION = "training"
IMAGES = (1, 2, 4, 8, 16)
SEED = 53_000
ISOMERS = 30
"""Per class and set: a third each for the training, the size-selected test and the mixtures."""
TEST_IMAGES, MIXTURE_IMAGES = 3, 10
GAIN_SPREAD = 0.12
MAX_MEAN_LOSS, MAX_LOSS = 0.01, 0.03
"""Aims: loss of accuracy against the start, in the mean and in 95 % of the sets."""
AIM_IMAGES = 8
"""Images of each class from which on training should gain under other conditions."""
USUAL = "usual"
FIELD = FieldSettings(shape_px=(560, 560), clusters_per_nm2=0.04)
PT = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
AU = ("Au20", "Au55", "Au92")


@dataclass(frozen=True)
class Condition:
    """Conditions of sets of images, and what training on them starts from."""

    title: str
    description: str
    settings: FieldSettings
    classes: tuple[str, ...] = PT
    start: str = "default"


CONDITIONS = {
    USUAL: Condition("usual", "as the shipped model knows them", FIELD),
    "blurred": Condition(
        "blur",
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
        "other gain",
        "another microscope: gain and black level 10 times as large, thick carbon",
        replace(
            FIELD,
            carbon_nm=6.0,
            roughness=0.2,
            microscope=Microscope(gain=60.0, black_level=4000.0, source_nm=0.12),
        ),
    ),
    "gold": Condition("gold", "Au20, Au55, Au92, from scratch", FIELD, AU, SCRATCH),
}


@lru_cache(maxsize=1)
def library_of_set(classes: tuple[str, ...], seed: int, keep: Path | None) -> list[Isomer]:
    """Return the isomers of a set; the sets of one number under all conditions share them."""
    if keep is None:
        return library_of(classes, ISOMERS, seed)
    element = next(iter(composition(classes[0])))
    sizes = [composition(name)[element] for name in classes]
    path = keep / f"{element}-{seed}.npz"
    return read_or_build_library(path, sizes, ISOMERS, seed, element=element)


def simulate_image(
    isomers: list[Isomer], mixture: dict[str, float], condition: Condition, seed: Sequence[int]
) -> PatchSet:
    """Simulate an image of a mixture, and detect its clusters."""
    rng = np.random.default_rng(seed)
    own = replace(random_image_settings(condition.settings, rng, GAIN_SPREAD), mixture=mixture)
    name = "-".join(map(str, seed))
    field = simulate_field(isomers, own, int(rng.integers(2**31)), name)
    return label_field(field, condition.classes, PatchSettings())


def simulate_set(
    condition: Condition, seed: int, n_train: int, keep: Path | None = None
) -> dict[str, list[PatchSet]]:
    """Simulate the images of a set: "train" in the order of its classes, "single" and "mixed".

    An image is the same whatever the number of training images.
    """
    of_condition = list(CONDITIONS.values()).index(condition)
    shares = dict.fromkeys(("train", "single", "mixed"), 1 / 3)
    library = library_of_set(condition.classes, seed, keep)
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
        FolderSource(Path("set")),
        Path("set.safetensors"),
        start=condition.start,
        seed=seed,
        device="cpu",
    )
    known = [part.take((part.table["truth"] != "").to_numpy(bool)) for part in parts]
    return train_in_memory(request, join_files(known), condition.classes, read_start(request))


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


def measure_set(
    job: tuple[str, int, tuple[int, ...]], keep: Path | None = None
) -> list[dict[str, object]]:
    """Score the start (number 0) and models trained on the first images of each class of a set."""
    name, k, numbers = job
    torch.set_num_threads(1)
    condition = CONDITIONS[name]
    kept = {n: keep / f"{name}-{k}-{n}.safetensors" for n in numbers if n and keep is not None}
    n_train = max((n for n in numbers if n not in kept or not kept[n].is_file()), default=0)
    images = simulate_set(condition, SEED + k, n_train, keep)
    sessions = [images["single"], images["mixed"]]
    rows = []
    for n in numbers:
        if n == 0:
            model = read_model(find_model(condition.start))
        elif n in kept and kept[n].is_file():
            model = read_model(kept[n])
        else:
            chosen = [x for i, x in enumerate(images["train"]) if i % n_train < n]
            model = train(chosen, condition, k)
            if n in kept:
                save_model(kept[n], *model)
        rows.append({"condition": name, "set": k, "images": n, **score(model, sessions)})
    return rows


def missing_sets(
    scores: pd.DataFrame, names: Sequence[str], sets: int, numbers: Sequence[int]
) -> list[tuple[str, int, tuple[int, ...]]]:
    """Return the sets that have no score yet, with their missing numbers of training images."""
    done = set(zip(scores["condition"], scores["set"], scores["images"], strict=True))
    jobs = []
    for k in range(sets):
        for name in names:
            wanted = numbers if CONDITIONS[name].start == SCRATCH else (0, *numbers)
            if missing := tuple(n for n in wanted if (name, k, n) not in done):
                jobs.append((name, k, missing))
    return jobs


def read_scores(path: Path) -> pd.DataFrame:
    """Read the scores of all finished sets."""
    if path.is_file():
        return pd.read_csv(path)
    return pd.DataFrame(columns=["condition", "set", "images"])


def write_scores(scores: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Write the scores of all finished sets, in their order."""
    scores = scores.sort_values(["condition", "set", "images"], ignore_index=True)
    write_table(scores.round(5), path)
    return scores


# ---- the section
def gains(scores: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy minus that of the start, of all sets whose training has a start."""
    keys = ["condition", "set"]
    start = scores[scores["images"] == 0].set_index(keys)["right"].rename("start")
    trained = scores[scores["images"] > 0].join(start, on=keys, how="inner")
    return trained.assign(gain=trained["right"] - trained["start"])


def mean_gain(gain: pd.Series) -> tuple[float, float, float]:
    """Return the mean over sets with its 95 % interval."""
    half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    return gain.mean(), gain.mean() - half, gain.mean() + half


def by_number(scores: pd.DataFrame, form: Callable[[pd.DataFrame], str]) -> list[str]:
    """Return a table: conditions, and a column of each number of training images."""
    numbers = sorted(scores["images"].unique())
    columns = ["conditions", *("start" if n == 0 else str(n) for n in numbers)]
    parts = dict(tuple(scores.groupby(["condition", "images"])))
    rows = [
        [c.title, *(form(parts[name, n]) if (name, n) in parts else "" for n in numbers)]
        for name, c in CONDITIONS.items()
        if (scores["condition"] == name).any()
    ]
    return markdown_table(columns, rows)


def accuracy_tables(scores: pd.DataFrame) -> list[str]:
    """Return the accuracy of all clusters, and of both kinds of images."""
    lines = [
        "### Accuracy by number of training images",
        "",
        "The tables show the mean accuracy over the sets. Columns are the numbers of training "
        "images of each class; *start* is the shipped model without training.",
        "",
    ]
    for name, title in (
        ("right", "All clusters"),
        ("single", "Size-selected images"),
        ("mixed", "Mixtures"),
    ):
        lines += [f"{title}:", "", *by_number(scores, lambda x, n=name: f"{x[n].mean():.3f}")]
    most = scores["images"].max()
    right = scores[scores["images"] == most].groupby("condition")["right"].mean()
    return [
        *lines,
        f"With {most} images of each class, {span(right, 3)} of all clusters are right.",
        "",
    ]


def gain_tables(scores: pd.DataFrame) -> list[str]:
    """Return the gain of training: its mean, and what it is in the worst sets."""
    gain = gains(scores)
    if gain.empty:
        return []
    return [
        "### Gain of training",
        "",
        "The table shows the accuracy of all clusters minus that of the start: the mean over the "
        "sets with its 95 % interval. Gold has no start.",
        "",
        *by_number(gain, gain_cell),
        gain_in_words(gain),
        "",
        "The next table shows the gain that 95 % of the sets exceed (5 % quantile).",
        "",
        *by_number(gain, lambda x: f"{x['gain'].quantile(0.05):+.3f}"),
        loss_in_words(gain),
        "",
    ]


def gain_cell(part: pd.DataFrame) -> str:
    """Return the mean gain, with its interval if there are several sets."""
    mean, low, high = mean_gain(part["gain"])
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" if len(part) > 1 else f"{mean:+.3f}"


def gain_in_words(gain: pd.DataFrame) -> str:
    """Return where training gains and where it loses."""
    ends = {key: mean_gain(own["gain"])[1:] for key, own in gain.groupby(["condition", "images"])}
    better = [key for key, (low, _) in ends.items() if low > 0]
    worse = [key for key, (_, high) in ends.items() if high < 0]
    text = (
        f"The interval is positive in {len(better)} of {len(ends)} cells, and negative in "
        f"{len(worse)}."
    )
    numbers = {n for _, n in ends}
    chosen = AIM_IMAGES if AIM_IMAGES in numbers else max(numbers)
    others = [key for key in ends if key[1] == chosen and key[0] != USUAL]
    if others:
        gained = [key for key in others if key in better]
        text += (
            f" With {chosen} images of each class, it is positive in {len(gained)} of "
            f"{len(others)} conditions that differ from those of the start."
        )
    return text


def loss_in_words(gain: pd.DataFrame) -> str:
    """Return the largest losses against the start."""
    parts = gain.groupby(["condition", "images"])["gain"]
    mean, low = (round(x.min(), 3) for x in (parts.mean(), parts.quantile(0.05)))
    return (
        f"The lowest mean gain is {mean:+.3f}, the lowest 5 % quantile {low:+.3f}: "
        f"{'no' if mean >= -MAX_MEAN_LOSS else 'a'} mean is lower than that of the start by more "
        f"than {MAX_MEAN_LOSS}, and {'no' if low >= -MAX_LOSS else 'a'} quantile by more than "
        f"{MAX_LOSS}."
    )


def confidence_tables(scores: pd.DataFrame) -> list[str]:
    """Return how well the confidence agrees with the accuracy."""
    trained = scores[scores["images"] > 0].groupby(["condition", "images"])
    error, wrong = (trained[name].mean().max() for name in ("calibration_error", "sure_but_wrong"))
    return [
        "### Confidence of trained networks",
        "",
        "The first table shows the calibration error, the mean over the sets.",
        "",
        *by_number(scores, lambda x: f"{x['calibration_error'].mean():.3f}"),
        "The second table shows the fraction of all clusters with a confidence above 0.9 and a "
        "wrong label (*sure but wrong*).",
        "",
        *by_number(scores, lambda x: per_cent(x["sure_but_wrong"].mean())),
        f"After training, the calibration error is at most {error:.3f}, and at most "
        f"{per_cent(wrong)} of the clusters are sure but wrong.",
        "",
    ]


def page(scores: pd.DataFrame, card: ModelCard) -> list[str]:
    """Return the section."""
    conditions = "; ".join(f"*{c.title}*: {c.description}" for c in CONDITIONS.values())
    lines = [
        "## Trained networks",
        "",
        "How good is a model that you train on size-selected images, compared with the model that "
        "training starts from? `docs/scripts/make_training.py` trained on simulated sets (seeds "
        "from "
        f"{SEED}) from {card.model_id}, gold from scratch. A set has its own isomers for the "
        "training, the size-selected test images and the mixtures. Each test is a session; one of "
        f"the {len(PT) * TEST_IMAGES + MIXTURE_IMAGES} images of both changes the accuracy of a "
        f"set by up to {1 / (len(PT) * TEST_IMAGES + MIXTURE_IMAGES):.2f}. No set was used to "
        "choose a setting.",
        "",
        f"**Conditions.** {conditions}.",
        "",
    ]
    if scores.empty:
        return lines
    sets = scores.groupby(["condition", "images"])["set"].nunique()
    numbers = (
        f"{span(sets[name], 0)} of *{c.title}*" for name, c in CONDITIONS.items() if name in sets
    )
    lines += [f"Sets: {', '.join(numbers)}. {{download}}`Their scores <{SCORES.name}>`.", ""]
    if len(set(sets)) > 1:
        lines += [
            "Not every number of images was trained on all sets. The tables of accuracy and of "
            "confidence are means over different sets, so their columns cannot be compared; the "
            "tables of gains compare each set with its own start.",
            "",
        ]
    return [*lines, *accuracy_tables(scores), *gain_tables(scores), *confidence_tables(scores)]


def main() -> None:
    """Measure what is missing, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=25, help="sets of each condition")
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    parser.add_argument("--images", type=int, nargs="*", default=list(IMAGES), help="per class")
    parser.add_argument("--conditions", nargs="*", default=list(CONDITIONS), choices=CONDITIONS)
    parser.add_argument("--scores", type=Path, default=SCORES, help="table of finished sets")
    parser.add_argument("--keep", type=Path, help="folder of trained models and isomers")
    parser.add_argument("--text-only", action="store_true", help="write the page from it")
    options = parser.parse_args()
    scores = read_scores(options.scores)
    if not options.text_only:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
        jobs = missing_sets(scores, options.conditions, options.sets, options.images)
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            for rows in pool.map(partial(measure_set, keep=options.keep), jobs):
                scores = write_scores(pd.concat([scores, pd.DataFrame(rows)]), options.scores)
                print(pd.DataFrame(rows).to_string(index=False, header=False), flush=True)
    card = read_model(find_model("default"))[0]
    write_section(PAGE, SECTION, page(scores, card))


if __name__ == "__main__":
    main()
