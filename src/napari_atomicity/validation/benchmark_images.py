"""Images of the benchmark: simulated sessions, also cropped, in 8 bits, and with lone atoms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..core.micrograph import Micrograph
from ..simulation.fields import Field
from ..simulation.sessions import SessionImage, draw_session, simulate_session
from ..simulation.structures import Isomer
from .benchmark_settings import SEED

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
"""Classes of the sessions; those of "other sizes" have `simulation.sessions.OTHER_SIZES`."""
N_IMAGES = 8
"""Images of a session, before it is cropped."""
WHOLE, EIGHT_BITS, CROPS, LONE_ATOMS = "whole", "8 bits", "crops", "lone atoms"
VARIED = ("mixture", "one size per image")
"""Kinds of sessions of which there are all forms."""
FORMS_OF = {
    **dict.fromkeys(VARIED, (WHOLE, EIGHT_BITS, CROPS, LONE_ATOMS)),
    "one size": (WHOLE, LONE_ATOMS),
}
"""Kind of sessions → its forms; the other kinds are only whole."""
CROP_PX = 256
CROPS_PER_IMAGE = 2
CLIPPED_PERCENT = 0.35
LONE_ATOMS_PER_NM2 = 0.1


@dataclass(frozen=True, eq=False)
class BenchmarkImage:
    """An image of a session with its truth."""

    micrograph: Micrograph
    truth: pd.DataFrame  # columns ``x_px, y_px, diameter_nm, label, n_atoms, border``
    kind: str
    sample: str
    composition: dict[str, float]  # nominal fractions of the sample


def session_name(kind: str, seed: int, form: str) -> str:
    """Return the name of a session, which is that of its folder and begins those of its images."""
    return f"{kind}_{seed}_{form}".replace(" ", "_")


def simulate_form(
    library: Sequence[Isomer], kind: str, seed: int, form: str
) -> Iterator[BenchmarkImage]:
    """Simulate a session in one form, image by image."""
    plan = draw_session(kind, CLASSES, N_IMAGES, seed)
    if form == LONE_ATOMS:
        plan = [
            replace(one, settings=replace(one.settings, lone_atoms_per_nm2=LONE_ATOMS_PER_NM2))
            for one in plan
        ]
    crop_rng = np.random.default_rng([SEED, seed])
    for i, (planned, field) in enumerate(zip(plan, simulate_session(library, plan), strict=True)):
        name = f"{session_name(kind, seed, form)}_{i + 1:02d}.tif"
        image = _image_of(planned, field, kind, name)
        if form == EIGHT_BITS:
            yield to_8_bit(image)
        elif form == CROPS:
            yield from crop_clusters(image, crop_rng)
        else:
            yield image


def _image_of(planned: SessionImage, field: Field, kind: str, name: str) -> BenchmarkImage:
    renamed = {"touches_border": "border", "touches_neighbour": "touching", "kind": "structure"}
    truth = field.truth.rename(columns=renamed)
    micrograph = replace(field.micrograph, name=name)
    return BenchmarkImage(micrograph, truth, kind, planned.sample, planned.settings.mixture)


def to_8_bit(image: BenchmarkImage) -> BenchmarkImage:
    """Return the image in 8 bits, 0.35 % of its pixels clipped at both ends."""
    data = image.micrograph.data
    low, high = np.percentile(data, [CLIPPED_PERCENT, 100 - CLIPPED_PERCENT])
    pixels = np.clip(np.round((data - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    micrograph = Micrograph(pixels, image.micrograph.pixel_size_nm, name=image.micrograph.name)
    return replace(image, micrograph=micrograph)


def crop_clusters(image: BenchmarkImage, rng: np.random.Generator) -> list[BenchmarkImage]:
    """Crop the image around whole clusters, as one would record them at high magnification."""
    data, pixel = image.micrograph.data, image.micrograph.calibrated()
    truth = image.truth
    whole = truth[~truth["border"]]
    if min(data.shape) <= CROP_PX or len(whole) == 0:
        return []
    chosen = whole.iloc[rng.permutation(len(whole))[:CROPS_PER_IMAGE]]
    out = []
    for k, (y, x) in enumerate(chosen[["y_px", "x_px"]].to_numpy(float)):
        centre = np.array([y, x]) + rng.uniform(-CROP_PX / 4, CROP_PX / 4, 2)
        corner = np.clip(centre - CROP_PX / 2, 0, np.array(data.shape) - CROP_PX).astype(int)
        place = truth[["y_px", "x_px"]].to_numpy() - corner
        radius = truth["diameter_nm"].to_numpy(float) / pixel / 2
        inside = np.minimum(place, CROP_PX - 1 - place).min(axis=1)
        own = truth.assign(
            y_px=place[:, 0], x_px=place[:, 1], border=truth["border"] | (inside < radius)
        )
        pixels = data[corner[0] : corner[0] + CROP_PX, corner[1] : corner[1] + CROP_PX]
        stem, _, suffix = image.micrograph.name.rpartition(".")
        micrograph = Micrograph(pixels.copy(), pixel, name=f"{stem}_crop{k}.{suffix}")
        out.append(replace(image, micrograph=micrograph, truth=own[inside > -radius]))
    return out
