"""Simulated sessions: images that are recorded alike, with their truth.

The conditions of a session are drawn once. Gain, dose, focus and support scatter from image to
image, so that the intensity of one atom differs between images by much less than it does between
sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import AtomicityError
from .field_settings import FieldSettings, random_settings
from .fields import Field, simulate_field
from .structures import Isomer

KINDS = {
    "mixture": "two random mixtures of all classes, one after the other",
    "one size per image": "size-selected samples of all classes in random order",
    "one size": "one size-selected sample",
    "two sizes": "one random mixture of two classes",
    "few clusters": "as 'mixture' or as 'one size per image', one to five clusters per image",
    "other sizes": "size-selected samples of sizes that are not classes, and their mixture",
}
"""Kinds of sessions and their samples."""
OTHER_SIZES = ("Pt25", "Pt48")
"""Sizes that are no class of the shipped models."""
GAIN_SPREAD = (0.085, 0.14)
"""Standard deviation of ln gain between the images of a session, at least and at most. Together
with the dose's 10 % the intensity of one atom scatters by 0.13 to 0.17."""
SMALL_FIELDS = ((160, 1.0), (256, 1.5), (384, 4.0))
"""Edge in pixels and mean number of clusters of the images of a session of few clusters."""
MAX_FEW = 5
"""Number of whole clusters in such an image at most; at least there is one."""
MAX_TRIES = 200
"""Number of seeds to try for such an image."""


@dataclass(frozen=True)
class SessionImage:
    """All settings of an image of a simulated session."""

    name: str
    sample: str  # name of the sample; images of the same sample have the same mixture
    settings: FieldSettings  # its own conditions
    seed: int  # seed of the field
    log_scale: float  # logarithm of the intensity of one atom relative to the session's
    has_few: bool = False  # whether it has 1 to `MAX_FEW` whole clusters


def random_session_settings(classes: Sequence[str], rng: np.random.Generator) -> FieldSettings:
    """Draw the conditions of a session as `random_settings`, without extremes and with few flaws.

    Fields have 512 to 640 pixels along an edge; the mixture is the caller's.
    """
    settings = random_settings(classes, rng)
    edge = int(rng.integers(512, 641))
    microscope = replace(
        settings.microscope,
        defocus_nm=float(rng.normal(0, 4)),
        source_nm=float(rng.uniform(0.05, 0.13)),
        dose_e_per_a2=float(np.exp(rng.uniform(np.log(2000), np.log(20000)))),
        gain=float(np.exp(rng.uniform(np.log(1.5), np.log(30)))),
    )
    return replace(
        settings,
        shape_px=(edge, edge),
        pixel_size_nm=float(np.exp(rng.uniform(np.log(0.03), np.log(0.05)))),
        clusters_per_nm2=float(rng.uniform(0.015, 0.04)),
        mixture={},
        microscope=microscope,
        scan=replace(settings.scan, streaks=0.0),
        carbon_nm=float(rng.uniform(2, 5)),
        roughness=float(rng.uniform(0.02, 0.15)),
        step=0.0,
        aggregates=float(rng.uniform(0, 0.04)),
    )


def random_image_settings(
    settings: FieldSettings,
    rng: np.random.Generator,
    gain_spread: float = 0.0,  # standard deviation of ln gain
) -> FieldSettings:
    """Draw the conditions of an image of a session.

    Dose and thickness of the support scatter by 10 %, the focus by 2 nm, the black level by 20
    counts; astigmatism is the image's own.
    """
    of_session = settings.microscope
    microscope = replace(
        of_session,
        dose_e_per_a2=float(of_session.dose_e_per_a2 * np.exp(rng.normal(0, 0.1))),
        defocus_nm=float(of_session.defocus_nm + rng.normal(0, 2)),
        astigmatism_nm=float(abs(rng.normal(0, 0.7))),
        astigmatism_rad=float(rng.uniform(0, np.pi)),
        black_level=float(max(0, of_session.black_level + rng.normal(0, 20))),
    )
    carbon_nm = float(settings.carbon_nm * np.exp(rng.normal(0, 0.1)))
    if gain_spread > 0:
        gain = float(of_session.gain * np.exp(rng.normal(0, gain_spread)))
        microscope = replace(microscope, gain=gain)
    return replace(settings, carbon_nm=carbon_nm, microscope=microscope)


