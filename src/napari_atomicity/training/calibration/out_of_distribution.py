"""Training of the second network of `models.out_of_distribution`.

It detects clusters that belong to no class of the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional

from ...core.model_card import ModelCard
from ...models.estimators import class_sizes
from ...models.out_of_distribution import COMPONENTS, OUTCOMES, QUANTILE, features, margins, placed
from ..data import PatchSet
from .held_out import HeldOutPredictions, predict_images

HIDDEN = 64
MIN_EXAMPLES = 20
"""Examples of each outcome."""
STEPS = 3000
DROPPED = 0.3
FOLDS = 3
_FAR = 5.0


def can_fit_out_of_distribution(
    clusters: PatchSet,
    others: Sequence[PatchSet],  # sets with aggregates and unknown objects
    classes: Sequence[str],
) -> bool:
    """Return whether each outcome has enough examples, and the classes name their sizes."""
    if not others or class_sizes(classes) is None:
        return False
    truth = np.concatenate([part.table["truth"].to_numpy(object) for part in others])
    aggregates = int((truth == "aggregate").sum())
    unknown = int((~np.isin(truth, [*classes, "aggregate"])).sum())
    return min(len(clusters), aggregates, unknown) >= MIN_EXAMPLES


def fit_out_of_distribution(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    clusters: PatchSet,  # clusters of the classes, from held-out images; raw channel in counts
    # Sets of which the clusters with ``truth`` "aggregate" are aggregates, and those with a
    # ``truth`` that is no class are unknown. Clusters of the classes are left out.
    others: Sequence[PatchSet],
    device: torch.device,
    seed: int = 0,
) -> dict[str, np.ndarray]:  # the tensors with those of `models.out_of_distribution`
    """Fit the second network.

    Every outcome has the same weight, and among the unknown every set of ``others``. As with the
    distance, at most one in two hundred of the labelled clusters is rejected, on images that a fit
    was not trained on.
    """
    tensors = {k: v for k, v in tensors.items() if not k.startswith("outside.")}
    inside = predict_images(card, tensors, clusters, device)
    beyond = [predict_images(card, tensors, part, device) for part in others]
    white = np.concatenate([s.embedding[s.label >= 0] for s in inside])
    for images in beyond:
        white = np.concatenate([white, *(s.embedding[outcome(s) > 0] for s in images)])
    pca = PCA(COMPONENTS, random_state=seed).fit(white @ tensors["ood.whitening"])
    tensors["outside.centre"] = pca.mean_.astype(np.float32)
    tensors["outside.axes"] = pca.components_.T.astype(np.float32)

    x, y, group, fold = _examples([inside, *beyond], tensors)
    # a fit rejects too few of its own training clusters: the limit comes from held-out images
    margin = np.empty(len(y))
    for k in range(FOLDS):
        training, held_out = fold != k, (fold == k) & (group == 0)
        if held_out.any():
            head = _fit_head(x[training], y[training], group[training], seed)
            margin[held_out] = margins(x[held_out], head)
    head = _fit_head(x, y, group, seed)
    bias = head["outside.output.bias"].copy()
    bias[0] += max(0.0, float(np.quantile(margin[group == 0], QUANTILE)))
    return {**tensors, **head, "outside.output.bias": bias}


def _examples(
    sets: Sequence[Sequence[HeldOutPredictions]], tensors: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return features (N, F), outcome, set and fold (N,) of the clusters; set 0 has the classes."""
    parts, number = [], 0
    for i, images in enumerate(sets):
        for image in images:
            index = outcome(image)
            rows = index == 0 if i == 0 else index > 0
            own = features(image.known, placed(image.embedding, tensors), tensors)
            fold = np.full(rows.sum(), number % FOLDS)
            parts.append((own[rows], index[rows], np.full(rows.sum(), i), fold))
            number += 1
    x, y, group, fold = (np.concatenate(column) for column in zip(*parts, strict=True))
    return x, y, group, fold


def _fit_head(x: np.ndarray, y: np.ndarray, group: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Fit the second network and the scaling of its input."""
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = np.clip((x - mean) / deviation, -_FAR, _FAR)
    hidden, output = _fitted(
        torch.tensor(z, dtype=torch.float32), torch.tensor(y), _weights(y, group), seed
    )
    return {
        "outside.mean": mean.astype(np.float32),
        "outside.deviation": deviation.astype(np.float32),
        "outside.hidden.weight": hidden.weight.detach().numpy(),
        "outside.hidden.bias": hidden.bias.detach().numpy(),
        "outside.output.weight": output.weight.detach().numpy(),
        "outside.output.bias": output.bias.detach().numpy(),
    }


def outcome(image: HeldOutPredictions) -> np.ndarray:
    """Return the index (N,) among `OUTCOMES`; -1 for clusters at the border."""
    truth = image.known.table["truth"].to_numpy(object)
    what = np.where(truth == "aggregate", OUTCOMES.index("aggregate"), OUTCOMES.index("unknown"))
    what = np.where(np.isin(truth, image.known.card.classes), 0, what)
    return np.where(image.known.table["touches_border"].to_numpy(bool), -1, what)


def _weights(y: np.ndarray, group: np.ndarray) -> Tensor:
    """Return weights equal for the outcomes and, within each, for its sets."""
    weight = np.zeros(len(y))
    for k in range(len(OUTCOMES)):
        sets = np.unique(group[y == k])
        for i in sets:
            own = (y == k) & (group == i)
            weight[own] = 1 / (len(sets) * own.sum())
    weight[y == 0] *= 2  # as much as all that is outside
    return torch.tensor(weight / weight.mean(), dtype=torch.float32)


def _fitted(x: Tensor, y: Tensor, weight: Tensor, seed: int) -> tuple[nn.Linear, nn.Linear]:
    """Fit the hidden and the output layer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden, output = nn.Linear(x.shape[1], HIDDEN), nn.Linear(HIDDEN, len(OUTCOMES))
    network = nn.Sequential(hidden, output)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (512,), generator=generator)
        blurred = x[rows] + 0.2 * torch.randn((512, x.shape[1]), generator=generator)
        kept = torch.rand((512, HIDDEN), generator=generator) > DROPPED
        shown = output(functional.silu(hidden(blurred)) * kept / (1 - DROPPED))
        each = functional.cross_entropy(shown, y[rows], reduction="none")
        optimiser.zero_grad()
        (each * weight[rows]).mean().backward()
        optimiser.step()
        schedule.step()
    return hidden, output
