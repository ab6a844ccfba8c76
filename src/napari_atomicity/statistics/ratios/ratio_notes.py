"""Reasons that limit the use of class ratios, as the column ``note`` of a table of ratios."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ...core.apparent_size import SIZE_PER_DIAMETER
from ...core.micrograph import count_copies
from ...core.text import pluralise
from .prevalence import ScaleSolutions

CONDITIONS_DIFFER = (
    "conditions differ from the training of the model: check with Adapt before trusting these "
    "ratios"
)
"""Note on ratios of images whose conditions differ from the training of the model."""
SETTINGS_DIFFER = (
    "the clusters differ from those of the training, perhaps because settings of the detection "
    "were changed ({}): use the defaults before adapting"
)
"""The same where other settings are a simpler reason."""
FEW_CLUSTERS = "few clusters: fractions and intensity scale are uncertain"
"""Note on ratios of fewer than `MIN_CLUSTERS` clusters."""
FEW_LABELS = "few clusters: fractions are uncertain"
"""The same where people alone have labelled them."""
MIN_CLUSTERS = 10
"""Number of counted clusters of an image below which ratios are noted."""
MIN_SCALE_PROBABILITY = 0.5
"""Probability that the intensity scale of an image is right below which labels are withheld."""
MAX_FRACTION = 0.2
"""Fraction of unusual clusters of an image above which a reader is told."""
MAX_UNKNOWN = 0.05
"""Fraction of clusters of no class, above which a session is not said to agree with the classes:
at most 1 % in ten simulated mixtures of the classes, by other code than the product's."""
COMBINATION = "combination"
"""Estimator of the labels for which a model is calibrated."""
_ESTIMATORS = {"mixture": "the constrained mixture", "network": "the network"}
WITHHELD = (
    "fractions are withheld until this is settled, or until you choose to see them: Show the "
    "fractions anyway in the dock Ratios, --keep-ratios on the command line"
)
"""Note on fractions of a session whose sizes are not, or may not be, those of the classes."""
SATURATED = (
    "fractions are withheld: most clusters are saturated over half of their area. Export the "
    "images without saturation, with 16 bits, or choose to see them: Show the fractions anyway in "
    "the dock Ratios, --keep-ratios on the command line"
)
"""Note on fractions of images that are mostly saturated."""
CHANGED_PIXEL_SIZE = "pixel_size_since_nm"
"""Parameter of an analysis: the pixel size that was entered since."""
SEPARATOR = "; "
"""Between the reasons of a note."""
UNLIKE = 0.5
"""Probability from which on the scale of an image is reported as unlike that of the others."""
FITS, CANNOT_TELL, DOES_NOT_FIT = "fits", "cannot tell", "does not fit"
"""Whether the sizes of a session are those of the classes: the answers of a session's record."""
MAX_EXCESS = 4.0
"""Excess likelihood of free peaks, see `ClassFit.excess`, above which ratios of three sizes do not
tell that they are those of the classes: at most 3.4 in 40 simulated sessions of all classes; its
median is 6 with Pt48 among three classes, and 7 with Pt25 and Pt48."""
MAX_SIZE_ERROR = 1.75
"""Common error of the apparent sizes of a session, in standard deviations, above which it is
reported."""
MIN_KNOWN_AGREEMENT = 0.0
"""Log Bayes factor below which known samples and the other images of a session disagree: 0.9 to 5.5
in simulated sessions that fit, down to -2.3 in sessions of other sizes."""
MAX_LONE_ATOMS_DEVIATION = 2.5
"""Deviation of the scale by the classes from that by lone atoms, in standard deviations, above
which it is reported: in 1 of 41 simulated sessions of sizes of the model, and in 13 of 21 of
others."""
ADD_KNOWN_SAMPLE = "add an image of a known sample to the session"
_FEW_SIZES = (
    "the images of this session have few sizes each, on average: which classes they are, and "
    "whether they are sizes of the model, rests on"
)
RESTS_ON_SIZES = (
    f"{_FEW_SIZES} the pixel size and the focus; 5 % in the pixel size can be a class. Images of "
    "known samples in the session settle it"
)
"""Of a session without ratios of three sizes, whose scale nothing else tells well."""
TOO_FEW_KNOWN = (
    f"{_FEW_SIZES} how large they look beside the known samples. These do not settle it, since the "
    "intensities of the images may scatter: it takes more of them"
)
"""The same of a session with known samples."""
UNTESTED = (
    "whether the sizes are those of the classes is tested when watching ends, or by Label sessions "
    "again (Browse)"
)
"""Of an image that was labelled with what its session knew when it came."""
AGREES = "the sizes of this session agree with the classes of the model"
TOO_FEW = "too few clusters tell whether the sizes of this session are those of the classes"
"""Of a session whose record has no free peaks, since the test had too few clusters."""


