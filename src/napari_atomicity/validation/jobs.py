"""One run of a fit on one part of the images and one seed: its models, answers and adaptation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import AtomicityError
from ..core.progress import Progress, Stop, check
from ..models.analysis import Analysis
from ..training.data import PatchSet
from .adapting import adapt_each_image, adapt_model, place_clusters, separation
from .answers import answer_table, interval_table
from .data import GROUPS, SELECTED, SHIFTED, ValidationData, ValidationImage, training_set
from .methods import METHODS, ComparedMethod, Fit, FittedModel, Training, label_images
from .request import ValidationRequest

N_CHANNELS_OF_DUAL = 2


@dataclass(frozen=True)
class FitJob:
    """A fit to all images but those of one part."""

    fit: Fit  # how the model is made
    # part of the size-selected images that is left out; None for a model that is not trained
    fold: int | None
    seed: int  # seed of the division and of the training
    # whether it is the first of its fit, of which maps, class maps and the adaptation to each image
    # alone are computed
    is_first: bool
    # number of training images of each class in a learning curve, 0 for a model that is not
    # trained. Training may refuse so few
    n_images: int | None = None

    @property
    def name(self) -> str:
        """Name of its file."""
        part = "all" if self.fold is None else f"fold{self.fold + 1}"
        return f"{self.fit.name}-{part}-seed{self.seed}"

    @property
    def size(self) -> float:
        """Size of the training set relative to that of other runs of its fit."""
        return 1.0

    def title(self, request: ValidationRequest) -> str:
        """Return the title in messages."""
        part = "" if self.fold is None else f", part {self.fold + 1} of {request.folds}"
        return f"{self.fit.title}{part}, seed {self.seed}"

    def training_rows(self, prepared: Prepared) -> list[int]:
        """Return which size-selected images the model is trained on."""
        return np.flatnonzero(prepared.folds[self.seed] != self.fold).tolist()

    def test_rows(self, prepared: Prepared) -> list[int]:
        """Return which size-selected images the model is tested on."""
        if self.fold is None:
            return list(range(len(prepared.parts)))
        return np.flatnonzero(prepared.folds[self.seed] == self.fold).tolist()


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all jobs share."""

    request: ValidationRequest
    data: ValidationData
    parts: Sequence[PatchSet]  # clusters of the size-selected images, from `data.cut_patches`
    folds: Mapping[int, np.ndarray]  # seed → part of each size-selected image
    methods: Sequence[ComparedMethod]
    figures: Path


def run_job(
    job: FitJob, prepared: Prepared, progress: Progress | None = None, stop: Stop | None = None
) -> dict[str, Any]:
    """Fit a model, and collect the answers of its methods, as columns for JSON."""
    return _JobRun(job, prepared, progress, stop).run()


