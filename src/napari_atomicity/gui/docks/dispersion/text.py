"""Messages of the dock Dispersion."""

from __future__ import annotations

from ....atoms.dispersion import DispersionResults

NO_ATOMS = "No atoms yet: find them in the dock Atoms, or mark them manually."
OUTDATED = (
    "The pixel size of {} has changed since its atoms were found. Find them again in the dock "
    "Atoms."
)
NO_PIXEL_SIZE = (
    "The pixel size of {} is unknown, so there is no density per nm². Enter the pixel size in the "
    "dock Atoms, which proposes one."
)


def format_reasons(reasons: dict[str, str]) -> str:
    """Format why images have no dispersion, and what to do."""
    text = "; ".join(f"{image}: {reason}" for image, reason in reasons.items())
    return f"{text}. The support can be drawn in the dock Atoms."


def format_left_out(found: DispersionResults, images: int) -> str:
    """Format which images are left out, and in which most detections are."""
    without = found.reasons
    lines = []
    unseen = images - len(found.of)
    if unseen > 0:
        lines.append(
            f"{unseen} of {images} images left out: atoms have not been searched there yet."
        )
    if without:
        lines.append("Left out: " + "; ".join(f"{i}: {why}" for i, why in without.items()) + ".")
    statistics = {i: one.dispersion for i, one in found.of.items() if one.dispersion is not None}
    few = [i for i, one in statistics.items() if one.n_off_support > one.n_atoms]
    if few:
        lines.append(
            f"Most detections in {', '.join(few[:3])}{' …' if len(few) > 3 else ''} are on bright "
            "clusters or off the support: the figures rest on the few others. Check the support "
            "in the dock Atoms."
        )
    return " ".join(lines)
