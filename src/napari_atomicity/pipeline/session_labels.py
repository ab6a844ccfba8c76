"""Label the images of an acquisition session with scales that are found jointly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import AtomicityError
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, report
from ..models.analysis import Analysis
from ..models.class_fit import ClassFit
from ..models.estimators import class_sizes
from ..models.intensity_scale import ConstrainedMixture
from ..models.session_scale import ImageMeasurements, SessionScale
from .analysis import apply_scale

if TYPE_CHECKING:
    from ..models.classifier import Classifier

UNCHANGED = 0.02
"""Changes of ln scale and of the weights of its solutions that change no label."""


@dataclass(frozen=True, eq=False)
class LabelledSession:
    """Images of a session, labelled jointly.

    Parameters
    ----------
    analyses : list of Analysis
        The images, in the order in which they were given.
    scale : SessionScale or None
        Joint posterior of the scales; None if the model does not use the scale.
    n_changed : int
        Number of images whose scale has changed.
    class_fit : ClassFit, optional
        Whether the sizes are those of the classes; None if that cannot be tested.
    """

    analyses: list[Analysis]
    scale: SessionScale | None
    n_changed: int
    class_fit: ClassFit | None = None


def label_session(
    analyses: Sequence[Analysis],
    model: str | Classifier = "default",
    device: str = "auto",
    *,
    known: Mapping[str, Mapping[str, float]] | None = None,
    prior: tuple[float, float] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> LabelledSession:
    """Label the clusters of a session with intensity scales that its images share.

    Parameters
    ----------
    analyses : sequence of Analysis
        Classified images that were recorded alike.
    model : str or Classifier, optional
        Model that classified them.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    known : mapping of str to mapping, optional
        Name of an image → class → share, for samples of known composition.
    prior : tuple of float, optional
        Mean and standard deviation of the session's ln scale, from an earlier session.
    progress, stop : callable, optional
        ``progress(done, total, message)`` and ``stop() -> bool``.

    Returns
    -------
    LabelledSession
        Labels of people remain.

    Raises
    ------
    ModelError, AtomicityError, Cancelled
        If the model cannot be loaded, an image is not classified, or ``stop()`` is true.
    """
    from ..models.classifier import load_classifier
    from ..models.session_images import find_scales, session_reference

    classifier = load_classifier(model, device) if isinstance(model, str) else model
    card = classifier.card
    reference = session_reference(card)
    if card.scale is None or reference is None or not analyses:
        return LabelledSession(list(analyses), None, 0)
    report(progress, 0, len(analyses), "Finding the scales of the session")
    measured = _measure(analyses, card, known or {})
    tables = [a.table for a in analyses]
    session, scales = find_scales(measured, tables, reference, card.scale, prior)
    fit = _fit_classes(measured, card, session.spread, prior)
    labelled, n_changed = [], 0
    for done, (analysis, scale) in enumerate(zip(analyses, scales, strict=True)):
        check(stop)
        report(progress, done, len(analyses), f"Labelling {analysis.micrograph.name}")
        if not _is_same(analysis.scale, scale):
            n_changed += 1
            analysis = apply_scale(analysis, classifier, scale, stop=stop)
        record = describe_scale(session, done, fit)
        labelled.append(replace(analysis, parameters={**analysis.parameters, "session": record}))
    return LabelledSession(labelled, session, n_changed, fit)


def _measure(
    analyses: Sequence[Analysis], card: ModelCard, known: Mapping[str, Mapping[str, float]]
) -> list[ImageMeasurements]:
    """Measure what each image tells of its scale, with the composition of known samples."""
    from ..models.session_images import measure_image, session_reference

    reference = session_reference(card)
    assert reference is not None and card.scale is not None
    measured = []
    for analysis in analyses:
        if len(analysis.embedding) != len(analysis.table):
            raise AtomicityError(
                f"the clusters of {analysis.micrograph.name} have not been classified",
                advice="Classify them first",
            )
        composition = known.get(analysis.micrograph.name)
        shares = None
        if composition is not None:
            shares = np.array([composition.get(name, 0.0) for name in card.classes])
            shares = shares / shares.sum()
        measured.append(
            measure_image(analysis.table, analysis.embedding, reference, card.scale, shares)
        )
    return measured


def _fit_classes(
    measured: Sequence[ImageMeasurements],
    card: ModelCard,
    spread: float,
    prior: tuple[float, float] | None,
) -> ClassFit | None:
    """Test whether the sizes of a session are those of the classes; None if they name no sizes."""
    from ..models.session_class_fit import fit_session_classes
    from ..models.session_images import session_reference

    sizes, reference = class_sizes(card.classes), session_reference(card)
    if sizes is None or reference is None:
        return None
    return fit_session_classes(measured, reference, sizes, spread, prior)


def describe_scale(
    session: SessionScale, image: int, fit: ClassFit | None = None
) -> dict[str, Any]:
    """Return what a record says of the session of an image.

    Parameters
    ----------
    session : SessionScale
        Joint posterior.
    image : int
        Index of the image.
    fit : ClassFit, optional
        Whether the sizes of the session are those of the classes.

    Returns
    -------
    dict
        Number of images, intensity of one atom with its 95 % interval, relative scatter between
        images, and the probability that the scale of this image is unlike that of the others. With
        ``fit``, a note, the strength, and the peaks of the session if they are no classes.
    """
    peaks: dict[str, Any] = {} if fit is None else {"misfit": fit.describe()}
    if fit is not None and not fit.fits:
        peaks["misfit_strength"] = round(fit.strength, 1)
        peaks["peaks_atoms"] = [round(float(n), 1) for n in fit.atoms]
        peaks["peaks_shares"] = [round(float(share), 3) for share in fit.shares]
    half = 1.96 * session.log_scale_sd
    middle = session.log_scale
    return {
        "images": len(session.images),
        "intensity_per_atom": float(np.exp(middle)),
        "intensity_per_atom_low": float(np.exp(middle - half)),
        "intensity_per_atom_high": float(np.exp(middle + half)),
        "spread_of_scales": session.spread,
        "unlike_the_others": float(session.outlying[image]),
        **peaks,
    }


def _is_same(before: ConstrainedMixture | None, after: ConstrainedMixture) -> bool:
    """Return whether two scales of an image have the same solutions, up to `UNCHANGED`."""
    if before is None or len(before.weight) != len(after.weight):
        return False
    return bool(
        np.abs(before.shift[:, 0] - after.shift[:, 0]).max() <= UNCHANGED
        and np.abs(before.weight - after.weight).max() <= UNCHANGED
    )
