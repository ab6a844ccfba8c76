"""Training of an atom model: from labelled images to a file with its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ..._version import __version__
from ...atoms.finding import operating_point as operating
from ...atoms.finding.card import AtomCard
from ...atoms.finding.finder import save_atom_model
from ...core.errors import ReadError, TableError
from ...core.progress import Progress, Stop
from ...models.files import model_file
from .calibration import fit_calibrations
from .evaluation import FoldScores, choose_threshold, score_detections
from .folds import assign_folds, predict_folds
from .labelled import LabelledImage, read_labelled
from .settings import AtomRecipe

MIN_MARKS = 20
"""Fewer teach nothing."""
LIMITS = (
    "A probability says how likely the people who labelled the images it learnt from would have "
    "marked an atom there; others mark otherwise. Heavy atoms (Pt, Re) on carbon; light ones and "
    "heavy supports were not seen. Inside dense aggregates marks are sparse and so are detections."
)


def train_atoms(
    directory: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    pixel_size_nm: float | None = None,
    recipe: AtomRecipe | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomCard:
    """Train a model on folders of images with tables of positions; see `read_labelled`.

    Parameters
    ----------
    directory : str or Path or sequence of str or Path
        A folder or several; each is a separate set in the scores.
    out : str or Path
        The .safetensors file to write; its card has the same name.
    pixel_size_nm : float, optional
        For images without a calibration.
    recipe : AtomRecipe, optional
        Recipe of the model.
    progress, stop : callable, optional
        Called between steps.

    Returns
    -------
    AtomCard
        With precision, recall and F1 on the folds.

    Raises
    ------
    ReadError, CalibrationError, TableError
        If images or positions are missing or invalid.
    Cancelled
        If ``stop()`` is true; nothing is written then.
    """
    folders = [directory] if isinstance(directory, str | Path) else list(directory)
    images = [i for folder in folders for i in read_labelled(folder, pixel_size_nm)]
    return train_on_images(images, Path(out), recipe or AtomRecipe(), progress=progress, stop=stop)


def train_on_images(
    images: Sequence[LabelledImage],
    out: Path,
    recipe: AtomRecipe,
    *,
    build: Path | None = None,
    workers: int = 1,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomCard:
    """Train a model on images in memory, as `train_atoms` does.

    Parameters
    ----------
    images : sequence of LabelledImage
        Labelled images.
    out : Path
        The .safetensors file to write.
    recipe : AtomRecipe
        Recipe of the model.
    build : Path, optional
        Folder that keeps trained networks; those in it are not trained again.
    workers : int, optional
        Number of processes; with more than one, ``stop`` has an effect only between networks.
    about : mapping, optional
        Fields of the card.
    progress, stop : callable, optional
        Called between steps.

    Returns
    -------
    AtomCard
        As written.

    Raises
    ------
    ReadError, TableError
        If there are too few images or marks.
    Cancelled
        If ``stop()`` is true.
    """
    out = model_file(out)
    n_groups = _count_groups(images)
    recipe = replace(recipe, folds=min(recipe.folds, n_groups))
    fold = assign_folds(images, recipe.folds, recipe.settings.seed)
    predictions, networks = predict_folds(
        images, fold, recipe, build=build, workers=workers, with_model=True,
        progress=progress, stop=stop,
    )  # fmt: skip
    try:
        *of_images, calibration = fit_calibrations(images, fold, predictions, recipe)
    except ValueError as error:
        raise TableError(
            f"the networks do not distinguish marked from other places ({error})",
            advice="Check that the marks are on the atoms",
        ) from error
    card = _card(out.stem, images, recipe, calibration, len(networks))
    card = replace(card, scores=score_folds(images, predictions, of_images))
    return save_atom_model(out, replace(card, **(about or {})), networks)


def _count_groups(images: Sequence[LabelledImage]) -> int:
    """Return the number of groups of images; refuse images that are not enough to train on."""
    n_marks = sum(len(i.points) for i in images)
    if n_marks < MIN_MARKS:
        raise TableError(
            f"there are {n_marks} marked atoms, but at least {MIN_MARKS} are needed",
            advice="Mark more atoms, or add labelled images",
        )
    n_groups = len({i.group for i in images})
    if n_groups < 2:
        raise ReadError("one image is not enough", advice="Give two labelled images or more")
    return n_groups


def _card(
    name: str,
    images: Sequence[LabelledImage],
    recipe: AtomRecipe,
    calibration: operating.Calibration,
    n_networks: int,
) -> AtomCard:
    """Return the card of a model, without scores."""
    return AtomCard(
        name,
        members=n_networks,
        width=recipe.settings.width,
        views=max(1, 8 // n_networks),
        scales=recipe.scales,
        slope=calibration.slope,
        offset=calibration.offset,
        candidate_recall=calibration.candidate_recall,
        slope_finer=calibration.slope_finer,
        offset_finer=calibration.offset_finer,
        fineness=calibration.fineness,
        usual_threshold=calibration.point.usual,
        own_weight=calibration.point.own_weight,
        tolerance_nm=recipe.tolerance_nm,
        limits=LIMITS,
        data={
            source: {
                "images": sum(i.source == source for i in images),
                "atoms": sum(len(i.points) for i in images if i.source == source),
            }
            for source in sorted({i.source for i in images})
        },
        training={**asdict(recipe), "torch": str(torch.__version__)},
        version=__version__,
    )


def score_folds(
    images: Sequence[LabelledImage],
    predictions: Sequence[FoldScores],
    calibration: Sequence[operating.Calibration],
) -> dict[str, Any]:
    """Compute scores by set, each image at the operating point of its calibration.

    Parameters
    ----------
    images : sequence of LabelledImage
        The images.
    predictions : sequence of FoldScores
        Candidates of each image.
    calibration : sequence of Calibration
        Calibration of each image.

    Returns
    -------
    dict
        Set → scores, see `score_detections`.
    """
    scores = {}
    for source in sorted({i.source for i in images}):
        rows = [k for k, i in enumerate(images) if i.source == source]
        thresholds = [choose_threshold(calibration[k], predictions[k]) for k in rows]
        scores[source] = score_detections(
            [predictions[k] for k in rows], thresholds, [calibration[k] for k in rows]
        )
    return scores
