"""Cross-validation: folds, the networks trained without each, and their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from ...atoms.finding.card import AtomCard
from ...atoms.finding.finder import AtomModel, quantize_weights, resample_image
from ...atoms.finding.network import AtomNet
from ...core.devices import multiplies_bfloat16
from ...core.processes import spawn_pool
from ...core.progress import Progress, Stop, check, report
from ..fit import Trainer
from .evaluation import FoldScores, match_to_marks
from .examples import TrainingExample, make_example, simulate_field_of_atoms
from .labelled import LabelledImage
from .settings import AtomRecipe, AtomTrainingSettings

# ---- the fit of one network
FIELD_PX = 288
"""Edge of a simulated field, at the common sampling."""
_FIELDS = 12


def train_network(
    images: Sequence[LabelledImage],
    settings: AtomTrainingSettings,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomNet:
    """Fit a network and return the running average of its weights.

    Parameters
    ----------
    images : sequence of LabelledImage
        Labelled images; each is drawn in proportion to its area at the common sampling.
    settings : AtomTrainingSettings
        Settings of the fit.
    progress, stop : callable, optional
        Called between steps.

    Returns
    -------
    AtomNet
        The fitted network.

    Raises
    ------
    Cancelled
        If ``stop()`` is true.
    """
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    pool = _ExamplePool(images, settings, rng)
    network = AtomNet(pool.n_channels, settings.width, settings.dropout)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AtomNet(pool.n_channels, settings.width, settings.dropout)
    average.load_state_dict(network.state_dict())
    trainer = Trainer(
        network,
        average,
        network.parameters(),
        settings.learning_rate,
        total_steps=settings.steps,
        warmup=0.1,
        weight_decay=settings.weight_decay,
        progress=progress,
        stop=stop,
    )
    half = multiplies_bfloat16(torch.device("cpu"))
    for step in trainer.steps(0, settings.steps):
        pool.renew(step)
        x, y, weight = _batch(pool.draw(), settings.crop_px, rng)
        network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network(x.to(memory_format=torch.channels_last))
        entropy = functional.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
        loss = (entropy * weight).sum() / weight.sum()
        trainer.update(loss, min(settings.averaging, (1 + step) / (10 + step)))
    return average.eval()


class _ExamplePool:
    """Examples from which crops are drawn: one of each image, and some simulated fields."""

    def __init__(
        self,
        images: Sequence[LabelledImage],
        settings: AtomTrainingSettings,
        rng: np.random.Generator,
    ) -> None:
        self._settings, self._rng = settings, rng
        self._images: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for labelled in images:
            image, factor = resample_image(labelled.pixels, labelled.pixel_size_nm)
            points, certainty = labelled.learnt
            self._images.append((image, (points + 0.5) * factor - 0.5, certainty))
        area = np.array([float(image.size) for image, *_ in self._images])
        self._share = area / area.sum()
        self._examples = [self._vary(i) for i in range(len(self._images))]
        n_fields = _FIELDS if settings.simulated > 0 else 0
        self._fields = [_field_example(settings, rng) for _ in range(n_fields)]

    @property
    def n_channels(self) -> int:
        """Number of channels of an example."""
        return self._examples[0].channels.shape[0]

    def renew(self, step: int) -> None:
        """Vary one image again, and sometimes a simulated field, if it is time at this step."""
        settings, rng = self._settings, self._rng
        if step % settings.renew:
            return
        i = int(rng.choice(len(self._images), p=self._share))
        self._examples[i] = self._vary(i)
        if self._fields and step % (8 * settings.renew) == 0:
            self._fields[int(rng.integers(len(self._fields)))] = _field_example(settings, rng)

    def _vary(self, i: int) -> TrainingExample:
        image, points, certainty = self._images[i]
        return make_example(image, points, self._settings, self._rng, certainty)

    def draw(self) -> list[TrainingExample]:
        """Draw the examples of a batch, images in proportion to their area."""
        rng = self._rng
        return [
            self._fields[int(rng.integers(len(self._fields)))]
            if rng.random() < self._settings.simulated
            else self._examples[int(rng.choice(len(self._examples), p=self._share))]
            for _ in range(self._settings.batch)
        ]


def _field_example(settings: AtomTrainingSettings, rng: np.random.Generator) -> TrainingExample:
    """Return a simulated field; its conditions are random already, so that few are varied."""
    field = simulate_field_of_atoms(FIELD_PX, rng)
    return make_example(*field, replace(settings, strength=0.3), rng)


def _batch(
    examples: Sequence[TrainingExample], size: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a crop of each example in a random symmetry of the square."""
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for example in examples:
        shape = example.target.shape
        top, left = (int(rng.integers(0, max(1, n - size + 1))) for n in shape)
        window = np.s_[..., top : top + size, left : left + size]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        arrays = (example.channels, example.target, example.weight)
        for part, array in zip(parts, arrays, strict=True):
            cut = array[window]
            missing = [max(0, size - n) for n in cut.shape[-2:]]
            if any(missing):
                pad = [(0, 0)] * (cut.ndim - 2) + [(0, missing[0]), (0, missing[1])]
                cut = np.pad(cut, pad)
            cut = np.rot90(cut, turns, (-2, -1))
            part.append(cut[..., ::-1] if flip else cut)
    x, y, w = (torch.from_numpy(np.stack(p).astype(np.float32)) for p in parts)
    return x, y, w


_MIN_SCORE = -6.0
MAX_NETWORKS = 9
"""Of a model: so many fit into 3 MB."""


@dataclass(frozen=True)
class _Job:
    """A network to train: without a fold, or on all images (-1)."""

    fold: int
    k: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{'all' if self.fold < 0 else f'without-{self.fold}'}-network-{self.k}"


