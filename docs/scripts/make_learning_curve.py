"""Recompute the table and the figure of ``explanation/learning_curve.md``.

    python docs/scripts/make_learning_curve.py [--repeats 2] [--images-per-class 1 2 4 8 16]
        [--epochs 40] [--methods …] [--workers 2] [--quick] [--text-only]

`make curve` does it: ``atomicity validate --simulate --learning-curve`` with a seed of its own, and
each repeat in a process of its own. Data and finished runs are kept in ``build/learning_curve``:
the script continues after an interruption (delete the folder to change anything but the number of
repeats). A repeat trains each network on 31 images per class in total, which takes about eight
times as long as one training on four. ``--quick`` tests all steps in some minutes, and does not
write the page; ``--text-only`` writes it from the results.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from napari_atomicity.core.progress import format_duration
from napari_atomicity.core.text import pluralise
from napari_atomicity.validation.data import MIXED, SELECTED
from napari_atomicity.validation.learning_curve.run import FIGURE, measure_learning_curve
from napari_atomicity.validation.request import (
    CURVE_RESULT,
    DATA,
    FIGURES,
    IMAGES_PER_CLASS,
    ValidationRequest,
    quickened,
)
from napari_atomicity.validation.simulated import simulated_request
from page_sections import replace_section

HERE = Path(__file__).resolve().parents[1]
PAGE = HERE / "explanation" / "learning_curve.md"
PICTURE = HERE / "images" / "learning-curve.png"
BUILD = HERE.parent / "build" / "learning_curve"
SEED = 41
"""Of the simulated images, which are neither those of ``papers.md`` nor of the shipped models."""
REPEATS = 2
TABLES = (
    (SELECTED, "accuracy", 2, "Accuracy on size-selected images"),
    (MIXED, "ratio_r2", 3, "R² of the class ratios of mixtures"),
    (MIXED, "ratio_mean_absolute_error", 3, "Mean absolute error of the class ratios of mixtures"),
    (SELECTED, "calibration_error", 3, "Calibration error on size-selected images"),
)
"""Group of images, score, decimals and title of each table."""


def measure(request: ValidationRequest, repeats: int, workers: int, out: Path) -> dict[str, Any]:
    """Measure each repeat in a process, and summarise them."""
    of_repeats = [replace(request, seed=k, repeats=1) for k in range(repeats)]
    if workers > 1:
        with ProcessPoolExecutor(
            workers, get_context("spawn"), torch.set_num_threads, (1,)
        ) as pool:
            list(pool.map(measure_one, of_repeats, [out] * repeats))
    whole = replace(request, seed=0, repeats=repeats)
    return measure_learning_curve(whole, out, on_line=print_line)


def measure_one(request: ValidationRequest, out: Path) -> None:
    """Measure one repeat; its runs have names of their own in the common folder."""
    measure_learning_curve(request, out, on_line=print_line)


def print_line(line: str) -> None:
    print(line, flush=True)


# ---- page
def section(result: Mapping[str, Any]) -> list[str]:
    """Return what the script writes: sentences, figure and tables."""
    groups = result["groups"]
    lines = [f"- {sentence}" for sentence in (*result["sentences"], *result["left_out"])]
    lines += [
        "",
        f"![Scores by number of training images](../images/{PICTURE.name})",
        "",
        "Made by `make curve` (`docs/scripts/make_learning_curve.py`), version "
        f"{result['version']}: "
        f"{pluralise(len(result['seeds']), 'repeat')}; {groups[SELECTED]['images']} size-selected "
        f"images with {groups[SELECTED]['clusters']} detected clusters of "
        f"{', '.join(result['classes'])}, of which {result['test_images'][0]} are tested in each "
        f"repeat; {groups[MIXED]['images']} images of {groups[MIXED]['samples']} mixtures; "
        f"{format_duration(result['seconds'])} of computation.",
    ]
    for group, score, digits, title in TABLES:
        lines += ["", f"## {title}", "", *table(result, group, score, digits)]
    return lines


def table(result: Mapping[str, Any], group: str, score: str, digits: int) -> list[str]:
    """Return the rows of a score: a method in each row, a number of images in each column."""
    numbers = [0, *result["images_per_class"]]
    lines = [f"| method | {' | '.join(['not trained', *map(str, numbers[1:])])} |"]
    lines.append("|---" * (1 + len(numbers)) + "|")
    for method in result["methods"].values():
        of_number = {point["images_per_class"]: point for point in method["points"]}
        cells = [cell(of_number.get(n), group, score, digits) for n in numbers]
        if any(cells):
            lines.append(f"| {method['title']} | {' | '.join(cells)} |")
    return lines


def cell(point: Mapping[str, Any] | None, group: str, score: str, digits: int) -> str:
    """Return mean and interval of a point; empty if the method has no such point."""
    if point is None:
        return ""
    found = point["groups"].get(group, {}).get(score, {})
    if found.get("mean") is None:
        return "not possible" if point["not_possible"] else ""
    mean, low, high = (f"{found[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def write_page(out: Path) -> None:
    """Write the section of the page and its picture from the results in a folder."""
    result = json.loads((out / CURVE_RESULT).read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replace_section(text, "curve", section(result)), encoding="utf-8")
    shutil.copyfile(out / FIGURES / f"{FIGURE}.png", PICTURE)


def main() -> None:
    """Measure the learning curve, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--images-per-class", type=int, nargs="+", default=IMAGES_PER_CLASS)
    parser.add_argument("--methods", nargs="+", default=[], help="default: those of the command")
    parser.add_argument("--epochs", type=int, default=ValidationRequest(HERE).epochs)
    parser.add_argument("--patience", type=int, default=ValidationRequest(HERE).patience)
    parser.add_argument("--workers", type=int, default=2, help="processes, one for each repeat")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="test all steps, without the page")
    parser.add_argument("--text-only", action="store_true", help="write the page from the results")
    given = parser.parse_args()
    out = BUILD.with_name("learning_curve_quick") if given.quick else BUILD
    if not given.text_only:
        request = ValidationRequest(
            out, epochs=given.epochs, patience=given.patience, seed=SEED, device=given.device,
            methods=tuple(given.methods), images_per_class=tuple(given.images_per_class),
        )  # fmt: skip
        request = quickened(request) if given.quick else request
        request = simulated_request(request, out / DATA, quick=given.quick, learning_curve=True)
        measure(request, given.repeats, given.workers, out)
    if not given.quick:
        write_page(out)


if __name__ == "__main__":
    main()
