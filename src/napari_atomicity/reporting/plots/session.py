"""The intensity of one atom in an acquisition session and in one of its images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.acquisition_session import AcquisitionSession, Composition, format_composition
from ...core.text import first_names, pluralise, sentence
from ...models.scale.class_fit import ClassFit
from ...models.scale.intensity_scale import ConstrainedMixture
from ...models.scale.session_images import ScaleSource
from ...models.scale.session_scale import SessionScale
from ...statistics.ratios.ratio_notes import (
    DOES_NOT_FIT,
    RESTS_ON_SIZES,
    TOO_FEW_KNOWN,
    UNLIKE,
    is_unlike_others,
)
from .base import Look, margins, stack_panels, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# ---- the numbers of atoms in a session with the peaks that were fitted, beside the classes

_BARS, _PEAKS = "#56b4e9", "#d55e00"
_BIN_WIDTH = 0.05
"""Width of the bars in ln(number of atoms)."""


def describe_class_fit(summary: SessionSummary) -> str:
    """Say whether the sizes of a session are those of the classes, and name the free peaks."""
    fit = summary.class_fit
    assert fit is not None
    if fit.fits:
        peaks = [f"{atoms:.0f} ({100 * share:.0f} %)" for atoms, share in fit.peaks]
        has_known = np.isfinite(summary.scale.known_agreement)
        of_unknown = " of the images of unknown composition" if has_known else ""
        fewer = len(peaks) < len(fit.atoms)
        why = "; with other scales of the images, fewer peaks than sizes can fit as well" * fewer
        text = (
            "The sizes agree with those of the classes. "
            f"Free peaks{of_unknown}, not drawn: {', '.join(peaks)} atoms{why}."
        )
        if not summary.scale.relies_on_sizes:
            return text
        return f"{text} {sentence(TOO_FEW_KNOWN if has_known else RESTS_ON_SIZES)}"
    peaks = [
        f"{atoms:.0f} ± {error:.0f} ({100 * share:.0f} %)"
        for atoms, error, share in zip(fit.atoms, fit.atoms_error, fit.shares, strict=True)
    ]
    verb = "do" if fit.answer == DOES_NOT_FIT else "may"
    return (
        f"⚠ The sizes {verb} not agree with those of the classes. Peaks in atoms: "
        f"{', '.join(peaks)}."
    )


def draw_class_fit(figure: Figure, look: Look, fit: ClassFit, sizes: Sequence[float]) -> None:
    """Draw the histogram of the numbers of atoms, the fitted peaks, and lines at the classes."""
    axes = figure.subplots(gridspec_kw=margins(figure, look))
    shown = np.append(fit.log_count, np.log(sizes))
    low, high = shown.min() - 2 * _BIN_WIDTH, shown.max() + 2 * _BIN_WIDTH
    edges = np.arange(low, high + _BIN_WIDTH, _BIN_WIDTH)
    axes.hist(
        np.exp(fit.log_count), list(np.exp(edges)), weights=fit.number, color=_BARS, alpha=0.6
    )
    x = np.linspace(low, high, 400)
    z = (x[:, None] - np.log(fit.atoms)) / fit.scatter
    density = np.exp(-0.5 * z**2) * fit.shares / (fit.scatter * np.sqrt(2 * np.pi))
    peaks = fit.number.sum() * _BIN_WIDTH * density.sum(axis=1)
    axes.plot(np.exp(x), peaks, color=_PEAKS, linewidth=1.5)
    for atoms in sizes:
        axes.axvline(atoms, color=look.ink, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlim=tuple(np.exp((low, high))), ylabel="Clusters")
    axes.set_xticks(list(sizes), [f"{atoms:g}" for atoms in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("Atoms (dotted: classes)")
    axes.locator_params(axis="y", nbins=4, integer=True)
    peaks_at = "peaks at the classes" if fit.fits else "free peaks"
    style_axes(axes, look, f"Blue: clusters, red: {peaks_at}")


# Blue, orange and green of Okabe and Ito, distinct for people with colour-vision deficiency.
_SESSION, _IMAGE, _KNOWN = "#56b4e9", "#e69f00", "#009e73"
_SOURCE = "#cc79a7"
_UNLIKELY = 0.01
"""Probability density, relative to the largest, below which the scale of an image is not drawn."""
_MARGIN = 0.1
MAX_SESSIONS = 12
"""Number of sessions of a run that the report draws."""
MIN_SHOWN = 0.01
"""Smallest weight of a solution that is shown."""


@dataclass(frozen=True, eq=False)
class SessionSummary:
    """The scales of a session."""

    name: str
    images: Sequence[str]
    scale: SessionScale  # joint posterior of their scales
    # image → class → share of the clusters, for images of known samples
    known: Mapping[str, Composition] = field(default_factory=dict)
    class_fit: ClassFit | None = None  # test of the sizes of the session
    sources: Sequence[ScaleSource] = ()  # posterior of its scale by each source alone
    sizes: Sequence[float] = ()  # numbers of atoms of the classes
    # what the records of its images say of it, on which their labels rest; empty: that is `scale`
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_histogram(self) -> bool:
        """Whether its sizes were tested, with enough clusters."""
        return self.class_fit is not None and len(self.class_fit.atoms) > 0

    def unfit(self) -> list[str]:
        """Return the images whose scale is unlike that of the others."""
        pairs = zip(self.images, self.scale.outlying, strict=True)
        return [image for image, probability in pairs if probability > UNLIKE]

    def contradictions(self) -> list[str]:
        """Describe the known samples that their clusters contradict, one sentence each."""
        scale = self.scale
        rows = zip(
            self.images, scale.contradicted, scale.log_bayes_factor, scale.measured, strict=True
        )
        return _describe_contradictions(
            (image, sample, factor, measured.shares is not None)
            for image, contradicted, factor, measured in rows
            if contradicted and (sample := self.known.get(image))
        )


def solutions_of(scale: ConstrainedMixture) -> list[tuple[float, float]]:
    """Return intensity of one atom and weight of each solution of an image, the best one first."""
    pairs = zip(np.exp(scale.shift[:, 0]), scale.weight, strict=True)
    return [(float(value), float(weight)) for value, weight in pairs if weight >= MIN_SHOWN]


def describe_solutions(scale: ConstrainedMixture) -> str:
    """Describe the solutions of an image: ``1.30 counts nm² (87 %), 1.75 (13 %)``."""
    parts = [f"{value:.3g} ({100 * weight:.0f} %)" for value, weight in solutions_of(scale)]
    return ", or ".join(parts).replace(" (", " counts nm² (", 1)


def _describe_scale(summary: SessionSummary) -> str:
    """Describe the scale on which the labels rest, and that of the clusters now if it differs.

    The labels keep their scale when clusters are edited, and so does the record of a report.
    """
    scale, record = summary.scale, summary.record

    def describe(value: float, low: float, high: float) -> str:
        return f"{value:.3g} counts nm² (95 %: {low:.3g} to {high:.3g})"

    now = used = describe(np.exp(scale.log_scale), *np.exp(scale.interval()))
    if "intensity_per_atom" in record:
        used = describe(*(record[f"intensity_per_atom{end}"] for end in ("", "_low", "_high")))
    text = f"Session {summary.name}, {pluralise(len(summary.images), 'image')}: {used}."
    if len(summary.images) > 1:
        spread = record.get("spread_of_scales", scale.spread)
        text += f" Its images differ by about {100 * spread:.0f}\u00a0%."
    if used != now:
        text += (
            " The labels rest on this intensity. The clusters as they are now, which the charts "
            f"show, give {now}."
        )
    return text


def describe_session(summary: SessionSummary) -> str:
    """Describe the scale of a session, its known samples, and the images that do not fit."""
    lines = [_describe_scale(summary)]
    known = [
        f"{image} ({format_composition(summary.known[image])})"
        for image in summary.images
        if image in summary.known
    ]
    if known:
        lines.append(f"Known: {first_names(known)}.")
    lines += [f"⚠ {reason}." for reason in summary.contradictions()]
    unfit = summary.unfit()
    if summary.class_fit is not None and summary.has_histogram:
        lines.append(describe_class_fit(summary))
    if unfit:
        verb = "does" if len(unfit) == 1 else "do"
        lines.append(
            f"⚠ {first_names(unfit)} {verb} not fit the session: recorded with other settings, or "
            "no clusters of these classes."
        )
    return "\n".join(lines)


def contradictions(
    parameters: Mapping[str, Mapping[str, Any]], known: Mapping[str, Composition]
) -> list[str]:
    """Describe the known samples that their clusters contradict, by the parameters of images."""
    tests = {
        image: parameters.get(image, {}).get("session", {}).get("known_sample", {})
        for image, sample in known.items()
        if sample
    }
    return _describe_contradictions(
        (image, known[image], test["log_bayes_factor"], test["used"])
        for image, test in tests.items()
        if test.get("contradicted")
    )


def _describe_contradictions(tests: Iterable[tuple[str, Composition, float, bool]]) -> list[str]:
    """Describe contradicted known samples in a sentence for all images of one sample."""
    alike: dict[tuple[str, bool], list[tuple[str, float]]] = {}
    for image, sample, factor, used in tests:
        alike.setdefault((format_composition(sample), used), []).append((image, factor))
    return [
        f"{first_names([image for image, _ in found])}: "
        + describe_contradiction([factor for _, factor in found], used, sample)
        for (sample, used), found in alike.items()
    ]


def describe_contradiction(
    log_bayes_factors: Sequence[float], used: bool, sample: str = "of this image"
) -> str:
    """Describe a known sample whose clusters contradict the stated composition."""
    low, high = (f"{value:.0f}" for value in (min(log_bayes_factors), max(log_bayes_factors)))
    factor = low if low == high else f"{low} to {high}"
    consequence = "it was used nevertheless" if used else "it was not used for the intensity scale"
    return (
        f"the clusters contradict the known sample {sample} (log Bayes factor {factor}): "
        f"{consequence}"
    )


def describe_sessions(
    sessions: Sequence[AcquisitionSession],
    joint: Mapping[str, dict[str, Any]],  # image → what its record says of its session
    # image → number of clusters with another label than by the image itself; None if not known
    n_changed: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Describe the sessions whose images were labelled jointly, for a record."""
    found = []
    for session in sessions:
        images = [name for name in session.images if name in joint]
        if not images:
            continue
        of_image = ("unlike_the_others", "draws", "known_sample")
        described = {k: v for k, v in joint[images[0]].items() if k not in of_image}
        if n_changed is not None:
            changed = [n_changed.get(name, 0) for name in images]
            described["images_changed"] = sum(n > 0 for n in changed)
            described["clusters_changed"] = sum(changed)
        found.append(
            {
                "session": session.name,
                **described,
                "unlike_the_others": [n for n in images if is_unlike_others(joint[n])],
                "known": {n: dict(session.known[n]) for n in images if n in session.known},
                "known_samples": {
                    n: joint[n]["known_sample"] for n in images if "known_sample" in joint[n]
                },
            }
        )
    return found


