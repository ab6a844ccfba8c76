"""What the dock Train runs in a worker, and the summary of a new model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....core.model_card import ModelCard
from ....core.progress import Progress, Stop, with_time_left
from ....models.files import user_folder
from ....training.request import TrainRequest
from ....training.score_text import describe_accuracy, describe_gain
from ... import tasks


def train_model(
    request: TrainRequest,
    on_epoch: Any,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> ModelCard:
    """Train and write a model; run in a worker, where torch may take its seconds to load."""
    from ....training.run import train

    tasks.cap_torch_threads()
    return train(request, with_time_left(progress), stop, on_epoch)


def summary(card: ModelCard) -> str:
    """Summarise a new model: its accuracy, on which data, and what was left out."""
    which = "test" if "test" in card.scores else "held_out"
    scores, history = card.scores[which], card.training["history"]
    left_out = [f"{n} {reason}" for reason, n in card.data["left_out"].items() if n]
    lines = [
        f"{card.name}: {describe_accuracy(card)}",
        f"{100 * scores['off_by_one']:.1f} % are one class off; the mean error is "
        f"{scores['error_atoms']:.1f} atoms.",
        "Found: " + ", ".join(f"{c} {100 * r:.0f} %" for c, r in scores["recall"].items()) + ".",
        f"Ended after {len(history)} epochs; kept is number {card.training['epoch_kept']}.",
        f"Left out: {', '.join(left_out) or 'nothing'}.",
        describe_gain(card),
    ]
    return "\n".join(filter(None, lines))


def free_path() -> Path:
    """Return a new file name in the user's folder of models."""
    folder, i = user_folder(), 1
    while (folder / f"trained-{i}.safetensors").exists():
        i += 1
    return folder / f"trained-{i}.safetensors"
