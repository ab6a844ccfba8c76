"""Adapting a model to new imaging conditions, without labels or with a few.

The intensities and diameters of the classes are re-estimated for the new blur and sampling.
Pseudo-labels are then taken where physics leaves little doubt: where the diameter lies in a range
that only one class has, and where the locked mixture of intensities and diameters is sure. A
person's corrections count as certain. The last convolutions, the head and the scales of the
normalisations are tuned on them, class-balanced, while patches of the training are replayed. What
is tuned is kept only if it helps on pseudo-labels and corrections that were left out, forgets
nothing, and does not collapse; otherwise the model stays what it was, and the reason is given.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from .._version import __version__
from ..core import cluster_table as tables
from ..core.errors import ModelError
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, report
from ..core.scale_reference import ScaleReference
from ..models.analysis import Analysis
from ..models.classifier import Classifier, Prediction
from ..models.domain_shift import ROOM, Shift, compare, domain_shift
from ..models.estimators import Measured, constrained_mixture, diameter
from ..models.intensity_scale import SURE, fit_image, refined, usable
from ..models.label_assignment import assign_labels
from ..models.network import AtomicityNet
from ..models.out_of_distribution import QUANTILE, features, margins, placed

MIN_PSEUDO_LABELS = 10
MAX_OUTSIDE = 0.5
NEAREST = 5
"""Old references that tell where a new one lies in the map."""
MIN_AGREEMENT = 0.6
"""Of what was left out; below it there is nothing in common to learn."""


@dataclass(frozen=True)
class AdaptSettings:
    """How a model is adapted.

    Parameters
    ----------
    posterior
        Least probability of a pseudo-label.
    held_out
        Share of pseudo-labels and corrections that decide whether the result is kept.
    steps, batch_size, learning_rate
        Of AdamW; half of every batch is replayed.
    scale_jitter
        Standard deviation of the logarithm by which the raw channel is misjudged on purpose.
    worst_forgetting
        Most that the accuracy on replayed patches of the training may fall.
    seed
        Of all chance.
    """

    posterior: float = 0.95
    held_out: float = 0.25
    steps: int = 60
    batch_size: int = 48
    learning_rate: float = 1e-3
    scale_jitter: float = 0.04
    worst_forgetting: float = 0.01
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What came of an adaptation.

    Parameters
    ----------
    accepted
        Whether the model was changed.
    reasons
        Why, or why not, in words.
    card, tensors
        Of the model as it is now: the adapted one, or the one that it was.
    shift
        Of the conditions before; None if there were too few clusters to tell.
    pseudo_labels
        Class → number of clusters that were learnt from.
    corrections
        Number of a person's labels among them.
    checks
        Name → (before, after) of what decided.
    before, after
        The analyses, in order, as concluded by the model that was and the one that is.
    """

    accepted: bool
    reasons: tuple[str, ...]
    card: ModelCard
    tensors: dict[str, np.ndarray]
    shift: Shift | None
    pseudo_labels: dict[str, int]
    corrections: int
    checks: dict[str, tuple[float, float]]
    before: tuple[Analysis, ...]
    after: tuple[Analysis, ...]

    def summary(self) -> dict[str, Any]:
        """In a few words, ready for JSON."""
        return {
            "accepted": self.accepted,
            "reasons": list(self.reasons),
            "shift": None if self.shift is None else asdict(self.shift),
            "pseudo_labels": self.pseudo_labels,
            "corrections": self.corrections,
            "checks": {k: list(v) for k, v in self.checks.items()},
        }


