"""The report of a run for single atoms: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ..io.files import to_json, write_text
from .charts import as_image
from .rendering import get_template

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOUND = "lower bound"


def atom_section_images(
    image: str, overview: Figure | None, chart: Figure | None
) -> dict[str, Markup]:  # fmt: skip
    """The pictures of an image as its section holds them; drawn as results come."""
    return {
        "overview": as_image(overview, "parity", f"The atoms of {image}"),
        "chart": as_image(chart, "chart", f"Dispersion of the atoms of {image}"),
    }


def write_atom_report(
    path: Path,
    record: Mapping[str, Any],
    dispersion: pd.DataFrame,
    pictures: Mapping[str, Mapping[str, Markup]],
    chart: Figure | None,
) -> Path:
    """Write the report.

    Parameters
    ----------
    path
        Of the HTML file.
    record
        As of `provenance.run_record`.
    dispersion
        The rows of ``dispersion.csv``.
    pictures
        Image → `atom_section_images`; images without any have no section.
    chart
        The curves of all images together.

    Raises
    ------
    AtomicityError
        If the file can't be written.
    """
    done = [image for image in record["images"] if image["status"] == "done"]
    html = get_template("atoms.html.j2").render(
        record=record,
        record_json=to_json(record),
        n_atoms=sum(image["atoms"] or 0 for image in done),
        rows=[_row(row) for row in dispersion.to_dict("records")],
        chart=as_image(chart, "chart", "Dispersion of the atoms of all images"),
        failed=[image for image in record["images"] if image["status"] == "failed"],
        images=[
            {"outcome": image, **pictures[image["image"]]}
            for image in done
            if image["image"] in pictures
        ],
        methods=methods(record, done),
    )
    return write_text(path, html)


def _row(row: Mapping[Any, Any]) -> dict[str, str]:
    def value(name: str, digits: int = 2, factor: float = 1.0) -> str:
        number = row.get(name, np.nan)
        return f"{factor * number:.{digits}f}" if pd.notna(number) else "–"

    def between(before: str, unit: str, digits: int = 2) -> str:
        low, high = (value(f"{before}_{end}_{unit}", digits) for end in ("low", "high"))
        return f"{value(f'{before}_{unit}', digits)} ({low}–{high})"

    known = pd.notna(row.get("density_per_nm2", np.nan))
    complete = pd.notna(row.get("density_complete_per_nm2", np.nan))
    bound = "≥ " if row.get("density_is") == BOUND else ""
    share, low, high = (
        value(f"completeness{end}", 0, 100) for end in ("", "_low", "_high")
    )  # fmt: skip
    return {
        "image": str(row["image"]),
        "n_atoms": str(row["n_atoms"]),
        "support": value("support_nm2", 0),
        "density": bound + between("density", "per_nm2", 3) if known else "–",
        "neighbour": between("nearest_neighbour_median", "nm") if known else "–",
        "isolated": f"{value('share_isolated', 0, 100)} %" if known else "–",
        "completeness": "–" if share == "–" else f"{share} % ({low}–{high})",
        "complete": between("density_complete", "per_nm2") if complete else "–",
    }


def methods(record: Mapping[str, Any], done: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paragraphs for a supplement: every sentence is there because the record says so."""
    asked, model = record["parameters"], record["model"]
    sizes = sorted({image["pixel_size_nm"] for image in done if image["pixel_size_nm"]})
    pixels = "" if not sizes else f" ({_span(sizes)} nm per pixel)"
    number = "1 image" if len(done) == 1 else f"{len(done)} images"
    if asked["threshold"] is not None:
        point = f"Candidates with a probability of at least {asked['threshold']:g} were reported."
    elif asked["precision"] is not None:
        point = (
            f"In each image as many candidates were reported as an expected precision of "
            f"{asked['precision']:g} allows."
        )
    else:
        point = (
            "In each image candidates were reported down to a probability near the one of the best "
            "expected F1."
        )
    found = (
        f"Single atoms were found in {number}{pixels} with napari-atomicity {record['version']}, "
        f"model {model['model_id']}: convolutional networks on local contrast at a common sampling "
        "give candidates, which are fitted by Gaussians; calibrated on marks of people, scores are "
        f"probabilities that a person would mark an atom. {point} Atoms no further apart than "
        f"{asked['group_distance_nm']:g} nm belong to one group."
    )
    spread = (
        "Densities are sums of the probabilities over the area of the support, without vacuum, "
        "with intervals that hold detection and sampling; distances, Ripley's L and the pair "
        "correlation are corrected for the edges of the support and compared with random atoms on "
        "it (B. D. Ripley, J. R. Stat. Soc. B 39, 172 (1977); P. J. Clark and F. C. Evans, Ecology "
        "35, 445 (1954))."
    )
    paragraphs = [found, spread]
    if asked.get("completeness"):
        paragraphs.append(
            "How many atoms are found was estimated by adding spots of known heights to the images "
            "and looking for atoms again (as P. B. Stetson, Publ. Astron. Soc. Pac. 99, 191 "
            "(1987)), with a scatter of the heights of 25 to 45 %; the density of all atoms is "
            "the one that agrees with how many candidates of every score there are."
        )
    return paragraphs


def _span(values: Sequence[float]) -> str:
    low, high = f"{values[0]:.4g}", f"{values[-1]:.4g}"
    return low if low == high else f"{low} to {high}"
