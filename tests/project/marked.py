"""Projects in whose images people have marked atoms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from napari_atomicity.atoms.analysis import AtomAnalysis
from napari_atomicity.atoms.table import conform
from napari_atomicity.io.images import load
from napari_atomicity.project import Project
from napari_atomicity.project.packs.annotation_packs import export_pack

PX_NM = 0.1
PLACES = [(20.0, 20.0), (20.0, 60.0), (60.0, 20.0), (60.0, 60.0), (90.0, 120.0)]


def described(project: Project) -> Project:
    for image in project.images():
        project.image_files.update_metadata(load(image.path))
    return project


def filled(tmp_path: Path, who: str, blind: bool = True, **tables: str) -> Path:
    """A pack of the three images that came back."""
    pack = tmp_path / "packs" / who
    images = [tmp_path / f"{name}.tif" for name in "abc"]
    export_pack(images, pack, who, blind)
    for name, rows in tables.items():
        (pack / "tables" / f"{name}.tif.csv").write_text(f"X,Y,uncertain\n{rows}\n")
    return pack


def as_marks(places, uncertain=()) -> pd.DataFrame:
    y, x = np.array(places, float).reshape(-1, 2).T
    unsure = np.isin(np.arange(len(y)), list(uncertain))
    return pd.DataFrame(
        {"y_px": y, "x_px": x, "y_nm": y * PX_NM, "x_nm": x * PX_NM, "uncertain": unsure}
    )


def atoms_at(places, frame: int = 0) -> pd.DataFrame:
    return as_marks(places).assign(frame=frame)


def three(project: Project, image: str = "a.tif") -> Project:
    """Ada and Bo mark all, Cleo misses two and marks another."""
    described(project)
    project.atoms.add_marks(image, "Ada", as_marks(PLACES), f"{image}/1")
    project.atoms.add_marks(image, "Bo", as_marks(PLACES, uncertain=[3]), f"{image}/2")
    project.atoms.add_marks(image, "Cleo", as_marks([*PLACES[:3], (100, 10)]), f"{image}/3")
    return project


def found_atoms(path: Path, places=None, confidence=(0.95, 0.8, 0.6, 0.3, 0.1)) -> AtomAnalysis:
    """What a model might say of an image file; the threshold is at 0.5."""
    micrograph = load(path)
    places = [(10.0 + 8 * i, 10.0 + 8 * i) for i in range(5)] if places is None else places
    table = as_marks(places).assign(
        image=micrograph.name,
        atom_id=np.arange(1, len(places) + 1),
        confidence=np.resize(confidence, len(places)),
        intensity=100.0,
        origin="model",
        model_id="tiny",
    )
    support = np.ones(micrograph.data.shape, bool)
    return AtomAnalysis(micrograph, conform(table), 0.5, support, PX_NM, "tiny", 0.9)