def adapt(
    analyses: Sequence[Analysis],
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    settings: AdaptSettings | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Adaptation:
    """Fine-tune a model on the clusters of some images.

    Parameters
    ----------
    analyses
        Of images under the new conditions, classified by this model, their scales known. Labels
        that a person gave are in their tables.
    card, tensors
        The model, as `models.files.read_model` gives it.
    settings
        Of the fit.
    device
        Where to compute; the CPU if None.
    progress, stop
        Called at every step.

    Returns
    -------
    Adaptation
        Accepted or rolled back.

    Raises
    ------
    ModelError
        If the model has nothing to replay: it was made before models could be adapted.
    Cancelled
        If ``stop()`` says so.
    """
    settings = settings or AdaptSettings()
    device = device or torch.device("cpu")
    refuse_unadaptable(card, tensors)
    old = Classifier(card, tensors, device)
    before = tuple(reclassified(a, old) for a in analyses)
    shift = _shift(before, card, tensors)
    reference = refined([_of_classes(a.table) for a in before], _scale_of(card))
    seen_anew = [rescaled(a, reference) for a in before]
    steady = [not _jumped(a, b, reference) for a, b in zip(before, seen_anew, strict=True)]
    target = _target(seen_anew, replace(card, scale=reference), settings, steady)
    numbers = {c: int((target.label == i).sum()) for i, c in enumerate(card.classes)}

    def unchanged(*reasons: str, checks: dict[str, tuple[float, float]]) -> Adaptation:
        return Adaptation(
            False, reasons, card, tensors, shift, numbers, int(target.certain.sum()), checks,
            before, before,
        )  # fmt: skip

    named = (target.label >= 0).sum()
    if named < MIN_PSEUDO_LABELS or sum(n > 0 for n in numbers.values()) < 2:
        return unchanged(
            f"only {named} clusters of {sum(n > 0 for n in numbers.values())} classes are beyond "
            f"doubt; at least {MIN_PSEUDO_LABELS} of two are needed: correct some labels, or "
            "take more images",
            checks={},
        )
    split = _Split.drawn(target, tensors["replay.label"], settings)
    remembered = _replayed(old, tensors)
    was = replace(target, patches=_joined(before, card.patches.channels))
    at_first = _check(old, was, remembered, tensors, split)
    network = tuned(old.network, target, tensors, split, settings, device, progress, stop)
    reasons: tuple[str, ...] = ()
    checks: dict[str, tuple[float, float]] = {}
    for share in (1.0, 0.5, 0.25, 0.0):  # less of the change, if all of it forgets too much
        blended = _blended(old.network, network, share)
        candidate = _with_network(tensors, blended)
        new = Classifier(card, candidate, device)
        replayed = _replayed(new, tensors)
        found = _check(new, target, replayed, tensors, split)
        checks = {name: (at_first[name], found[name]) for name in found}
        reasons = _objections(checks, settings)
        if not reasons:
            break
    if reasons:
        return unchanged(*reasons, checks=checks)
    check(stop)
    candidate = _moved_references(old, candidate, remembered.embedding, replayed.embedding)
    card = replace(card, scale=reference)
    seen = [(a, new.predict(a.patches, symmetries=a.symmetries)) for a in seen_anew]
    candidate = _eased(card, candidate, seen, target)
    new_card = _described(card, candidate, numbers, target, settings, seen, replayed, share)
    new = Classifier(new_card, candidate, device)
    after = tuple(reclassified(a, new) for a in seen_anew)
    gained = tuple(
        f"of the {name}, {last:.0%} are met instead of {first:.0%}"
        if last > first
        else f"of the {name}, {last:.0%} are met as before, and with more confidence"
        for name, (first, last) in checks.items()
        if name.endswith("left out") and np.isfinite(last)
    )
    return Adaptation(
        True,
        gained,
        new_card, candidate, shift, numbers, int(target.certain.sum()), checks, before, after,
    )  # fmt: skip


def refuse_unadaptable(card: ModelCard, tensors: dict[str, np.ndarray]) -> None:
    """Say at once that a model can't be adapted.

    Raises
    ------
    ModelError
        If it has nothing to replay, or does not ask for the scale of an image.
    """
    known_scale = card.scale
    if "replay.label" not in tensors or known_scale is None:
        raise ModelError(
            f"{card.name!r} can't be adapted: it holds no patches of its training to replay",
            advice="Train it again with this version",
        )


def reclassified(analysis: Analysis, classifier: Classifier) -> Analysis:
    """The same clusters, patches and scale as another model of the same geometry sees them."""
    result = classifier.predict(analysis.patches, symmetries=analysis.symmetries)
    table = assign_labels(analysis.table, classifier, result, analysis.scale)
    return replace(
        analysis,
        table=table,
        embedding=result.embedding,
        class_maps=result.class_maps,
        parameters={**analysis.parameters, "model": classifier.card.provenance()},
    )


def rescaled(analysis: Analysis, reference: ScaleReference) -> Analysis:
    """The same image with its scale found by another reference, its raw patches in new atoms."""
    scale = fit_image(analysis.table, reference)
    patches = dict(analysis.patches)
    if "raw" in patches:
        was = 1.0 if analysis.scale is None else analysis.scale.intensity_per_atom
        patches["raw"] = (patches["raw"] * (was / scale.intensity_per_atom)).astype(np.float32)
    return replace(
        analysis,
        patches=patches,
        scale=scale,
        parameters={
            **analysis.parameters,
            "intensity_per_atom": scale.intensity_per_atom,
            "certainty_of_scale": scale.certainty,
        },
    )


def _scale_of(card: ModelCard) -> ScaleReference:
    if card.scale is None:
        raise ModelError(f"{card.name!r} has no scale")
    return card.scale


def _jumped(before: Analysis, after: Analysis, reference: ScaleReference) -> bool:
    """Whether another reference has put the scale of an image nearer to another class: one of the
    two is wrong then, and its clusters are not beyond doubt."""
    if before.scale is None or after.scale is None:
        return True
    change = abs(before.scale.shift[0, 0] - after.scale.shift[0, 0])
    return bool(change > np.diff(np.sort(reference.log_intensity)).min() / 2)


def _of_classes(table: pd.DataFrame) -> pd.DataFrame:
    """Without what is an aggregate or nothing."""
    return table[~_outside(table)]


def _outside(table: pd.DataFrame) -> np.ndarray:
    """Clusters (N,) that are of no class: by a person, or by the model.

    A model that says so of most of an image is taken to be wrong about the image: it is what an
    adaptation is there for.
    """
    given = table["label_corrected"]
    by_person = given.isin(tables.NON_CLASS_LABELS).to_numpy()
    by_model = ((given == "") & table["label_predicted"].isin(tables.NON_CLASS_LABELS)).to_numpy()
    return np.asarray(by_person | (by_model & (by_model.mean() < MAX_OUTSIDE)))


# ---- what to learn from


@dataclass(frozen=True, eq=False)
class Target:
    """Clusters of all images: patches, class indices (N,) (-1: none is sure), which of those (N,)
    a person gave, and of which (N,) the network is averaged over the symmetries."""

    patches: dict[str, np.ndarray]
    label: np.ndarray
    certain: np.ndarray
    averaged: np.ndarray


def pseudo_labels(known: Measured, posterior: float = 0.95) -> np.ndarray:
    """Class indices (N,) of the clusters of an image that physics leaves little doubt of, else -1.

    Either only one class has such a diameter, once the image's blur is taken off, and the locked
    mixture finds none likelier; or the mixture is sure of both the scale and the class.
    """
    label = np.full(len(known.table), -1)
    if known.scale is None or len(label) == 0:
        return label
    deblurred = known.table.assign(diameter_nm=known.diameter_nm * np.exp(-known.scale.shift[0, 1]))
    by_diameter = np.nan_to_num(diameter(replace(known, table=deblurred)))
    by_mixture = np.nan_to_num(constrained_mixture(known))
    with_shares = known.scale.probabilities(known.intensity, known.diameter_nm)
    with_shares = np.nan_to_num(np.where(usable(known.table)[:, None], with_shares, np.nan))
    best = with_shares.argmax(axis=1)
    rows = np.arange(len(label))
    sure = (with_shares[rows, best] >= posterior) & (known.scale.certainty >= SURE)
    alone = (by_diameter.max(axis=1) >= posterior) & (by_diameter.argmax(axis=1) == best)
    alone &= by_mixture[rows, best] >= 0.5
    label[sure | alone] = best[sure | alone]
    label[~usable(known.table)] = -1
    return label


def _target(
    analyses: Sequence[Analysis],
    card: ModelCard,
    settings: AdaptSettings,
    steady: Sequence[bool],
) -> Target:
    labels, certain = [], []
    index = {c: i for i, c in enumerate(card.classes)}
    for analysis, is_steady in zip(analyses, steady, strict=True):
        known = _measured(analysis, card)
        label = pseudo_labels(known, settings.posterior)
        if not is_steady:
            label[:] = -1
        # what is an aggregate or no cluster at all must teach nothing
        label[_outside(analysis.table)] = -1
        given = analysis.table["label_corrected"]
        corrected = given.map(index).fillna(-1).to_numpy(int)
        label = np.where(corrected >= 0, corrected, np.where(given != "", -1, label))
        labels.append(label)
        certain.append(corrected >= 0)
    return Target(
        _joined(analyses, card.patches.channels),
        np.concatenate(labels),
        np.concatenate(certain),
        np.repeat([a.symmetries for a in analyses], [len(a.table) for a in analyses]),
    )


def _joined(analyses: Sequence[Analysis], channels: Sequence[str]) -> dict[str, np.ndarray]:
    return {c: np.concatenate([a.patches[c] for a in analyses]) for c in channels}


def _measured(analysis: Analysis, card: ModelCard) -> Measured:
    p = analysis.table[tables.probability_columns(card.classes)].to_numpy(float)
    return Measured(analysis.table, card, analysis.scale, p)


def _shift(
    analyses: Sequence[Analysis], card: ModelCard, tensors: dict[str, np.ndarray]
) -> Shift | None:
    names = tables.probability_columns(card.classes)
    p = np.concatenate([a.table[names].to_numpy(float) for a in analyses])
    found = compare(
        np.concatenate([a.embedding for a in analyses]),
        np.nan_to_num(p, nan=-1).argmax(axis=1),
        _joined(analyses, card.patches.channels),
        tensors,
        card.patches.field_of_view_nm,
    )
    if found is None or card.drift_limit is None:
        return found
    differing = [bool(a.table["conditions_differ"].any()) for a in analyses]
    return replace(found, drifted=float(np.mean(differing)) > 0.5)


@dataclass(frozen=True, eq=False)
class _Split:
    """Rows of the target and of the replayed patches: to learn from, and to decide by."""

    learn: np.ndarray
    decide: np.ndarray
    replay: np.ndarray
    remember: np.ndarray

    @classmethod
    def drawn(cls, target: Target, replayed: np.ndarray, settings: AdaptSettings) -> _Split:
        rng = np.random.default_rng(settings.seed)
        decide = np.zeros(len(target.label), bool)
        for certain in (False, True):
            for i in np.unique(target.label[target.label >= 0]):
                own = np.flatnonzero((target.label == i) & (target.certain == certain))
                number = max(1, int(settings.held_out * len(own))) if len(own) > 1 else 0
                decide[rng.permutation(own)[:number]] = True
        remember = np.zeros(len(replayed), bool)
        for i in np.unique(replayed):
            own = np.flatnonzero(replayed == i)
            remember[rng.permutation(own)[: len(own) // 2]] = True
        named = target.label >= 0
        return cls(
            np.flatnonzero(named & ~decide),
            np.flatnonzero(decide),
            np.flatnonzero(~remember),
            np.flatnonzero(remember),
        )


# ---- learning


def tuned(
    network: AtomicityNet,
    target: Target,
    tensors: dict[str, np.ndarray],
    split: _Split,
    settings: AdaptSettings,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomicityNet:
    """A copy of a network, fine-tuned; the average of its weights over the second half."""
    from ..training.augmentation import augmented

    network = copy.deepcopy(network).to(device)
    network.dropout.p = 0.0  # so that chance is all in the generators
    chosen = _trainable(network)
    optimiser = torch.optim.AdamW(chosen, settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=0.2
    )
    generator = torch.Generator().manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    channels = network.channels
    new_label, old_label = target.label, tensors["replay.label"]
    average = [p.detach().clone() for p in chosen]
    network.train()
    half = settings.batch_size // 2
    for step in range(settings.steps):
        check(stop)
        report(progress, step, settings.steps, "Adapting")
        new = _drawn(new_label, split.learn, half, rng)
        replayed = _drawn(old_label, split.replay, settings.batch_size - half, rng)
        batch = {
            c: torch.from_numpy(
                np.concatenate([target.patches[c][new], tensors[f"replay.{c}"][replayed]]).astype(
                    np.float32
                )
            )
            for c in channels
        }
        batch = augmented(batch, settings.scale_jitter, generator)
        own = torch.from_numpy(np.concatenate([new_label[new], old_label[replayed]])).to(device)
        logits = network({c: x.to(device) for c, x in batch.items()}).logits
        loss = functional.cross_entropy(logits, own, label_smoothing=0.03)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(chosen, 1.0)
        optimiser.step()
        schedule.step()
        late = step - settings.steps // 2
        with torch.no_grad():
            for a, p in zip(average, chosen, strict=True):
                a.lerp_(p, 1.0 if late <= 0 else 1 / (1 + late))
    with torch.no_grad():
        for a, p in zip(average, chosen, strict=True):
            p.copy_(a)
    report(progress, settings.steps, settings.steps, "Adapting")
    return network.eval()


def _trainable(network: AtomicityNet) -> list[Tensor]:
    """Last convolutions, normalisation scales and the head; the rest is frozen."""
    network.requires_grad_(False)
    chosen: list[Tensor] = [*network.head.parameters()]
    for branch in network.branches.values():
        chosen += [*branch.last.parameters()]  # type: ignore[union-attr]
        for module in branch.modules():
            if isinstance(module, nn.GroupNorm):
                chosen += [*module.parameters()]
    for parameter in chosen:
        parameter.requires_grad_(True)
    return chosen


def _drawn(label: np.ndarray, rows: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows with replacement, every class that is there equally often."""
    classes = np.unique(label[rows])
    wanted = rng.permutation(np.resize(rng.permutation(classes), n))
    of_class = {i: rows[label[rows] == i] for i in classes}
    return np.array([rng.choice(of_class[i]) for i in wanted])


def _blended(old: AtomicityNet, new: AtomicityNet, share: float) -> AtomicityNet:
    """A network between two, ``share`` of the way to the new one."""
    out = copy.deepcopy(new)
    with torch.no_grad():
        for own, other in zip(out.parameters(), old.parameters(), strict=True):
            own.lerp_(other, 1 - share)
    return out


def _with_network(tensors: dict[str, np.ndarray], network: AtomicityNet) -> dict[str, np.ndarray]:
    """The tensors with other weights."""
    state = network.state_dict()
    return {**tensors, **{f"network.{k}": v.float().cpu().numpy() for k, v in state.items()}}


def _replayed(classifier: Classifier, tensors: dict[str, np.ndarray]) -> Prediction:
    """What a classifier says of the patches of the training, without symmetries: the model's
    references and limits were found so, and only before and after are compared."""
    return classifier.predict(
        {c: tensors[f"replay.{c}"].astype(np.float32) for c in classifier.network.channels}
    )


# ---- keeping or rolling back


def _check(
    classifier: Classifier,
    target: Target,
    replayed: Prediction,
    tensors: dict[str, np.ndarray],
    split: _Split,
) -> dict[str, float]:
    """What decides, of one model with the patches as it sees them."""
    p = _probabilities(classifier, target)
    best = p.argmax(axis=1)
    there = replayed.probabilities.argmax(axis=1)
    right = best == target.label
    decide, certain = split.decide, target.certain
    share = np.bincount(best, minlength=p.shape[1]) / max(1, len(best))
    surprise = -np.log(np.clip(p[decide, target.label[decide]], 1e-6, 1))
    return {
        "pseudo-labels left out": _mean(right[decide[~certain[decide]]]),
        "corrections left out": _mean(right[decide[certain[decide]]]),
        "surprise (-ln p)": _mean(surprise),
        "training remembered": _mean((there == tensors["replay.label"])[split.remember]),
        "largest share of a class": float(share.max()),
    }


def _probabilities(classifier: Classifier, target: Target) -> np.ndarray:
    """(N, C) of the clusters, averaged over the symmetries where people will see that."""
    p = np.empty((len(target.label), len(classifier.card.classes)))
    for averaged in np.unique(target.averaged):
        rows = target.averaged == averaged
        own = {channel: patches[rows] for channel, patches in target.patches.items()}
        p[rows] = classifier.predict(own, symmetries=bool(averaged)).probabilities
    return p


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _objections(checks: dict[str, tuple[float, float]], settings: AdaptSettings) -> tuple[str, ...]:
    """Why a tuned network is not kept; nothing if it is."""
    out = []
    for name in ("pseudo-labels left out", "corrections left out"):
        before, after = checks[name]
        if after < before:
            out.append(f"of the {name}, {after:.0%} would be met instead of {before:.0%}")
        elif after < MIN_AGREEMENT:
            out.append(f"of the {name}, only {after:.0%} would be met: they contradict each other")
    before, after = checks["surprise (-ln p)"]
    if not np.isfinite(after):
        return ("nothing could be left out to decide by: there is too little to learn from",)
    if not out and after >= before:
        out.append("what was left out would be met with no more confidence than before")
    before, after = checks["training remembered"]
    if after < before - settings.worst_forgetting:
        out.append(
            f"under the conditions of the training, {after:.1%} would be right instead of "
            f"{before:.1%}"
        )
    before, after = checks["largest share of a class"]
    if after > max(0.9, before + 0.2):
        out.append(f"{after:.0%} of the clusters would be given one class")
    return tuple(out)


# ---- the adapted model


def _moved_references(
    old: Classifier, tensors: dict[str, np.ndarray], was: np.ndarray, now: np.ndarray
) -> dict[str, np.ndarray]:
    """Class means and references of the embedding, by the replayed patches before and after.

    In the map they lie where their nearest old references lie, so that the places of clusters
    before and after can be compared.

    Parameters
    ----------
    old
        The model that was.
    tensors
        Of the model that is, its references still the old ones.
    was, now
        (N, D) embeddings of the replayed patches.
    """
    from sklearn.neighbors import KNeighborsRegressor

    label = tensors["replay.label"]
    mean = tensors["ood.mean"].copy()
    for i in np.unique(label):
        mean[i] += (now[label == i] - was[label == i]).mean(axis=0)
    tensors = {**tensors, "ood.mean": mean}
    if len(old.reference_map) < NEAREST:
        return tensors
    nearest = KNeighborsRegressor(NEAREST, weights="distance")
    nearest.fit(old.reference_embedding.astype(np.float32), old.reference_map)
    return {
        **tensors,
        "reference.embedding": now.astype(np.float16),
        "reference.label": label,
        "reference.map": nearest.predict(was).astype(np.float32),
    }


def _eased(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    seen: Sequence[tuple[Analysis, Prediction]],
    target: Target,
) -> dict[str, np.ndarray]:
    """The second network of `models.out_of_distribution` with its limit moved along: what was
    learnt from as a class must not be called unknown."""
    if "outside.axes" not in tensors:
        return tensors
    found = []
    for analysis, result in seen:
        known = Measured(analysis.table, card, analysis.scale, result.probabilities)
        found.append(margins(features(known, placed(result.embedding, tensors), tensors), tensors))
    margin = np.concatenate(found)[target.label >= 0]
    bias = tensors["outside.output.bias"].copy()
    bias[0] += max(0.0, float(np.quantile(margin, 0.99)))
    return {**tensors, "outside.output.bias": bias}


def _described(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    numbers: dict[str, int],
    target: Target,
    settings: AdaptSettings,
    seen: Sequence[tuple[Analysis, Prediction]],
    replayed: Prediction,
    share: float,
) -> ModelCard:
    """The card of an adapted model; nothing that both conditions know is turned away."""
    here = np.concatenate([result.embedding for _, result in seen])
    embedding = np.concatenate([here[target.label >= 0], replayed.embedding])
    distance = placed(embedding, tensors).to_classes.min(axis=1)
    record = {
        "from": card.model_id,
        "images": [{"image": a.micrograph.name, "sha256": a.micrograph.sha256} for a, _ in seen],
        "pseudo_labels": numbers,
        "corrections": int(target.certain.sum()),
        "share_of_change": share,
        **asdict(settings),
    }
    return replace(
        card,
        ood_limit=max(card.ood_limit, float(np.quantile(distance, QUANTILE))),
        drift_limit=_drift_limit(card, seen, tensors),
        description=f"{card.description} Adapted to {len(seen)} images.",
        limits=f"{card.limits} Adapted: calibration and scores are those of {card.name}.".strip(),
        data={**card.data, "adaptation": record},
        version=__version__,
    )


def _drift_limit(
    card: ModelCard,
    seen: Sequence[tuple[Analysis, Prediction]],
    tensors: dict[str, np.ndarray],
) -> float | None:
    """What the images drift now is no shift any more."""
    if card.drift_limit is None:
        return None
    found = [card.drift_limit]
    for analysis, result in seen:
        label = np.nan_to_num(result.probabilities, nan=-1).argmax(axis=1)
        ours = ~analysis.table["touches_border"].to_numpy(bool)
        found.append(ROOM * domain_shift(result.embedding[ours], label[ours], tensors))
    return float(np.nanmax(found))
