"""The shipped model: its data and its recipe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.training.atoms.labelled import (
    LabelledImage,
    group_by_field,
    read_labelled,
    reassign_marks,
)
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
