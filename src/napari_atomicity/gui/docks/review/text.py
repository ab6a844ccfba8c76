"""Texts of the dock Review."""

from __future__ import annotations

import math

from ....core.progress import format_duration
from ....state.review_orders import ORDERS
from ....state.reviewing import Reviewing
from ....statistics.stratified_accuracy import Accuracy, Share


# ---- words
def format_progress(review: Reviewing) -> str:
    """Format the progress, as in ``Reviewed 37 of 212``."""
    return f"Reviewed {review.n_done} of {review.n}"


def format_speed(review: Reviewing) -> str:
    """Format seed, time per cluster, time left and the number of skipped clusters."""
    words = [f"seed {review.queue.request.seed}"] if review.queue.strata else []
    seconds, left = review.seconds_each(), review.n - review.n_done
    if seconds is not None and left:
        words.append(f"{seconds:.1f} s each, {format_duration(seconds * left)} left")
    if review.n_skipped:
        words.append(f"{review.n_skipped} skipped")
    return "; ".join(words)


def format_share(share: Share) -> str:
    """``94.1 % (89.2–97.0)``; a dash without answers."""
    if not math.isfinite(share.value):
        return "–"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f}–{100 * share.high:.1f})"


def format_accuracy(review: Reviewing, found: Accuracy | None) -> str:
    """Describe what follows from the answers, and what does not."""
    if found is None:
        return (
            "These clusters were chosen because they are special: how often their labels are right "
            f"says nothing of the others. For an estimate choose '{ORDERS['sample'].title}' or "
            f"'{ORDERS['random'].title}'."
        )
    if review.state.blind:
        return "In blind mode there are no predictions to set the answers against."
    if not found.overall.n:
        return "The accuracy of the labels will be estimated here from the answers."
    n, of = found.overall.n, found.n_population
    said = [
        f"{format_share(found.overall)} of the labels of these {of} clusters are right, with its "
        f"95 % interval: {found.overall.right} of {n} answers."
    ]
    if found.false_detections:
        many = found.false_detections != 1
        said.append(
            f"{found.false_detections} {'were' if many else 'was'} no cluster"
            f"{'s' if many else ''}, which counts as wrong."
        )
    if review.queue.request.by_image and not review.finished:
        said.append("It counts once all are reviewed: image by image, the first are not typical.")
    elif review.n_skipped:
        n = review.n_skipped
        said.append(
            f"{n} {'were' if n != 1 else 'was'} skipped: such are the hard ones, so this is too "
            "high until they are answered."
        )
    if review.predicted_anew:
        said.append(
            "They were classified anew since the sample was drawn. If that model has learnt from "
            "these answers, this flatters it: draw another sample."
        )
    return " ".join(said)