@dataclass(frozen=True)
class ImageLimits:
    """Properties of an image that limit the use of its labels."""

    # probability that its intensity scale is right; None if it was not estimated
    scale_probability: float | None = None
    # whether its clusters have lost intensity at the limit of the range of values
    is_clipped: bool = False
    is_saturated: bool = False  # whether its clusters are clipped over half of their area
    is_doubtful: bool = False  # whether its session gives no fractions, from `withholds_fractions`
    # why labels of its session may be wrong together, from `session_doubts`, or what else they rest
    # on
    doubts: tuple[str, ...] = ()
    is_unlike: bool = False  # whether its scale is unlike that of the others of its session
    solutions: ScaleSolutions | None = None  # possible intensity scales, if there are several
    keep_ratios: bool = False  # whether fractions are given even if the session does not fit
    # whether it is a stack whose frames show the same clusters, without tracks
    repeats_clusters: bool = False
    is_counted_average: bool = False  # whether it averages frames of a movie that is counted too
    # whether its clusters contradict the composition of its known sample, which was not used
    contradicts_known: bool = False
    # whether its scale relies on a known sample that the clusters contradict
    relies_on_contradicted: bool = False
    is_known: bool = False  # whether it is of a known sample
    labels_from: str = COMBINATION  # estimator of its labels: "combination", "mixture" or "network"
    other_pixel_size: bool = False  # whether its pixel size was changed since it was analysed
    changed_settings: tuple[str, ...] = ()  # settings of the detection that are not the defaults
    sha256: str | None = None  # of its file, if files of the same content are to be noted
    has_scale: bool = True  # whether a model has labelled it, by an intensity scale

    @classmethod
    def from_parameters(
        cls,
        parameters: Mapping[str, Any],
        keep_ratios: bool = False,  # whether fractions are given even if the session does not fit
        sha256: str | None = None,  # of the file of the image
    ) -> Self:
        """Build from the parameters of an analysis."""
        session = parameters.get("session", {})
        sample = session.get("known_sample", {})
        certainty = parameters.get("certainty_of_scale")
        solutions = ScaleSolutions.from_parameters(parameters)
        return cls(
            certainty,
            is_doubtful=withholds_fractions(session),
            doubts=tuple(filter(None, [*session_doubts(session), session_basis(session)])),
            is_unlike=is_unlike_others(session),
            solutions=solutions,
            keep_ratios=keep_ratios,
            contradicts_known=bool(sample.get("contradicted") and not sample.get("used")),
            is_known=bool(sample),
            relies_on_contradicted=bool(session.get("relies_on_contradicted")),
            labels_from=parameters.get("labels_from", COMBINATION),
            other_pixel_size=CHANGED_PIXEL_SIZE in parameters,
            changed_settings=tuple(parameters.get("changed_settings", ())),
            sha256=sha256,
        )

    @property
    def scale_is_uncertain(self) -> bool:
        """Whether the scale is too uncertain for labels."""
        return self.scale_probability is not None and not (
            self.scale_probability >= MIN_SCALE_PROBABILITY
        )


