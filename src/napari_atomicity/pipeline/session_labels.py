"""Label the images of an acquisition session with scales that are found jointly."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.acquisition_session import AcquisitionSession, check_classes
from ..core.errors import AtomicityError
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, report
from ..models.analysis import Analysis
from ..models.estimators import class_sizes
from ..models.scale.class_fit import ClassFit
from ..models.scale.image_evidence import ImageMeasurements
from ..models.scale.intensity_scale import ConstrainedMixture
from ..models.scale.session_images import fit_sources
from ..models.scale.session_scale import SessionScale
from ..reporting.plots.session import SessionSummary
from .analysis import apply_scale

if TYPE_CHECKING:
    from ..models.inference import Classifier

UNCHANGED = 0.02
"""Changes of ln scale and of the weights of its solutions that change no label."""


@dataclass(frozen=True, eq=False)
class LabelledSession:
    """Images of a session, labelled jointly."""

    analyses: list[Analysis]  # the images, in the order in which they were given
    # joint posterior of the scales; None if the model does not use the scale
    scale: SessionScale | None
    n_changed: int  # number of images whose scale has changed
    # test of the sizes of the session; None if the classes name no sizes
    class_fit: ClassFit | None = None


def is_labelled_jointly(
    session: AcquisitionSession,
    n_images: int,  # number of its analysed images with clusters
    card: ModelCard,
) -> bool:
    """Return whether labels of a session say more than those of its images one by one.

    A session of one image says more, too: whether its sizes are those of the classes, what its
    labels rest on, and the error of its scale.
    """
    if n_images > 1 or (n_images and (session.known or session.earlier is not None)):
        return True
    # The scale of one image by a model without apparent sizes is that of its classification.
    return n_images == 1 and not session.by_itself and card.apparent_size is not None


def measure_session(
    analyses: Sequence[Analysis], card: ModelCard, session: AcquisitionSession
) -> list[ImageMeasurements]:
    """Measure what each image of a session tells of its scale.

    Raises `ModelError` or `AtomicityError` if the model has no reference, an image has not been
    classified, or the model lacks a class of a known sample.
    """
    from ..models.scale.session_images import measure_analysis, require_references

    references = require_references(card)
    measured = []
    for analysis in analyses:
        name = analysis.micrograph.name
        if len(analysis.embedding) != len(analysis.table):
            raise AtomicityError(
                f"the clusters of {name} have not been classified", advice="Classify them first"
            )
        found = measure_analysis(analysis, references)
        measured.append(with_known_shares(found, session, name, card))
    return measured


def fit_measurements(
    measured: Sequence[ImageMeasurements],
    card: ModelCard,
    prior: tuple[float, float] | None = None,
) -> tuple[SessionScale, ClassFit | None, float]:
    """Find the scales of a session, and test whether its sizes are those of the classes.

    A copy of an image, which has exactly the same values, tells nothing more.
    """
    from ..models.scale.class_fit import scale_error_of_counts
    from ..models.scale.session_images import require_references
    from ..models.scale.session_scale import fit_session

    reference = require_references(card)[0]
    place: dict[tuple[Hashable, ...], int] = {}
    places = [place.setdefault(_content(image), len(place)) for image in measured]
    first = np.unique(places, return_index=True)[1]
    scale = fit_session([measured[i] for i in first], reference, prior)
    fit = fit_session_sizes(card, scale, prior)
    error = scale_error_of_counts(fit, scale, reference, prior)
    return _repeated(scale, places), fit, error


def _content(image: ImageMeasurements) -> tuple[Hashable, ...]:
    """Return what tells the scale of an image; it is the same for a copy."""
    shares = None if image.shares is None else image.shares.tobytes()
    values = image.log_intensity.tobytes(), image.log_size.tobytes()
    return *values, shares, image.anchor, image.keep_shares, image.pixel_size_error


def _repeated(session: SessionScale, places: Sequence[int]) -> SessionScale:
    """Give each image the scale of the one at its place, which has the same pixels."""
    return replace(
        session,
        images=[session.images[place] for place in places],
        measured=[session.measured[place] for place in places],
        outlying=session.outlying[places],
        draws=session.draws[places],
        log_bayes_factor=session.log_bayes_factor[places],
        contradicted=session.contradicted[places],
    )


def label_session(
    analyses: Sequence[Analysis],  # classified images that were recorded alike
    model: str | Classifier = "default",
    device: str = "auto",  # "auto", "cpu", "cuda" or "mps"
    *,
    session: AcquisitionSession | None = None,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> LabelledSession:
    """Label the clusters of a session with intensity scales that its images share.

    Raises `ModelError`, `AtomicityError` or `Cancelled` if the model cannot be loaded, an image is
    not classified, or ``stop()`` returns True.
    """
    from ..models.inference import load_classifier
    from ..models.scale.session_images import mixture_of_modes

    classifier = load_classifier(model, device) if isinstance(model, str) else model
    if (card := classifier.card).scale is None or not analyses:
        return LabelledSession(list(analyses), None, 0)
    report(progress, 0, 0, "Finding the scales of the session")
    known = session or AcquisitionSession("", ())
    measured = measure_session(analyses, card, known)
    found, fit, error = fit_measurements(measured, card, known.prior)
    scales = [
        replace(mixture_of_modes(modes, analysis.table, card.scale), log_scale_sd=error)
        for modes, analysis in zip(found.images, analyses, strict=True)
    ]
    labelled = _label_each(analyses, scales, classifier, only, progress, stop)
    described = []
    for i, (a, scale) in enumerate(zip(labelled, scales, strict=True)):
        about = describe_scale(found, i, fit, known.prior, error)
        if not is_same_scale(a.scale, scale):  # its solutions are others
            about.pop("draws", None)
        described.append(replace(a, parameters={**a.parameters, "session": about}))
    n_changed = sum(new is not old for old, new in zip(analyses, labelled, strict=True))
    return LabelledSession(described, found, n_changed, fit)


def label_sessions(
    analyses: Sequence[Analysis],  # images that one model has classified
    classifier: Classifier,
    sessions: Iterable[AcquisitionSession],
    stop: Stop | None = None,
) -> list[Analysis]:
    """Label the images of each of some sessions jointly; those of no session stay as they are.

    A known sample of other classes than those of the model tells nothing.
    """
    card, labelled = classifier.card, {a.micrograph.name: a for a in analyses}
    for whole in sessions:
        session = whole.limited_to(filter(labelled.__contains__, whole.images), card.classes)
        own = [labelled[image] for image in session.images]
        if is_labelled_jointly(session, len(own), card):
            found = label_session(own, classifier, session=session, stop=stop).analyses
            labelled |= zip(session.images, found, strict=True)
    return list(labelled.values())


def _label_each(
    analyses: Sequence[Analysis],
    scales: Sequence[ConstrainedMixture],
    classifier: Classifier,
    only: Collection[str] | None,
    progress: Progress | None,
    stop: Stop | None,
) -> list[Analysis]:
    """Label the images with their scales in the session, unless they have them already."""
    labelled = []
    for done, (analysis, scale) in enumerate(zip(analyses, scales, strict=True)):
        check(stop)
        name = analysis.micrograph.name
        report(progress, done, len(analyses), f"Labelling {name}")
        stays = (only is not None and name not in only) or is_same_scale(analysis.scale, scale)
        labelled.append(analysis if stays else apply_scale(analysis, classifier, scale, stop=stop))
    return labelled


def composition_shares(
    composition: Mapping[str, float] | None, classes: Sequence[str]
) -> np.ndarray | None:
    """Return the shares of the classes in a sample, (n_classes,); None if they are not known."""
    if composition is None:
        return None
    check_classes(composition, classes)
    shares = np.array([composition.get(name, 0.0) for name in classes])
    return np.asarray(shares / shares.sum())


def with_known_shares(
    measured: ImageMeasurements, session: AcquisitionSession, image: str, card: ModelCard
) -> ImageMeasurements:
    """Return stored measurements with the composition of the sample, if the session knows it."""
    shares = composition_shares(session.known.get(image), card.classes)
    return replace(
        measured,
        shares=shares,
        keep_shares=image in session.kept,
        pixel_size_error=session.pixel_size_error,
    )


def fit_session_sizes(
    card: ModelCard,
    session: SessionScale,  # joint posterior of their scales
    prior: tuple[float, float] | None = None,
) -> ClassFit | None:
    """Test whether the sizes of a session are those of the classes."""
    from ..models.scale.class_fit import (
        align_with_classes,
        answer_of_session,
        fit_session_classes,
    )
    from ..models.scale.session_images import require_references

    sizes = class_sizes(card.classes)
    if sizes is None:
        return None
    reference = require_references(card)[0]
    fit = fit_session_classes(session.measured, reference, sizes, session.spread, prior)
    if fit is None or not len(fit.atoms):
        return fit
    fit = replace(fit, answer=answer_of_session(fit, session, reference))
    if not fit.fits:
        return fit
    return align_with_classes(fit, session.measured, session, reference, sizes)


def summarise_session(
    session: AcquisitionSession,
    images: Sequence[str],
    scale: SessionScale,  # joint posterior of their scales
    fit: ClassFit | None,  # test of the sizes
    card: ModelCard,
) -> SessionSummary:
    """Summarise a session for charts."""
    from ..models.scale.session_images import require_references

    known = {name: session.known[name] for name in images if name in session.known}
    sources = fit_sources(scale.measured, require_references(card)[0], session.prior)
    sizes = class_sizes(card.classes)
    atoms = [] if sizes is None else sizes.tolist()
    return SessionSummary(session.name, list(images), scale, known, fit, sources, atoms)


def describe_scale(
    session: SessionScale,  # joint posterior
    image: int,
    fit: ClassFit | None = None,
    prior: tuple[float, float] | None = None,
    scale_error: float = 0.0,  # standard deviation of ln scale, if the classes do not tell it
) -> dict[str, Any]:
    """Return what a record says of the session of an image."""
    more: dict[str, Any] = {} if fit is None else _describe_fit(fit)
    if prior is not None:
        more["prior"] = {"intensity_per_atom": float(np.exp(prior[0])), "log_sd": prior[1]}
    if np.isfinite(factor := session.log_bayes_factor[image]):
        more["known_sample"] = {
            "log_bayes_factor": round(float(factor), 1),
            "contradicted": bool(session.contradicted[image]),
            "used": session.measured[image].shares is not None,
        }
    if session.relies_on_contradicted:
        more["relies_on_contradicted"] = True
    if np.isfinite(session.known_agreement):
        more["known_agreement"] = round(session.known_agreement, 1)
    if np.isfinite(session.lone_atoms_deviation):
        more["lone_atoms_deviation"] = round(session.lone_atoms_deviation, 1)
    if session.relies_on_sizes and prior is None:
        more["relies_on_sizes"] = True
    if scale_error:
        more["scale_error"] = round(scale_error, 4)
    low, high = np.exp(session.interval())
    draws = session.draws[image]
    return {
        "images": len(session.images),
        "lone_atoms": sum(x.anchor is not None for x in session.measured),
        "intensity_per_atom": float(np.exp(session.log_scale)),
        "intensity_per_atom_low": float(low),
        "intensity_per_atom_high": float(high),
        "spread_of_scales": session.spread,
        "size_error": round(session.size_error, 3),
        "size_error_sd": session.size_error_sd,
        "pixel_size_error": session.measured[image].pixel_size_error,
        "unlike_the_others": float(session.outlying[image]),
        **({"draws": "".join(map(str, draws))} if draws.any() else {}),
        **more,
    }


def _describe_fit(fit: ClassFit) -> dict[str, Any]:
    """Return what a record says of the test of the sizes; the strength only of enough clusters."""
    found: dict[str, Any] = {"answer": fit.answer, "misfit": fit.describe()}
    if fit.peaks:
        found["misfit_strength"] = round(fit.strength, 1)
        found["misfit_excess"] = round(fit.excess, 1)
        found["peaks_atoms"] = [round(atoms, 2) for atoms, _ in fit.peaks]
        found["peaks_shares"] = [round(share, 3) for _, share in fit.peaks]
    return found


def is_same_scale(before: ConstrainedMixture | None, after: ConstrainedMixture) -> bool:
    """Return whether two scales of an image have the same solutions, up to `UNCHANGED`."""
    if before is None or len(before.weight) != len(after.weight):
        return False
    return bool(
        abs(before.log_scale_sd - after.log_scale_sd) <= UNCHANGED
        and np.abs(before.shift[:, 0] - after.shift[:, 0]).max() <= UNCHANGED
        and np.abs(before.weight - after.weight).max() <= UNCHANGED
    )