def assign_folds(images: Sequence[LabelledImage], n_folds: int, seed: int = 0) -> np.ndarray:
    """Assign images to folds: groups stay together, sets are spread evenly.

    Parameters
    ----------
    images : sequence of LabelledImage
        The images.
    n_folds : int
        Number of folds.
    seed : int, optional
        Seed of the order of the groups.

    Returns
    -------
    ndarray of shape (N,)
        Fold of each image.
    """
    rng = np.random.default_rng(seed)
    fold = np.zeros(len(images), int)
    for source in sorted({i.source for i in images}):
        load_of = np.zeros(n_folds)
        groups = sorted({i.group for i in images if i.source == source})
        size = {g: sum(i.group == g and i.source == source for i in images) for g in groups}
        order = rng.permutation(len(groups))
        for group in sorted((groups[k] for k in order), key=lambda g: -size[g]):
            least = np.flatnonzero(load_of == load_of.min())
            chosen = int(rng.choice(least))
            load_of[chosen] += size[group]
            for row, image in enumerate(images):
                if image.source == source and image.group == group:
                    fold[row] = chosen
    return fold


def predict_folds(
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
    """Train the networks of all folds and predict each image by those that were not trained on it.

    Parameters
    ----------
    images : sequence of LabelledImage
        The images.
    fold : ndarray of shape (N,)
        Fold of each image.
    recipe : AtomRecipe
        Recipe of the model.
    build : Path, optional
        Folder that keeps trained networks; those in it are not trained again.
    workers : int, optional
        Number of processes.
    with_model : bool, optional
        Whether to train the networks of the model, too.
    progress, stop : callable, optional
        Called between steps.

    Returns
    -------
    predictions : list of FoldScores
        For each image, by the networks without its fold.
    networks : list of AtomNet
        Networks of the model; empty unless ``with_model``.

    Raises
    ------
    Cancelled
        If ``stop()`` is true.
    """
    jobs = [_Job(f, s) for f in range(recipe.folds) for s in range(recipe.fold_members)]
    if with_model:
        jobs += [_Job(-1, s) for s in range(recipe.members)]
    made = _train_networks(images, fold, recipe, jobs, build, workers, progress, stop)
    judged = []
    for image, left_out in zip(images, fold, strict=True):
        check(stop)
        nets = [made[_Job(int(left_out), s)] for s in range(recipe.fold_members)]
        judged.append(predict_held_out(nets, image, recipe))
    if not with_model:
        return judged, []
    own = [job for job in jobs if job.fold < 0] if recipe.members else _fold_jobs(recipe)
    return judged, [made[job] for job in own[:MAX_NETWORKS]]


def _fold_jobs(recipe: AtomRecipe) -> list[_Job]:
    """Return the networks of the folds, ordered so that the first are of all folds and kinds."""
    return [
        _Job(fold, (fold + turn) % recipe.fold_members)
        for turn in range(recipe.fold_members)
        for fold in range(recipe.folds)
    ]


def predict_held_out(
    networks: Sequence[AtomNet], image: LabelledImage, recipe: AtomRecipe
) -> FoldScores:
    """Find the candidates of an image by networks that were not trained on it, in all eight views.

    Parameters
    ----------
    networks : sequence of AtomNet
        Networks whose scores are averaged.
    image : LabelledImage
        Image with its marks.
    recipe : AtomRecipe
        Recipe of the model.

    Returns
    -------
    FoldScores
        Candidates, and which of them have a mark.
    """
    card = AtomCard(
        "judge",
        members=len(networks),
        width=recipe.settings.width,
        views=max(1, 8 // len(networks)),
        scales=recipe.scales,
        floor=0.0,
    )
    model = AtomModel(card, quantize_weights(networks), torch.device("cpu"))
    points, score = model.candidates(image.pixels, image.pixel_size_nm)
    likely = score > _MIN_SCORE
    return match_to_marks(image, points[likely], score[likely], recipe.tolerance_nm)


def _train_networks(
    images: Sequence[LabelledImage],
    fold: np.ndarray,
    recipe: AtomRecipe,
    jobs: Sequence[_Job],
    build: Path | None,
    workers: int,
    progress: Progress | None,
    stop: Stop | None,
) -> dict[_Job, AtomNet]:
    """Return the networks of the jobs, from ``build`` if they are there, else trained."""
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
            states = processes.map(_train_state, tasks)
            for n, (job, state) in enumerate(zip(missing, states, strict=True)):
                made[job] = _keep_network(state, job, recipe, build)
                report(progress, (n + 1) * steps, len(missing) * steps, "Training networks")
                check(stop)
        return made
    for n, (job, task) in enumerate(zip(missing, tasks, strict=True)):

        def _report_step(done: int, _total: int, _message: str, before: int = n * steps) -> None:
            words = f"Training network {before // steps + 1} of {len(missing)}"
            report(progress, before + done, len(missing) * steps, words)

        network = train_network(*task, progress=_report_step, stop=stop)
        made[job] = _keep_network(network.state_dict(), job, recipe, build)
    return made


def _train_state(task: tuple[list[LabelledImage], AtomTrainingSettings]) -> dict[str, Tensor]:
    """Train a network in a process of its own and return its state."""
    torch.set_num_threads(1)
    return train_network(*task).state_dict()


def _keep_network(
    state: Mapping[str, Tensor], job: _Job, recipe: AtomRecipe, build: Path | None
) -> AtomNet:
    """Return a network with a state, and write it to ``build``."""
    if build is not None:
        build.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in state.items()}
        save_file(weights, build / f"{job.name}.safetensors")
    network = AtomNet(width=recipe.settings.width)
    network.load_state_dict(state)
    return network.eval()