def draw_session_scale(
    figure: Figure,
    look: Look,
    summary: SessionSummary,
    solutions: Sequence[tuple[float, float]] = (),
) -> None:
    """Draw the scale of a session with the solutions of one image, its sources, and all images.

    The pale area is the distribution from which the session draws the scales of its images. Each
    source has a row with its posterior.
    """
    scale = summary.scale
    n = len(summary.sources)
    above, *between, below = stack_panels(figure, look, (3, n, 2) if n else (3, 2))
    above.set_title("Blue: session" + (", orange: this image" if solutions else ""))
    density = scale.posterior / scale.posterior.max()
    x, of_an_image = np.exp(scale.grid), _expected_of_an_image(scale)
    above.fill_between(x, of_an_image, color=_SESSION, alpha=0.2, linewidth=0)
    above.fill_between(x, density, color=_SESSION, alpha=0.5, linewidth=0)
    above.plot(x, density, color=_SESSION, linewidth=1.2)
    values = np.array([value for value, _ in solutions])
    weights = [weight for _, weight in solutions]
    for axes in between:
        _draw_sources(axes, look, summary.sources)
    above.vlines(values, 0, weights, color=_IMAGE, linewidth=3)
    above.set(ylim=(0, 1.08), yticks=(0, 1), yticklabels=("0", "1"))
    best = np.array([np.exp(modes.log_scale[0]) for modes in scale.images])
    _draw_images(below, look, summary, best)
    drawn = np.concatenate([x[of_an_image > _UNLIKELY], values, best])
    low, high = drawn.min() * (1 - _MARGIN), drawn.max() * (1 + _MARGIN)
    below.set(xlim=(low, high), xlabel="Intensity of one atom / counts nm²")
    below.locator_params(axis="x", nbins=5)