def draw_samples(
    kind: str,
    classes: Sequence[str],
    n_images: int,
    rng: np.random.Generator,
    other_sizes: Sequence[str] = OTHER_SIZES,
) -> list[tuple[str, dict[str, float]]]:
    """Draw the samples of the images of a session.

    Raises `AtomicityError` if there is no such kind.
    """
    if kind not in KINDS:
        raise AtomicityError(
            f"there is no session of the kind {kind!r}", advice=f"Known are {', '.join(KINDS)}"
        )
    if kind == "few clusters":
        kind = str(rng.choice(["mixture", "one size per image"]))
    if kind == "mixture":
        drawn = rng.dirichlet([2.0] * len(classes), size=2)
        samples = [
            (f"mixture {k + 1}", dict(zip(classes, map(float, shares), strict=True)))
            for k, shares in enumerate(drawn)
        ]
        return [samples[2 * i // n_images] for i in range(n_images)]
    if kind == "one size per image":
        names = [c for _ in range(0, n_images, len(classes)) for c in rng.permutation(classes)]
        return [(str(c), {str(c): 1.0}) for c in names[:n_images]]
    if kind == "one size":
        label = str(rng.choice(classes))
        return [(label, {label: 1.0})] * n_images
    if kind == "two sizes":
        first, second = (str(c) for c in rng.choice(classes, 2, replace=False))
        share = float(rng.uniform(0.25, 0.75))
        return [(f"{first} and {second}", {first: share, second: 1 - share})] * n_images
    of_sizes = [(label, {label: 1.0}) for label in other_sizes]
    of_sizes.append((" and ".join(other_sizes), dict.fromkeys(other_sizes, 1 / len(other_sizes))))
    return [of_sizes[i % len(of_sizes)] for i in range(n_images)]


def draw_session(
    kind: str,
    classes: Sequence[str],
    n_images: int,
    seed: int,
    # Conditions of the session without the mixture. Default: `random_session_settings`.
    settings: FieldSettings | None = None,
    # Standard deviation of ln gain between images. Default: drawn from `GAIN_SPREAD`.
    gain_spread: float | None = None,
) -> list[SessionImage]:
    """Draw the images of a session.

    Raises `AtomicityError` if there is no such kind.
    """
    rng = np.random.default_rng([seed, *kind.encode()])
    drawn = random_session_settings(classes, rng)
    of_session = drawn if settings is None else settings
    drawn_spread = float(rng.uniform(*GAIN_SPREAD))
    spread = drawn_spread if gain_spread is None else gain_spread
    samples = draw_samples(kind, classes, n_images, rng)
    intensity = of_session.microscope.dose_e_per_a2 * of_session.microscope.gain
    images = []
    for i, (sample, mixture) in enumerate(samples):
        own = random_image_settings(of_session, rng, spread)
        own = replace(own, mixture=mixture)
        if kind == "few clusters":
            own = _small_field(own, rng)
        log_scale = np.log(own.microscope.dose_e_per_a2 * own.microscope.gain / intensity)
        images.append(
            SessionImage(
                name=f"{kind.replace(' ', '_')}_{i + 1:02d}.tif",
                sample=sample,
                settings=own,
                seed=int(rng.integers(2**31)),
                log_scale=float(log_scale),
                has_few=kind == "few clusters",
            )
        )
    return images


def _small_field(settings: FieldSettings, rng: np.random.Generator) -> FieldSettings:
    edge, mean_number = SMALL_FIELDS[rng.integers(len(SMALL_FIELDS))]
    density = mean_number / (edge * settings.pixel_size_nm) ** 2
    return replace(settings, shape_px=(edge, edge), clusters_per_nm2=density)


def simulate_session(library: Sequence[Isomer], images: Sequence[SessionImage]) -> Iterator[Field]:
    """Simulate the images of a session, one after another.

    Images of few clusters take the first seeds that give 1 to `MAX_FEW` whole clusters.

    Raises `AtomicityError` if the library lacks a size.
    """
    for image in images:
        seeds = range(image.seed, image.seed + (MAX_TRIES if image.has_few else 1))
        for seed in seeds:
            field = simulate_field(library, image.settings, seed, image.name)
            n_whole = int((~field.truth["touches_border"]).sum())
            if not image.has_few or 1 <= n_whole <= MAX_FEW:
                break
        yield field
