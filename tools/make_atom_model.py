"""The shipped model: its data and its recipe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.training.atoms.labelled import LabelledImage, read_labelled
from napari_atomicity.training.atoms.run import train_on_images
from napari_atomicity.training.atoms.settings import AtomRecipe, AtomTrainingSettings

SHIPPED_RECIPE = AtomRecipe(
    AtomTrainingSettings(),
    folds=5,
    members=0,
    fold_members=4,
    also=(AtomTrainingSettings(steps=1200, strength=0.5, blur=(-1.2, 0.2), scale=(-0.15, 0.15)),),
    scales=(1.0, 0.8),
)
MOLECULAR_PIXEL_NM = 0.01603
"""The molecular set's files don't say theirs; its authors' script does."""
ABOUT: dict[str, Any] = {
    "description": (
        "Finds single heavy-metal atoms in HAADF-STEM images: a small U-Net on local contrast at a "
        "common sampling of 0.03 nm, several of them averaged over the symmetries of the square."
    ),
    "intended_use": (
        "Pt, Re and metals as heavy on carbon, 0.01 to 0.06 nm per pixel. Check the operating "
        "point on an image of your own."
    ),
}
SOURCES = {
    "Pt/NC": {
        "what": "Pt on N-doped carbon, github.com/HPAI-BSC/AtomDetection_ACSTEM",
        "licence": "MIT",
        "cite": "J. Am. Chem. Soc. (2022), doi:10.1021/jacs.1c12466",
    },
    "Pt porphyrin": {
        "what": "github.com/Sjeon1/HAADF_Atom_Detection, Ptporph*",
        "licence": "MIT",
        "cite": "Matter, S2590-2385(24)00588-5",
    },
    "Re bipyridine": {
        "what": "github.com/Sjeon1/HAADF_Atom_Detection, bpy_crop*",
        "licence": "MIT",
        "cite": "Matter, S2590-2385(24)00588-5",
    },
}
SAME_FIELD = (("025", "027"), ("034", "037"), ("047", "048", "051"))
"""Images of the Pt/NC set that show the same place again (they correlate at a small shift): they
are never on two sides of a split."""
MARKED_CONTRAST = 1.8
"""Between the contrast of marked atoms (about 4) and of places at random (about 0.8)."""
CLEAR_CONTRAST = 2.3
_MARK_PX = 2.0, 15.0, 5


def read_shared_images(
    directories: Sequence[Path], own_marks: bool = True
) -> tuple[list[LabelledImage], dict[str, dict[str, Any]]]:
    """Read the labelled images of the shipped model; return them and the marks that were moved."""
    images = [i for folder in directories for i in read_labelled(folder, MOLECULAR_PIXEL_NM)]
    names = {"Ptporph": "Pt porphyrin", "bpy": "Re bipyridine"}
    images = [
        replace(i, source=next((s for n, s in names.items() if i.name.startswith(n)), "Pt/NC"))
        for i in images
    ]
    images = group_by_field(images)
    if not own_marks:
        return images, {}
    fixed, moved = reassign_marks([i for i in images if i.source in names.values()])
    return [i for i in images if i.source not in names.values()] + fixed, moved


def group_by_field(images: Iterable[LabelledImage]) -> list[LabelledImage]:
    """Return the images with those of one place (`SAME_FIELD`) in one group."""
    groups = {name: same[0] for same in SAME_FIELD for name in same}
    return [
        replace(i, group=next((g for n, g in groups.items() if i.name.startswith(f"{n}_")), i.name))
        for i in images
    ]


def contrast_at_marks(image: LabelledImage) -> np.ndarray:
    """Return the highest difference of Gaussians within two pixels (Y, X), standardised."""
    fine, wide, size = _MARK_PX
    band = ndimage.gaussian_filter(image.pixels, fine) - ndimage.gaussian_filter(image.pixels, wide)
    return np.asarray(ndimage.maximum_filter(band, size) / max(float(band.std()), 1e-12))


def reassign_marks(
    images: Sequence[LabelledImage],
) -> tuple[list[LabelledImage], dict[str, dict[str, Any]]]:
    """Move marks to the image that they belong to.

    A tool that keeps the marks of the previous image writes tables whose last rows belong to
    another image. If the marks from some row on are on no spots of their own image (change of the
    mean contrast, by the largest cumulative sum), they move to the image of the same set in which
    they are on spots. Without such an image they are removed.

    Parameters
    ----------
    images : sequence of LabelledImage
        Images with their marks.

    Returns
    -------
    images : list of LabelledImage
        In the same order.
    moved : dict
        Image → number of its own marks, number of others, and the image that these belong to (""
        if there is none); only images with such marks.
    """
    maps = {i.name: contrast_at_marks(i) for i in images}

    def at(name: str, points: np.ndarray) -> np.ndarray:
        place = np.clip(points.round().astype(int), 0, np.array(maps[name].shape) - 1)
        return np.asarray(maps[name][tuple(place.T)])

    own = {i.name: i.points for i in images}
    gained: dict[str, list[np.ndarray]] = {i.name: [] for i in images}
    moved: dict[str, dict[str, Any]] = {}
    for image in images:
        total = np.concatenate([[0.0], np.cumsum(at(image.name, image.points) - MARKED_CONTRAST)])
        n = int(total.argmax())
        rest = image.points[n:]
        if not len(rest):
            continue
        own[image.name] = image.points[:n]
        others = [i.name for i in images if i.source == image.source and i.name != image.name]
        contrast = {name: float(at(name, rest).mean()) for name in others}
        best = max(contrast, key=contrast.__getitem__, default="")
        known = len(rest) >= 2 and bool(best) and contrast[best] > CLEAR_CONTRAST
        if known:
            gained[best].append(rest)
        moved[image.name] = {"own": n, "not": len(rest), "to": best if known else ""}
    out = []
    for image in images:
        points = own[image.name]
        for more in gained[image.name]:
            if len(points):
                gap = np.linalg.norm(more[:, None] - points[None], axis=2).min(axis=1)
                more = more[gap > _MARK_PX[2]]
            points = np.concatenate([points, more])
        out.append(replace(image, points=points))
    return out, moved


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the shipped atom model."""
    parser = argparse.ArgumentParser(prog="python tools/make_atom_model.py")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of the sets")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file")
    parser.add_argument("--build", type=Path, help="where networks are kept once they are trained")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    try:
        images, moved = read_shared_images(given.data)
        card = train_on_images(
            images,
            given.out,
            SHIPPED_RECIPE,
            build=given.build,
            workers=given.workers,
            about={**ABOUT, "data": _data(images, moved)},
            progress=lambda done, total, what: (
                print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)
                if done % 100 == 0 or done == total
                else None
            ),
        )
    except AtomicityError as error:
        print(error, file=sys.stderr)
        return 1
    print(card.model_id, card.scores)
    return 0


def _data(images: Sequence[LabelledImage], moved: Mapping[str, Any]) -> dict[str, Any]:
    counts = {
        source: {
            **about,
            "images": sum(i.source == source for i in images),
            "atoms": sum(len(i.points) for i in images if i.source == source),
        }
        for source, about in SOURCES.items()
    }
    return {**counts, "simulated": "atoms on amorphous carbon", "marks_moved": dict(moved)}


if __name__ == "__main__":
    raise SystemExit(main())
