"""What the dock Adapt runs in a worker, and names of adapted models."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ....core.errors import AtomicityError
from ....core.progress import Progress, Stop, report, with_time_left
from ....models.analysis import Analysis
from ....models.files import SHIPPED, save_model, user_folder
from ....pipeline.adaptation import runs as adapting
from ....pipeline.adaptation import text as adaptation_text
from ....pipeline.adaptation.settings import COMBINED
from ... import tasks

if TYPE_CHECKING:
    from ....models.classifier import Classifier
    from ....pipeline.adaptation.result import Adaptation

BEFORE, AFTER = 0, 1


@dataclass(frozen=True, eq=False)
class Result:
    """An adaptation with what the dock shows of it: pairs are before and after."""

    found: Adaptation
    ratios: tuple[pd.DataFrame, pd.DataFrame]
    confidence: tuple[float, float]
    classifier: Classifier

    def side(self, which: int) -> tuple[Analysis, ...]:
        return self.found.after if which == AFTER else self.found.before


# ---- what runs in a worker
def adapt_model(
    analyses: list[Analysis],
    model: str,
    name: str,
    device: str,
    pseudo_labels: str = COMBINED,
    accept_unchecked: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Result:
    """Adapt a model, place the clusters in its map, and count before and after."""
    from ....models.classifier import Classifier, load_classifier

    tasks.cap_torch_threads()
    progress = with_time_left(progress)
    found = adapting.adapt_images(
        analyses,
        model,
        name,
        device,
        progress,
        stop,
        pseudo_labels,
        accept_unchecked=accept_unchecked,
    )
    old = load_classifier(model, device)
    new = Classifier(found.card, found.tensors, old.device) if found.accepted else old
    found = adapting.placed(found, old, new, progress, stop)
    report(progress, 0, 0, "Counting")
    both = (found.before, found.after)
    before, after = (adaptation_text.shares(x) for x in both)
    confidence = tuple(map(adaptation_text.mean_confidence, both))
    return Result(found, (before, after), confidence, new)


def save_adapted(result: Result, path: Path) -> Result:
    """Write the adapted model under the name of its file; the result with that name."""
    found = adapting.named(result.found, path.stem)
    save_model(path, found.card, found.tensors)
    return replace(result, found=found)


# ---- names
def free_name(model: str) -> str:
    """Return a name for an adapted model that no file in the user's folder has yet."""
    base = re.sub(r"-adapted-\d+$", "", Path(SHIPPED.get(model, model)).stem)
    i = 1
    while (user_folder() / f"{base}-adapted-{i}.safetensors").exists():
        i += 1
    return f"{base}-adapted-{i}"


def path_for(name: str) -> Path:
    """Where a model of that name is saved.

    Raises `AtomicityError` if it is no name for a file, or another model's.
    """
    name = name.strip()
    if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|'):
        raise AtomicityError(
            f"{name!r} is not a valid name of a model", advice="Use letters, digits, - and _"
        )
    path = user_folder() / f"{name}.safetensors"
    if name in {*SHIPPED, *SHIPPED.values()} or path.exists():
        raise AtomicityError(
            f"there is a model {name!r} already",
            advice="Choose another name. Models are never replaced",
        )
    return path


def path_of(result: Result) -> Path:
    """Where an adapted model was saved."""
    return user_folder() / f"{result.found.card.name}.safetensors"
