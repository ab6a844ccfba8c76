"""Recompute the check of the simulation against multislice in ``explanation/simulation.md``.

    python docs/scripts/make_simulation.py

Needs the extras `simulation` and `multislice`; takes some minutes. Replaces what stands between
the two markers in the page, and the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.progress import track

from multislice import incoherent_image, multislice_image
from napari_atomicity.simulation.deposits import orient_isomer
from napari_atomicity.simulation.imaging import Microscope, cross_section_nm2
from napari_atomicity.simulation.structures import Isomer, make_isomer

HERE = Path(__file__).resolve().parents[1]
PAGE = HERE / "explanation" / "simulation.md"
PICTURE = HERE / "images" / "multislice.png"
BEGIN, END = "<!-- multislice -->\n", "<!-- end of multislice -->\n"

SIZES = (19, 30, 41, 55, 70)
PIXEL_NM = 0.05
MICROSCOPE = Microscope()
KINDS = {"fcc": "rows along the beam", "annealed": "turned at random"}


@dataclass(frozen=True, eq=False)
class Compared:
    """One isomer both ways; intensities per atom in units of a single atom's."""

    label: str
    kind: str
    ours: np.ndarray
    exact: np.ndarray
    ours_per_atom: float
    exact_per_atom: float

    @property
    def correlation(self) -> float:
        return float(np.corrcoef(self.ours.flat, self.exact.flat)[0, 1])


def isomers() -> list[Isomer]:
    """Of each size an fcc one with its rows along the beam, which they focus, and a turned one."""
    rng = np.random.default_rng(0)
    chosen = []
    for n in SIZES:
        for kind in KINDS:
            isomer = make_isomer("Pt", n, kind, seed=n)
            if kind == "fcc":  # made with a close-packed row along the first axis
                positions = isomer.positions_nm[:, ::-1]
            else:
                positions = orient_isomer(isomer, rng).astype(np.float32)
            chosen.append(replace(isomer, positions_nm=positions))
    return chosen


def single_atom_nm2(element: str, angles_mrad: tuple[float, float]) -> float:
    """Cross-section of an atom by multislice."""
    atom = Isomer(element, "fcc", np.zeros((1, 3), np.float32))
    image = multislice_image(atom, MICROSCOPE, PIXEL_NM, angles_mrad, configurations=4)
    return float(image.sum() * PIXEL_NM**2)


def compared(isomer: Isomer, one_atom_nm2: float) -> Compared:
    ours = incoherent_image(isomer, MICROSCOPE, PIXEL_NM)
    exact = multislice_image(isomer, MICROSCOPE, PIXEL_NM)
    area = PIXEL_NM**2 / isomer.n
    return Compared(
        isomer.label,
        isomer.kind,
        ours,
        exact,
        float(ours.sum() * area / cross_section_nm2(isomer.element)),
        float(exact.sum() * area / one_atom_nm2),
    )


def table(results: list[Compared]) -> list[str]:
    lines = [
        "| class | isomer | correlation of the images | intensity per atom, multislice | ours "
        "| ours / multislice |",
        "|---|---|---|---|---|---|",
    ]
    for r in results:
        ratio = r.ours_per_atom / r.exact_per_atom
        lines.append(
            f"| {r.label} | {r.kind}, {KINDS[r.kind]} | {r.correlation:.3f} "
            f"| {r.exact_per_atom:.3f} | {r.ours_per_atom:.3f} | {ratio:.3f} |"
        )
    return lines


def picture(results: list[Compared]) -> None:
    figure, axes = plt.subplots(4, len(SIZES), figsize=(9, 7.4), layout="constrained")
    for k, kind in enumerate(KINDS):
        for column, r in enumerate([r for r in results if r.kind == kind]):
            for row, (name, image) in enumerate({"multislice": r.exact, "ours": r.ours}.items()):
                axis = axes[2 * k + row, column]
                axis.imshow(image, cmap="gray", vmin=0)
                axis.set(xticks=[], yticks=[])
                if row == 0:
                    axis.set_title(f"{r.label}, {kind}", fontsize=9)
                if column == 0:
                    axis.set_ylabel(name, fontsize=9)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=90)


def main() -> None:
    wide, ring = (68.0, 280.0), (68.0, 150.0)
    absolute = {e: single_atom_nm2(e, wide) / cross_section_nm2(e) for e in ("Pt", "C")}
    one_atom = single_atom_nm2("Pt", ring)
    results = [compared(i, one_atom) for i in track(isomers(), "Multislice")]
    picture(results)
    ratio = np.array([r.ours_per_atom / r.exact_per_atom for r in results])
    text = [
        *table(results),
        "",
        f"The mean of ours / multislice is {ratio.mean():.3f}, with a range from "
        f"{ratio.min():.3f} to {ratio.max():.3f}. A single atom scatters {absolute['Pt']:.2f} (Pt) "
        f"and {absolute['C']:.2f} (C) of our cross-sections into 68 to 280 mrad.",
        "",
    ]
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n".join(text) + END + after, encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
