"""The report of a run for single atoms: one self-contained HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ..atoms.marks import ImageAtoms
from ..core.text import listed, pluralise
from ..io.files import to_json, write_text
from ..statistics.points.loading_settings import ATOMIC_WEIGHTS_G_MOL, NO_METAL
from ..statistics.points.metal_loading import NOT_CORRECTED
from ..statistics.samples.comparison import SampleComparison
from .charts import as_image
from .template_data import get_template, sample_context

BOUND = "lower bound"
MARKS, MANUAL_THRESHOLD = "marks", "manual_threshold"
"""Keys of the parameters of an image: what people have marked; whether they set the threshold."""
_MARKED = ("added", "confirmed_or_moved", "removed")
_MAPS = ("atoms", "density")
_TEXTS = {
    "atoms": "The atoms",
    "density": "Density of the atoms",
    "dispersion": "Dispersion of the atoms",
    "groups": "Neighbour distances and groups of the atoms",
    "images": "Density, neighbour distance and fraction of isolated atoms",
}


def atom_section_images(image: str, files: Mapping[str, Path]) -> dict[str, Markup]:
    """Return the pictures of the section of an image."""
    return {
        name: as_image(path, "parity" if name in _MAPS else "chart", f"{_TEXTS[name]} of {image}")
        for name, path in files.items()
    }


def write_atom_report(
    path: Path,
    record: Mapping[str, Any],
    dispersion: pd.DataFrame,
    pictures: Mapping[str, Mapping[str, Markup]],
    charts: Mapping[str, Path],  # name of a figure of `atom_figures.run_figures` → its SVG file
    samples: SampleComparison | None = None,  # samples compared, if there are several
    note: str = "",  # what a reader should know first
) -> Path:
    """Write the report of a run for single atoms.

    Raises `AtomicityError` if the file can not be written.
    """
    done = [image for image in record["images"] if image["status"] == "done"]
    html = get_template("atoms.html.j2").render(
        record=record,
        record_json=to_json(record),
        n_atoms=sum(image["atoms"] or 0 for image in done),
        has_stacks="frames" in dispersion and any(dispersion["frames"] > dispersion["images"]),
        rows=[_row(row) for row in dispersion.to_dict("records")],
        charts=atom_section_images("all images", charts),
        samples=sample_context(samples),
        note=note,
        failed=[image for image in record["images"] if image["status"] == "failed"],
        images=[
            {"outcome": image, **pictures[image["image"]]}
            for image in done
            if image["image"] in pictures
        ],
        methods=describe_atom_methods(record, done),
        loading=_stated_loading(record["parameters"]),
    )
    return write_text(path, html)


def _row(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return a row of the table of the report as text."""

    def _number(name: str, digits: int = 2, factor: float = 1.0) -> str:
        value = row.get(name, np.nan)
        return f"{factor * value:.{digits}f}" if pd.notna(value) else "–"

    def _interval(name: str, unit: str, digits: int = 2) -> str:
        low, high = (_number(f"{name}_{end}_{unit}", digits) for end in ("low", "high"))
        return f"{_number(f'{name}_{unit}', digits)} ({low}–{high})"

    known = pd.notna(row.get("density_per_nm2", np.nan))
    complete = pd.notna(row.get("density_complete_per_nm2", np.nan))
    bound = "≥ " if row.get("density_is") == BOUND else ""
    share, low, high = (
        _number(f"completeness{end}", 0, 100) for end in ("", "_low", "_high")
    )  # fmt: skip
    frames = row.get("frames", 1)
    of_frames = f" ({frames:.0f} frames)" if row.get("images", 1) == 1 and frames > 1 else ""
    tested, images = row.get("completeness_images", 1), row.get("images", 1)
    of_images = f", {tested:.0f} of {images} images" if tested < images else ""
    return {
        "image": f"{row['image']}{of_frames}",
        "n_atoms": str(row["n_atoms"]),
        "support": _number("support_nm2", 0),
        "density": bound + _interval("density", "per_nm2", 3) if known else "–",
        "counted": _number("density_counted_per_nm2", 3),
        "neighbour": _interval("nearest_neighbour_median", "nm") if known else "–",
        "isolated": f"{_number('share_isolated', 0, 100)} %" if known else "–",
        "completeness": "–" if share == "–" else f"{share} % ({low}–{high}){of_images}",
        "complete": _interval("density_complete", "per_nm2") if complete else "–",
        **_group_cells(row),
    }


