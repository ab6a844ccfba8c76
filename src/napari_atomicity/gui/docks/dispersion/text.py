"""Messages of the dock Dispersion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ....atoms.dispersion import DispersionResults
from ....core.micrograph import GIVEN, Micrograph, counted_averages, describe_copies
from ....core.text import pluralise

NO_ATOMS = "No atoms yet: find them in the dock Atoms, or mark them manually."
NOT_REVIEWED = (
    "{} has no marks of {} yet. Mark its atoms, or set it as reviewed if it has none (dock "
    "Annotators)."
)
NONE_REVIEWED = (
    "No image is reviewed by {} yet. Mark the atoms of one, or set it as reviewed if it has none "
    "(dock Annotators)."
)
OUTDATED = (
    "the pixel size of {} has changed since its atoms were found. Find them again in the dock "
    "Atoms."
)
UNREAD = "{} cannot be read: Browse gives the reason."
NO_PIXEL_SIZE = (
    "The pixel size of {} is unknown, so there is no density per nm². Enter the pixel size in the "
    "dock Atoms, which proposes one."
)


def format_reasons(reasons: dict[str, str]) -> str:
    """Format why images have no dispersion, and what to do."""
    text = "; ".join(f"{image}: {reason}" for image, reason in reasons.items())
    return f"{text}. The support can be drawn in the dock Atoms."


def format_left_out(
    found: DispersionResults,
    images: int,
    outdated: Sequence[str],
    annotator: str = "",  # who works in blind mode
    micrographs: Mapping[str, Micrograph] | None = None,
    excluded: Sequence[str] = (),  # images with regions that are excluded for clusters
) -> str:
    """Format which images are left out, in which most detections are, and what counts twice."""
    without = found.reasons
    counted = [m for i, m in (micrographs or {}).items() if i in found.of and i not in without]
    lines = []
    unseen = images - len(found.of) - len(outdated)
    if unseen > 0:
        why = f"not reviewed by {annotator}" if annotator else "atoms have not been searched there"
        lines.append(f"{unseen} of {images} images left out: {why} yet.")
    if outdated:
        lines.append(f"Left out: {OUTDATED.format(', '.join(outdated))}")
    if without:
        lines.append("Left out: " + "; ".join(f"{i}: {why}" for i, why in without.items()) + ".")
    lines += [f"{i}: {s.reason}." for i, s in found.of.items() if s.reason and i not in without]
    stacks = [m.name for m in counted if m.n_frames > 1]
    if stacks and len(counted) > 1:
        lines.append(
            f"{', '.join(stacks)} {'counts' if len(stacks) == 1 else 'count'} once, as the mean "
            "frame; plots show the atoms of all frames."
        )
    elif stacks:
        lines.append(
            f"Numbers and areas are sums over the {counted[0].n_frames} frames; densities and "
            "distances are those of a frame."
        )
    if averages := counted_averages(counted):
        lines.append(
            f"{', '.join(averages)}: the atoms of a movie that is counted too. Remove the movie, "
            "or the layer of the average, to count each atom once."
        )
    if copies := describe_copies(m.sha256 for m in counted):
        lines.append(copies)
    if n := sum(m.origin_of_pixel_size == GIVEN for m in counted):
        lines.append(
            f"{pluralise(n, 'image has', 'images have')} a pixel size that a person has entered: "
            "intervals do not include its error, and densities change with its square."
        )
    lines += _format_mostly_left_out(found)
    if regions := [image for image in excluded if image in found.of]:
        lines.append(
            f"The excluded regions of {', '.join(regions)} are for clusters: their atoms count. "
            "To leave these out, take the support away in the dock Atoms."
        )
    if added := _count_added(found):
        lines.append(
            f"{pluralise(added, 'atom')} added by hand: the density counts atoms that the model "
            "is expected to miss, so it grows only if more are added."
        )
    return " ".join(lines)


def _format_mostly_left_out(found: DispersionResults) -> list[str]:
    """Say in which images most detections are left out, and on what the figures rest there."""
    statistics = {i: one.dispersion for i, one in found.of.items() if one.dispersion is not None}
    images = [i for i, one in statistics.items() if one.n_off_support > one.n_atoms]
    if not images:
        return []
    others = pd.concat([found.of[image].table["confidence"] for image in images])
    mean = others.mean()  # NaN of marks by hand alone
    probable = f" with a mean probability of {mean:.2f}" if mean == mean else ""
    return [
        f"Most detections in {', '.join(images[:3])}{' …' if len(images) > 3 else ''} are on "
        f"bright clusters or off the support: the figures rest on {len(others)} others{probable}, "
        "of which some may be noise. Check the support in the dock Atoms, and the isolated "
        "atoms in Atoms per cluster; remove the image if they are none."
    ]


def _count_added(found: DispersionResults) -> int:
    """Count the atoms that people added beside those of a model."""
    return sum(
        int((~one.table["atom_id"].isin(one.atoms.analysis.candidates["atom_id"])).sum())
        for one in found.of.values()
        if one.atoms.analysis is not None and not one.atoms.is_decided
    )
