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
from ..core.progress import Progress, Stop, check, report, timed
from ..models.analysis import Analysis
from ..pipeline.adaptation.fine_tuning import adapt
from ..pipeline.adaptation.settings import AdaptSettings
from ..training.data import PatchSet
from .answers import answer_table, interval_table
from .data import GROUPS, SELECTED, SHIFTED, ValidationData, ValidationImage, training_set
from .methods import METHODS, ComparedMethod, Fit, FittedModel, Training, label_images
from .request import ValidationRequest


# ---- recovery from shifted conditions: adaptation on the session and on each new image alone
@dataclass(frozen=True, eq=False)
class Adapted:
    """A model after an adaptation."""

    # the adapted model, or the model as it was if the adaptation was not accepted
    model: FittedModel
    # ``accepted``, ``reasons``, ``pseudo_labels``, how many of these are of clusters of known class
    # (``pseudo_labels_known``) and are right (``pseudo_labels_right``), and ``seconds``
    facts: dict[str, Any]


def adapt_model(
    model: FittedModel,
    analyses: Sequence[Analysis],  # images under the new conditions
    pseudo_labels: str,  # "combined" or "diameter"
    seed: int,
    truth: Sequence[np.ndarray] = (),
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Adapted:
    """Adapt a model to classified images without their labels."""
    from ..models.files import hashed

    settings = AdaptSettings(pseudo_label_method=pseudo_labels, seed=seed)
    classifier = model.classifier()
    started = time.perf_counter()
    found = adapt(analyses, model.card, model.tensors, settings, classifier.device, progress, stop)
    facts = {
        "accepted": found.accepted,
        "reasons": list(found.reasons),
        "pseudo_labels": found.pseudo_labels,
        **_count_right(found.pseudo_label_rows, truth, model.card.classes),
        "seconds": round(time.perf_counter() - started, 2),
    }
    if not found.accepted:
        return Adapted(model, facts)
    return Adapted(
        FittedModel(hashed(found.card, found.tensors), found.tensors, model.device), facts
    )


def _count_right(
    labels: Sequence[np.ndarray], truth: Sequence[np.ndarray], classes: Sequence[str]
) -> dict[str, int]:
    """Count the pseudo-labels of clusters of known class, and those that are right."""
    known, right = 0, 0
    for label, true in zip(labels, truth, strict=False):  # there may be no truth
        rows = (label >= 0) & (true != "")
        known += int(rows.sum())
        right += int((np.array(classes, object)[label[rows]] == true[rows]).sum())
    return {"pseudo_labels_known": known, "pseudo_labels_right": right}


def adapt_each_image(
    model: FittedModel,
    images: Sequence[ValidationImage],  # images under the new conditions
    method: ComparedMethod,
    pseudo_labels: str,
    seed: int,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[dict[str, Any]]:
    """Adapt a model to each image alone, and score its answers before and after."""
    rows = []
    for i, image in enumerate(images):
        check(stop)
        report(progress, i, len(images), f"Adapting to {image.name} alone")
        before = label_images([image.detection], model)
        adapted = adapt_model(model, before, pseudo_labels, seed, [image.truth])
        after = label_images([image.detection], adapted.model)
        sides = [answer_table(method, [image], side) for side in (before, after)]
        rows.append({"image": image.name, **adapted.facts, **_compare(*sides)})
    return rows


def _compare(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for name, answers in (("before", before), ("after", after)):
        labelled = answers[answers["predicted"] != ""]
        scored = labelled[labelled["true"] != ""]
        shares = labelled["predicted"].value_counts(normalize=True)
        right = scored["true"] == scored["predicted"]
        out[f"accuracy_{name}"] = float(right.mean()) if len(scored) else None
        out[f"most_called_share_{name}"] = float(shares.iloc[0]) if len(shares) else None
    return out


# ---- the map
def place_clusters(
    images: Sequence[ValidationImage], analyses: Sequence[Analysis], model: FittedModel
) -> pd.DataFrame:
    """Place the clusters of known class in the map of a model."""
    from ..models.embedding import place

    classifier = model.classifier()
    parts = []
    for image, analysis in zip(images, analyses, strict=True):
        rows = np.flatnonzero(image.counts & (image.truth != ""))
        x, y = place(analysis.embedding, classifier).astype(float)[rows].T
        own = analysis.table.iloc[rows][["image", "cluster_id", "confidence"]]
        parts.append(own.assign(label=image.truth[rows], umap_1=x, umap_2=y))
    return pd.concat(parts, ignore_index=True)


def separation(images: Sequence[ValidationImage], analyses: Sequence[Analysis]) -> float | None:
    """Compute the mean silhouette of the true classes in the embedding.

    References
    ----------
    .. [1] P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of
       cluster analysis", J. Comput. Appl. Math. 20, 53 (1987).
    """
    from sklearn.metrics import silhouette_score

    embedding, label = [], []
    for image, analysis in zip(images, analyses, strict=True):
        rows = image.counts & (image.truth != "") & analysis.is_embedded
        embedding.append(analysis.embedding[rows])
        label.append(image.truth[rows])
    labels = np.concatenate(label)
    n_classes = len(set(labels))
    if not 2 <= n_classes < len(labels):
        return None
    return float(silhouette_score(np.concatenate(embedding), labels))


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
        with timed(self.seconds, step):
            return function(*arguments)

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
    from ..models.class_maps.class_average_figure import draw
    from ..models.class_maps.class_averages import of_analyses
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
