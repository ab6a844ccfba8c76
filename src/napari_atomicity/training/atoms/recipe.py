"""From labelled images to a model with its card: folds, networks, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..._version import __version__
from ...atoms import operating_point as operating
from ...atoms.card import AtomCard
from ...atoms.finder import AtomModel, packed, save_atom_model
from ...atoms.network import AtomNet
from ...core.errors import ReadError, TableError
from ...core.processes import spawn_pool
from ...core.progress import Progress, Stop, check, report
from .examples import AtomTrainingSettings
from .fit import train_network
from .judging import FoldScores, calibrations, f1_of, folds_of, judge, threshold_of
from .labelled import LabelledImage, read_labelled

_MIN_SCORE = -6.0
MAX_NETWORKS = 9
"""Of a model: so many fit into 3 MB."""
MIN_MARKS = 20
"""Fewer teach nothing."""
LIMITS = (
    "A probability says how likely the people who labelled the images it learnt from would have "
    "marked an atom there; others mark otherwise. Heavy atoms (Pt, Re) on carbon; light ones and "
    "heavy supports were not seen. Inside dense aggregates marks are sparse and so are detections."
)


@dataclass(frozen=True)
class AtomRecipe:
    """What makes an atom model from labelled images.

    Parameters
    ----------
    settings
        Of each network.
    folds
        Parts of the images, each left out once, for calibration and scores.
    members
        Networks of the model, which learn from all images; 0: the model is those of the folds.
    fold_members
        Networks trained without each fold.
    also
        Settings of every second (third, ...) network: conditions that differ make networks that
        err differently.
    scales
        See `finder.AtomCard`.
    tolerance_nm
        A candidate this near to a mark is right.
    not_calibrating
        Sets that are learnt from and scored, but whose marks are not sure enough to calibrate.
    """

    settings: AtomTrainingSettings = field(default_factory=AtomTrainingSettings)
    folds: int = 4
    members: int = 2
    fold_members: int = 1
    also: tuple[AtomTrainingSettings, ...] = ()
    scales: tuple[float, ...] = (1.0,)
    tolerance_nm: float = 0.15
    not_calibrating: tuple[str, ...] = ()

    def network(self, k: int) -> AtomTrainingSettings:
        """Settings of the k-th network."""
        kinds = (self.settings, *self.also)
        chosen = kinds[k % len(kinds)]
        return replace(chosen, seed=chosen.seed + k // len(kinds))


@dataclass(frozen=True)
class _Job:
    """One network: without a fold, or of all images (-1)."""

    fold: int
    k: int

    @property
    def name(self) -> str:
        return f"{'all' if self.fold < 0 else f'without-{self.fold}'}-network-{self.k}"


def train_atoms(
    directory: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    pixel_size_nm: float | None = None,
    recipe: AtomRecipe | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomCard:
    """A model from folders of images with tables of positions; see `read_labelled`.

    Parameters
    ----------
    directory
        A folder or several; each is a set of its own in the scores.
    out
        The .safetensors file to write; its card lies beside it.
    pixel_size_nm
        For images that don't say theirs.
    recipe
        How.
    progress, stop
        Called between steps.

    Returns
    -------
    AtomCard
        With precision, recall and F1 on the folds.

    Raises
    ------
    ReadError, CalibrationError, TableError
        If images or positions are missing or not what they should be.
    Cancelled
        If ``stop()`` says so; nothing is written then.
    """
    folders = [directory] if isinstance(directory, str | Path) else list(directory)
    images = [i for folder in folders for i in read_labelled(folder, pixel_size_nm)]
    return train_on(images, Path(out), recipe or AtomRecipe(), progress=progress, stop=stop)


def train_on(
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
    """As `train_atoms`, of images in memory.

    Parameters
    ----------
    build
        Folder in which every network is kept once it is trained; what is there is not made again.
    workers
        Processes; with more than one, ``stop`` is heard only between networks.
    about
        Fields of the card.
    """
    out = out.with_suffix(".safetensors")
    n_marks = sum(len(i.points) for i in images)
    if n_marks < MIN_MARKS:
        raise TableError(f"there are {n_marks} marked atoms; {MIN_MARKS} are the least")
    n_groups = len({i.group for i in images})
    if n_groups < 2:
        raise ReadError("one image is not enough", advice="Give two labelled images or more")
    recipe = replace(recipe, folds=min(recipe.folds, n_groups))
    fold = folds_of(images, recipe.folds, recipe.settings.seed)
    judged, networks = fold_predictions(
        images, fold, recipe, build=build, workers=workers, with_model=True,
        progress=progress, stop=stop,
    )  # fmt: skip
    try:
        *by_image, calibration = calibrations(images, fold, judged, recipe)
    except ValueError as error:
        raise TableError(
            f"nothing was learnt ({error})", advice="Check that the marks lie on the atoms"
        ) from error
    card = AtomCard(
        out.stem,
        members=len(networks),
        width=recipe.settings.width,
        views=max(1, 8 // len(networks)),
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
        scores=fold_scores(images, judged, by_image),
        version=__version__,
    )
    return save_atom_model(out, replace(card, **(about or {})), networks)


def fold_predictions(
    images: Sequence[LabelledImage],
    fold: np.ndarray,
    recipe: AtomRecipe,
    *,
    build: Path | None = None,
    workers: int = 1,
    with_model: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[list[FoldScores], list[AtomNet]]:
    """What networks say of images that they have not learnt from, and those of the model.

    Returns
    -------
    judged : list of Judged
        For each image, by the networks without its fold.
    networks : list of AtomNet
        Trained on all images; empty unless ``with_model``.
    """
    jobs = [_Job(f, s) for f in range(recipe.folds) for s in range(recipe.fold_members)]
    if with_model:
        jobs += [_Job(-1, s) for s in range(recipe.members)]
    made = _trained(images, fold, recipe, jobs, build, workers, progress, stop)
    judged = []
    for image, left_out in zip(images, fold, strict=True):
        check(stop)
        nets = [made[_Job(int(left_out), s)] for s in range(recipe.fold_members)]
        judged.append(judged_by(nets, image, recipe))
    if not with_model:
        return judged, []
    own = [job for job in jobs if job.fold < 0] if recipe.members else _of_all_folds(recipe)
    return judged, [made[job] for job in own[:MAX_NETWORKS]]


def _of_all_folds(recipe: AtomRecipe) -> list[_Job]:
    """Without networks of its own, the model is the average of those of the folds: the first of
    these are of all folds and of all kinds."""
    return [
        _Job(fold, (fold + turn) % recipe.fold_members)
        for turn in range(recipe.fold_members)
        for fold in range(recipe.folds)
    ]


def judged_by(networks: Sequence[AtomNet], image: LabelledImage, recipe: AtomRecipe) -> FoldScores:
    """Candidates of an image by networks that have not learnt from it, in all eight views."""
    card = AtomCard(
        "judge",
        members=len(networks),
        width=recipe.settings.width,
        views=max(1, 8 // len(networks)),
        scales=recipe.scales,
        floor=0.0,
    )
    model = AtomModel(card, packed(networks), torch.device("cpu"))
    points, score = model.candidates(image.pixels, image.pixel_size_nm)
    likely = score > _MIN_SCORE
    return judge(image, points[likely], score[likely], recipe.tolerance_nm)


def fold_scores(
    images: Sequence[LabelledImage],
    judged: Sequence[FoldScores],
    calibration: Sequence[operating.Calibration],
) -> dict[str, Any]:
    """Scores by set; each image at the operating point that its calibration gives."""
    scores = {}
    for source in sorted({i.source for i in images}):
        rows = [k for k, i in enumerate(images) if i.source == source]
        thresholds = [threshold_of(calibration[k], judged[k]) for k in rows]
        scores[source] = f1_of(
            [judged[k] for k in rows], thresholds, [calibration[k] for k in rows]
        )
    return scores


def _trained(
    images: Sequence[LabelledImage],
    fold: np.ndarray,
    recipe: AtomRecipe,
    jobs: Sequence[_Job],
    build: Path | None,
    workers: int,
    progress: Progress | None,
    stop: Stop | None,
) -> dict[_Job, AtomNet]:
    """The networks of the jobs, those that are in ``build`` from there."""
    made: dict[_Job, AtomNet] = {}
    missing = []
    for job in jobs:
        kept = None if build is None else build / f"{job.name}.safetensors"
        if kept is not None and kept.is_file():
            made[job] = AtomNet(width=recipe.settings.width)
            made[job].load_state_dict(load_file(kept))
        else:
            missing.append(job)
    steps = recipe.settings.steps
    tasks = [
        (
            [i for i, f in zip(images, fold, strict=True) if f != job.fold],
            recipe.network(job.k),
        )
        for job in missing
    ]
    if workers > 1 and len(missing) > 1:
        with spawn_pool(workers) as processes:
            states = processes.map(_state_of, tasks)
            for n, (job, state) in enumerate(zip(missing, states, strict=True)):
                made[job] = _kept(state, job, recipe, build)
                report(progress, (n + 1) * steps, len(missing) * steps, "Training networks")
                check(stop)
        return made
    for n, (job, task) in enumerate(zip(missing, tasks, strict=True)):

        def step(done: int, _total: int, _message: str, before: int = n * steps) -> None:
            words = f"Training network {before // steps + 1} of {len(missing)}"
            report(progress, before + done, len(missing) * steps, words)

        network = train_network(*task, progress=step, stop=stop)
        made[job] = _kept(network.state_dict(), job, recipe, build)
    return made


def _state_of(task: tuple[list[LabelledImage], AtomTrainingSettings]) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    return train_network(*task).state_dict()


def _kept(
    state: Mapping[str, Tensor], job: _Job, recipe: AtomRecipe, build: Path | None
) -> AtomNet:
    if build is not None:
        build.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in state.items()}
        save_file(weights, build / f"{job.name}.safetensors")
    network = AtomNet(width=recipe.settings.width)
    network.load_state_dict(state)
    return network.eval()