@dataclass(eq=False)
class _JobRun:
    """A job while it runs."""

    job: FitJob
    prepared: Prepared
    progress: Progress | None
    stop: Stop | None
    seconds: dict[str, float] = field(default_factory=dict)
    answers: list[pd.DataFrame] = field(default_factory=list)
    intervals: list[pd.DataFrame] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Run all steps."""
        job = self.job
        about = {"fit": job.fit.name, "fold": job.fold, "seed": job.seed}
        if job.n_images is not None:
            about["images_per_class"] = job.n_images
        try:
            model = self._timed("training", self._fit)
        except AtomicityError as error:
            if job.n_images is None:
                raise
            return about | {"seconds": {}, "not_possible": str(error).rstrip(".")}
        groups = {name: self._images(name) for name in GROUPS}
        labelled = {
            name: self._timed("labels", self._label, images, model)
            for name, images in groups.items()
            if images
        }
        for name, analyses in labelled.items():
            self._collect(groups[name], analyses, adapted=False)
        adaptation = None
        if job.fit.adapt and groups[SHIFTED]:
            adaptation = self._adapt(model, groups[SHIFTED], labelled[SHIFTED])
        class_maps = []
        check(self.stop)
        if job.is_first and len(model.card.patches.channels) == N_CHANNELS_OF_DUAL:
            seen = [a for name, of in labelled.items() if name != SHIFTED for a in of]
            class_maps = average_class_maps(seen, job.fit.name, self.prepared.figures)
        return about | {
            "model": model.card.provenance(),
            "epochs": len(model.card.training.get("history", [])),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "answers": _columns(self.answers),
            "intervals": _columns(self.intervals),
            "adaptation": adaptation,
            "class_maps": class_maps,
        }

    def _timed(self, step: str, function: Any, *arguments: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments)
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started
        return result

    def _methods(self, adapted: bool) -> list[ComparedMethod]:
        # All of the fit, so that stored runs serve any choice of methods.
        own = [m for m in METHODS.values() if m.fit == self.job.fit.name]
        return [m for m in own if m.adapted == adapted]

    def _images(self, group: str) -> list[ValidationImage]:
        """Return the images of a group that the model was not trained on."""
        images = self.prepared.data.group(group)
        if group != SELECTED:
            return images
        return [images[row] for row in self.job.test_rows(self.prepared)]

    def _fit(self) -> FittedModel:
        request, data = self.prepared.request, self.prepared.data
        part = PatchSet(pd.DataFrame(), {}, {})
        if self.job.fit.trained:
            learnt = self.job.training_rows(self.prepared)
            images = data.group(SELECTED)
            part = training_set(
                [images[i] for i in learnt], [self.prepared.parts[i] for i in learnt]
            )
        with_map = self.job.is_first and bool(self.job.fit.adapt) and bool(data.group(SHIFTED))
        return self.job.fit.fit(
            Training(part, data.classes, request, self.job.seed, with_map, self.progress, self.stop)
        )

    def _label(self, images: Sequence[ValidationImage], model: FittedModel) -> list[Analysis]:
        return label_images([i.detection for i in images], model, self.progress, self.stop)

    def _collect(
        self, images: Sequence[ValidationImage], analyses: Sequence[Analysis], adapted: bool
    ) -> None:
        for method in self._methods(adapted):
            check(self.stop)
            self.answers.append(answer_table(method, images, analyses))
            if method.intervals and images[0].group != SELECTED:
                classes = self.prepared.data.classes
                self.intervals.append(interval_table(method, images, analyses, classes))

    def _adapt(
        self, model: FittedModel, images: list[ValidationImage], before: list[Analysis]
    ) -> dict[str, Any]:
        """Adapt to all shifted images together and, in the first job, to each alone."""
        kind, seed = self.job.fit.adapt, self.job.seed
        truth = [image.truth for image in images]
        adapted = self._timed(
            "adaptation", adapt_model, model, before, kind, seed, truth, self.progress, self.stop
        )
        after = self._timed("labels", self._label, images, adapted.model)
        self._collect(images, after, adapted=True)
        scores = {"before": separation(images, before), "after": separation(images, after)}
        found: dict[str, Any] = {"session": adapted.facts, "separation": scores}
        if not self.job.is_first:
            return found
        found["map"] = {
            "before": _columns([place_clusters(images, before, model)]),
            "after": _columns([place_clusters(images, after, adapted.model)]),
        }
        methods = self._methods(adapted=True)
        if methods:
            found["images"] = adapt_each_image(
                model, images, methods[-1], kind, seed, self.progress, self.stop
            )
        return found


def average_class_maps(
    analyses: Sequence[Analysis], name: str, figures: Path
) -> list[dict[str, Any]]:
    """Average the class maps by class and channel, and draw them."""
    from ..models.class_average_figure import draw
    from ..models.class_averages import of_analyses
    from ..reporting.charts import write_figure

    averages = of_analyses(analyses)
    if not averages.items:
        return []
    write_figure(draw(averages), figures / f"class-maps-{name}")
    table = averages.balances()
    rows = table[table["quantity"] == "class map"].drop(columns="quantity")
    return [{str(k): v for k, v in row.items()} for row in rows.assign(fit=name).to_dict("records")]


def _columns(parts: Sequence[pd.DataFrame]) -> dict[str, list[Any]]:
    """Return tables as columns for JSON; missing numbers are None."""
    if not parts:
        return {}
    table = pd.concat(parts, ignore_index=True).astype(object)
    return {
        str(name): values.where(values.notna(), None).tolist() for name, values in table.items()
    }