def _group_cells(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return the cells of the second table: groups and metal loading."""
    bound = (
        "≥ " if row.get("density_is") == BOUND and row.get("loading_is") == NOT_CORRECTED else ""
    )
    size = row.get("group_size_max", np.nan)
    return {
        "groups": "–" if pd.isna(size) else f"{row['groups']:.0f}",
        "largest": "–" if pd.isna(size) else f"{size:.0f}",
        "extent": _format_interval(row, "group_extent_mean{}_nm"),
        "largest_extent": _format_interval(row, "group_extent_max{}_nm"),
        "loading": _format_interval(row, "loading{}_per_nm2", bound),
        "percent": _format_interval(row, "loading_wt_percent{}", bound),
    }


def _format_interval(row: Mapping[Any, Any], name: str, before: str = "") -> str:
    """Return a value and its interval, if there is one; a dash without a value."""
    value, low, high = (row.get(name.format(end), np.nan) for end in ("", "_low", "_high"))
    if pd.isna(value):
        return "–"
    return before + (f"{value:.3g}" if pd.isna(low) else f"{value:.3g} ({low:.2g}–{high:.2g})")


def describe_atom_methods(
    record: Mapping[str, Any], done: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Describe the methods of a run for single atoms, from its record."""
    settings = record["parameters"]
    by_model = [image for image in done if "model" in image["parameters"]]
    by_hand = len(done) - len(by_model)
    groups = (
        f"Atoms within {settings['group_distance_nm']:g} nm belong to the same group; its extent "
        "is the largest distance between two of its atoms, from centre to centre."
    )
    found = f"{_describe_detection(record, by_model)} {groups}" if by_model else groups
    if by_hand:
        found = f"{_describe_by_hand(done)} {found}"
    if regions := [image["parameters"]["rois"] for image in done if "rois" in image["parameters"]]:
        n = sum(one["atoms_outside"] for one in regions)
        found += (
            f" In {pluralise(len(regions), 'image')}, only given regions were analysed; "
            f"{pluralise(n, 'atom')} outside {'was' if n == 1 else 'were'} left out."
        )
    spread = (
        "Densities are sums of the probabilities divided by the area of the support without "
        "vacuum, with intervals that include detection and sampling. Distances, Ripley's L and "
        "the pair correlation are corrected for the edges of the support and compared with random "
        "atoms on it (B. D. Ripley, J. R. Stat. Soc. B 39, 172 (1977); P. J. Clark and "
        "F. C. Evans, Ecology 35, 445 (1954))."
    )
    paragraphs = [found, *_describe_marks(by_model, done), spread]
    if settings.get("completeness"):
        paragraphs.append(
            "Completeness was estimated by injection and recovery of spots of known heights (as in "
            "P. B. Stetson, Publ. Astron. Soc. Pac. 99, 191 (1987)), with a scatter of the heights "
            "of 25 to 45 %. The density of all atoms is the one that agrees with the distribution "
            "of the scores of all candidates."
        )
    if loading := _stated_loading(settings):
        paragraphs.append(_describe_loading(loading))
    return paragraphs


def _describe_detection(record: Mapping[str, Any], done: Sequence[Mapping[str, Any]]) -> str:
    """Describe how a model detected the atoms of images."""
    settings = record["parameters"]
    sizes = sorted({image["pixel_size_nm"] for image in done if image["pixel_size_nm"]})
    pixels = "" if not sizes else f" ({_span(sizes)} nm per pixel)"
    models = dict.fromkeys(image["parameters"]["model"]["model_id"] for image in done)
    if settings["threshold"] is not None:
        point = (
            f"Candidates with a probability of at least {settings['threshold']:g} were reported."
        )
    else:
        point = _describe_thresholds([image["parameters"] for image in done])
    images = f"{pluralise(len(done), 'image')}{pixels}"
    return (
        f"Single atoms were detected in {images} with napari-atomicity "
        f"{record['version']}, model {', '.join(models)}: convolutional networks on local contrast "
        "at a common sampling give candidates, which are fitted by Gaussians. Scores are "
        f"calibrated on annotations to probabilities that a person would mark an atom. {point}"
    )


def _describe_thresholds(images: Sequence[Mapping[str, Any]]) -> str:
    """Describe how the thresholds were found, from the parameters of images."""
    by_hand = [one["threshold"] for one in images if one.get(MANUAL_THRESHOLD)]
    others = [one.get("precision") for one in images if not one.get(MANUAL_THRESHOLD)]
    points = Counter(
        "candidates were reported down to a probability near that of the maximum expected F1 score"
        if precision is None
        else f"the threshold corresponds to an expected precision of {precision:g}"
        for precision in others
    )
    if by_hand:
        points[f"the threshold was set by hand ({_span(sorted(by_hand))})"] = len(by_hand)
    return " ".join(
        f"In {'each image' if len(points) == 1 else pluralise(number, 'image')}, {text}."
        for text, number in points.items()
    )


def count_marks(atoms: ImageAtoms) -> dict[str, int]:
    """Count what people have marked and drawn in an image; empty without any.

    What they have added and deleted again was no atom of the model, which they would have removed.
    """
    known = set() if atoms.analysis is None else set(atoms.analysis.candidates["atom_id"])
    present = {i: mark for i, mark in atoms.marks.items() if mark.present}
    found = {
        "added": len(present.keys() - known),
        "confirmed_or_moved": sum(i in known and not m.uncertain for i, m in present.items()),
        "removed": len((atoms.marks.keys() - present.keys()) & known),
        "uncertain": sum(mark.uncertain for mark in present.values()),
        "support_regions": len(atoms.of_image.drawn),
    }
    return {name: n for name, n in found.items() if n}


def _describe_by_hand(done: Sequence[Mapping[str, Any]]) -> str:
    """Describe how many atoms were marked in images without a model."""
    marks = [i["parameters"].get(MARKS, {}) for i in done if "model" not in i["parameters"]]
    n, unsure = (sum(one.get(name, 0) for one in marks) for name in ("added", "uncertain"))
    text = f"In {pluralise(len(marks), 'image')}, {pluralise(n, 'atom')} "
    text += f"{'was' if n == 1 else 'were'} marked by hand without a model"
    return f"{text}, {unsure} of them as uncertain." if unsure else f"{text}."


def _describe_marks(
    by_model: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Describe what people have corrected after a model; nothing if there is nothing."""
    marks = [image["parameters"].get(MARKS, {}) for image in by_model]
    total = {name: sum(one.get(name, 0) for one in marks) for name in (*_MARKED, "uncertain")}
    texts = []
    if any(total.values()):
        counted = [f"{n} {name.replace('_', ' ')}" for name, n in total.items() if n]
        texts.append(
            f"Detections were corrected by hand: {listed(counted)}. Atoms that were added, "
            "confirmed or moved count with a probability of 1, uncertain ones with one of 0.5. The "
            "density of all atoms, corrected for missed ones, and a metal loading from it are of "
            "the detections alone."
        )
    if drawn := sum("support_regions" in i["parameters"].get(MARKS, {}) for i in done):
        texts.append(f"In {pluralise(drawn, 'image')}, the support was corrected by hand.")
    return [" ".join(texts)] if texts else []


def _stated_loading(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return metal and support of the loading by weight; empty unless both are stated."""
    loading = settings.get("loading") or {}
    is_stated = loading.get("metal", NO_METAL) != NO_METAL
    return dict(loading) if is_stated and loading.get("support_thickness_nm") else {}


def _describe_loading(loading: Mapping[str, Any]) -> str:
    """Describe how the metal loading by weight is computed, and what its interval includes."""
    metal, uncertainty = loading["metal"], loading["support_thickness_uncertainty"]
    support = (
        f"a relative standard uncertainty of {100 * uncertainty:g} % of t ρ"
        if uncertainty
        else "no uncertainty of t and ρ"
    )
    return (
        f"The metal loading by weight is n M / (n M + N_A ρ t), with the density n of the "
        f"atoms per area of the support, M = {ATOMIC_WEIGHTS_G_MOL[metal]:g} g/mol ({metal}), "
        f"and a support of t = {loading['support_thickness_nm']:g} nm and "
        f"ρ = {loading['support_density_g_cm3']:g} g/cm³ as stated. Its interval includes "
        f"detection, completeness where it is known, sampling, and {support}."
    )


def _span(values: Sequence[float]) -> str:
    low, high = f"{values[0]:.4g}", f"{values[-1]:.4g}"
    return low if low == high else f"{low} to {high}"