def _expected_of_an_image(scale: SessionScale) -> np.ndarray:
    """Compute the density of the scale of an image of the session, relative to the largest."""
    distance = (scale.grid[:, None] - scale.grid) / scale.spread
    density = np.exp(-0.5 * distance**2) @ scale.posterior
    return np.asarray(density / density.max())


def _draw_sources(axes: Any, look: Look, sources: Sequence[ScaleSource]) -> None:
    """Draw the posterior by each source in a row of its own, below the name of the source."""
    for row, source in enumerate(reversed(sources)):
        height = row + 0.5 * source.posterior / source.posterior.max()
        axes.fill_between(np.exp(source.grid), row, height, color=_SOURCE, alpha=0.7, linewidth=0)
        axes.annotate(
            source.name, (0, row + 0.5), xycoords=("axes fraction", "data"), color=look.ink,
            fontsize=0.9 * look.font_pt,
        )  # fmt: skip
    axes.set_title("Single sources")
    axes.set(ylim=(0, len(sources)), yticks=())


def _draw_images(axes: Any, look: Look, summary: SessionSummary, best: np.ndarray) -> None:
    """Draw the best scale of every image: known samples as diamonds, unfit images as crosses."""
    names = list(summary.images)
    unfit = np.isin(names, summary.unfit())
    known = np.isin(names, list(summary.known)) & ~unfit
    # Images with the same scale do not hide each other.
    height = np.linspace(0.8, 0.2, len(names)) if len(names) > 1 else np.array([0.5])
    size = look.font_pt
    for rows, marker, colour in (
        (~(known | unfit), "o", look.ink),
        (known, "D", _KNOWN),
        (unfit, "x", look.ink),
    ):
        axes.plot(best[rows], height[rows], marker, color=colour, markersize=0.5 * size, alpha=0.8)
    texts = ["Images"]
    texts += ["◆ known sample"] if known.any() else []  # short: they fit in a narrow dock
    texts += ["× does not fit"] if unfit.any() else []
    axes.set_title(", ".join(texts))
    axes.set(ylim=(0, 1), yticks=())