def _names_of_settings(settings: Iterable[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in dict.fromkeys(settings))


def conditions_note(changed_settings: Iterable[str]) -> str:
    """Return why clusters differ from those of the training, and what to do."""
    names = _names_of_settings(changed_settings)
    return SETTINGS_DIFFER.format(names) if names else CONDITIONS_DIFFER


def reason_to_withhold(limits: Sequence[ImageLimits]) -> str:
    """Return why labels of the model give no fractions of several images; "" if they do."""
    limits = [image for image in limits if not image.keep_ratios]
    if any(image.is_doubtful for image in limits):
        return WITHHELD
    return SATURATED if 2 * sum(image.is_saturated for image in limits) > len(limits) else ""


def ratio_notes(
    # Number of counted clusters of the image, or of each image; 0 is not noted
    n_clusters: Sequence[int],
    limits: Sequence[ImageLimits] = (),
    conditions_differ: bool = False,  # whether conditions differ from those of the training
    models: Sequence[str] = (),  # model of each image that a model has labelled
    n_unlabelled: int = 0,  # clusters without a label, which are not counted
    n_unknown: int = 0,  # clusters of no class, which are not counted
) -> list[str]:  # empty if nothing is known to limit the use
    """List the reasons that limit the use of the ratios of an image, or of several."""
    changed = [name for image in limits for name in image.changed_settings]
    reasons = [conditions_note(changed)] if conditions_differ else []
    if n_unlabelled:
        reasons.append(f"{pluralise(n_unlabelled, 'cluster')} without a label not counted")
    if n_unknown > MAX_FRACTION * (sum(n_clusters) + n_unknown):
        reasons.append(describe_unknown(n_unknown, sum(n_clusters)))
    has_scale = [image.has_scale for image in limits] or [True] * len(n_clusters)
    few = sum(0 < n < MIN_CLUSTERS for n, has in zip(n_clusters, has_scale, strict=True) if has)
    if 0 < sum(n_clusters) < MIN_CLUSTERS:
        reasons.append(FEW_CLUSTERS if any(has_scale) else FEW_LABELS)
    elif 2 * few > len(n_clusters):
        images = pluralise(len(n_clusters), "image")
        reasons.append(f"few clusters in {few} of {images}: their intensity scales are uncertain")
    reasons += image_notes(limits)
    for name in dict.fromkeys(image.labels_from for image in limits):
        if name != COMBINATION:
            reasons.append(
                f"labels are those of {_ESTIMATORS[name]}: confidences, prediction sets and "
                "intervals are calibrated for the combination only"
            )
    reasons += model_notes(models)
    n_changed = sum(bool(image.changed_settings) for image in limits)
    if not conditions_differ and 0 < n_changed < len(limits):
        reasons.append(
            f"clusters of {n_changed} of {len(limits)} images were detected with other settings "
            f"({_names_of_settings(changed)}): analyse all images with the same"
        )
    for doubt, n in Counter(doubt for image in limits for doubt in image.doubts).items():
        share = f" (this concerns {n} of {len(limits)} images)" if n < len(limits) else ""
        reasons.append(f"{doubt}{share}")
    if reason := reason_to_withhold(limits):
        reasons.append(reason)
    return reasons


def describe_unknown(n_unknown: int, n_clusters: int) -> str:
    """Return how many clusters belong to no class, beside the number of those that count."""
    belong, are = ("belongs", "is") if n_unknown == 1 else ("belong", "are")
    return (
        f"{n_unknown} of {pluralise(n_clusters + n_unknown, 'cluster')} {belong} to no class of "
        f"the model (unknown) and {are} not counted"
    )


def image_notes(limits: Sequence[ImageLimits]) -> list[str]:
    """Return what limits the labels of images, and of how many."""
    reasons = []
    n_known = sum(image.is_known for image in limits)
    for text, concerned in (
        (
            "known samples{} are counted with the others; samples that you group have ratios of "
            "their own",
            n_known if n_known < len(limits) else 0,
        ),
        (
            "the intensity scale is uncertain{}: all labels of an image may be wrong together",
            sum(image.scale_is_uncertain for image in limits),
        ),
        (
            "the intensity scale is unlike that of the other images of the session{}: all labels "
            "of an image may be wrong together",
            sum(image.is_unlike for image in limits),
        ),
        (
            "the clusters contradict the known sample{}: its composition was not used",
            sum(image.contradicts_known for image in limits),
        ),
        (
            "the intensity scale relies on a known sample that its clusters contradict{}: all "
            "labels may be wrong together",
            sum(image.relies_on_contradicted for image in limits),
        ),
        (
            "the pixel size was changed since the analysis{}: analyse again",
            sum(image.other_pixel_size for image in limits),
        ),
        (
            "pixels are clipped{}: intensities of bright clusters are estimates",
            sum(image.is_clipped for image in limits),
        ),
        (
            "frames show the same clusters again{}: track them to count each once, with intervals",
            sum(image.repeats_clusters for image in limits),
        ),
        (
            "averages of frames{} show the clusters of a movie that is counted too: remove the "
            "movie, or the layer of the average, to count each cluster once, with intervals that "
            "are wide enough",
            sum(image.is_counted_average for image in limits),
        ),
        (
            "files have the content of others{}: remove the copies to count each cluster once, "
            "with intervals that are wide enough",
            count_copies(image.sha256 for image in limits),
        ),
    ):
        if concerned:
            share = f" in {concerned} of {pluralise(len(limits), 'image')}"
            reasons.append(text.format(share if len(limits) > 1 else ""))
    return reasons


def model_notes(models: Sequence[str]) -> list[str]:
    """Return the note on images that different models have labelled, if there are several."""
    images = Counter(models).most_common()
    if len(images) < 2:
        return []
    shares = ", ".join(f"{name} in {pluralise(n, 'image')}" for name, n in images)
    return [
        f"labels are those of different models ({shares}): analyse all images with one model (save "
        "an adapted one in Adapt before)"
    ]


def is_unlike_others(session: Mapping[str, Any]) -> bool:
    """Whether the scale of an image is unlike that of the others, by the record of its session."""
    return bool(session.get("unlike_the_others", 0.0) > UNLIKE)


def session_doubts(
    # From `session_labels.describe_scale`; empty if the image was labelled by itself
    session: Mapping[str, Any],
) -> list[str]:
    """Return why the labels of a session may be wrong together, and what to do for each reason.

    The list is empty if nothing speaks against the labels, or if the image was labelled by itself.
    """
    found = []
    if session.get("misfit"):
        misfit = describe_misfit(session["peaks_atoms"])
        found.append(f"{misfit}; train a model that has these sizes")
    elif session.get("answer") == CANNOT_TELL:
        found.append(
            "this session may not fit the classes of the model: "
            f"{format_peaks(session['peaks_atoms'])} explain its clusters comparably; "
            f"{ADD_KNOWN_SAMPLE}, or train a model that has these sizes"
        )
    error = session.get("size_error", 0.0)
    if abs(error) > MAX_SIZE_ERROR * session.get("size_error_sd", np.inf):
        looks = "larger" if error > 0 else "smaller"
        percent = 100 * abs(np.expm1(error / SIZE_PER_DIAMETER))
        found.append(
            f"the clusters look at least {percent:.0f} % {looks} in diameter than those of their "
            "classes: check pixel size and focus, or their sizes are no classes of the model; "
            f"{ADD_KNOWN_SAMPLE}"
        )
    deviation = session.get("lone_atoms_deviation", 0.0)
    if abs(deviation) > MAX_LONE_ATOMS_DEVIATION:
        looks = "darker" if deviation > 0 else "brighter"
        found.append(
            f"the lone atoms are {looks} than one atom of the labelled clusters: their sizes are "
            "no classes of the model, or the specks are no single atoms of this metal; "
            f"{ADD_KNOWN_SAMPLE}"
        )
    if session.get("known_agreement", 0.0) < MIN_KNOWN_AGREEMENT:
        found.append(
            "the known samples disagree with the other images of their session about the scale: "
            "check the compositions and whether all were recorded alike, or the sizes of the "
            "others are no classes of the model"
        )
    return found


def withholds_fractions(session: Mapping[str, Any]) -> bool:
    """Return whether a session gives no fractions of the classes.

    Its sizes are others, or may be: where three sizes are in an image, by their ratios; elsewhere,
    labels rest on sizes alone, so that any doubt is enough.
    """
    if session.get("misfit"):
        return True
    if session.get("relies_on_sizes"):
        return bool(session_doubts(session))
    excess = session.get("misfit_excess", 0.0)
    return bool(session.get("answer") == CANNOT_TELL and excess > MAX_EXCESS)


def session_basis(session: Mapping[str, Any]) -> str:
    """Return what the labels of a session without doubts rest on, or that it is untested, or ""."""
    if session.get("untested"):
        return UNTESTED
    if not session.get("relies_on_sizes") or session_doubts(session):
        return ""
    return TOO_FEW_KNOWN if "known_agreement" in session else RESTS_ON_SIZES


def without_basis(note: str, sessions: Iterable[Mapping[str, Any]]) -> str:
    """Return a note without what labels rest on in these sessions: that alone is no warning."""
    for basis in filter(None, {*map(session_basis, sessions)}):
        note = re.sub(re.escape(basis) + r"( \(this concerns \d+ of \d+ images\))?", "", note)
    return note.strip(SEPARATOR)


def session_line(session: Mapping[str, Any]) -> str:  # "" without a test of its sizes
    """Say whether a session fits the classes and what its labels rest on, in one line."""
    doubts = session_doubts(session)
    if doubts or session.get("relies_on_contradicted"):
        return SEPARATOR.join(doubts)
    if "answer" not in session:
        return UNTESTED if session.get("untested") else ""
    return session_basis(session) or (AGREES if session.get("peaks_atoms") else TOO_FEW)


_MAX_NAMED = 3
"""Number of sessions up to which a text names them."""


def name_sessions(text: str, sessions: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Name the sessions in a text where it says "this session" of one of several."""
    concerned: dict[str, list[str]] = {}
    for session, name in zip(sessions, names, strict=True):
        for reason in {*session_doubts(session), session_basis(session), session_line(session)}:
            concerned.setdefault(reason, []).append(name)
    concerned.pop("", None)
    for reason, (*others, last) in concerned.items():
        named, n = f"session {last}", len(others) + 1
        if others:
            joined = f"sessions {', '.join(others)} and {last}"
            named = joined if n <= _MAX_NAMED else f"{n} sessions"
        verb = "do" if others else "does"
        own = reason.replace("this session does", f"this session {verb}")
        text = text.replace(reason, own.replace("this session", named))
    return text


def describe_misfit(peaks_atoms: Sequence[float]) -> str:
    """Describe a session whose sizes are not those of the classes: "peaks at 25 and 48 atoms"."""
    return f"this session does not fit the classes of the model: {format_peaks(peaks_atoms)}"


def format_peaks(peaks_atoms: Sequence[float]) -> str:
    """Format the peaks of the numbers of atoms: "peaks at 25 and 48 atoms"."""
    *first, last = (f"{peak:.0f}" for peak in sorted(peaks_atoms))
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"{'peaks' if first else 'peak'} at {listed} atoms"
