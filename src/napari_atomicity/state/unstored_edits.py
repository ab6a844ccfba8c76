"""Manual edits that are in memory only."""

from __future__ import annotations

from .edits import ReplaceClusters
from .window_state import WindowState


def images_with_unstored_edits(state: WindowState) -> list[str]:
    """Return the images with manual edits that no project contains.

    Manual edits are labels, added, removed or changed clusters, excluded regions, marks of atoms,
    the support, and what was entered of the session. Results of models can be computed again.
    """
    return [image for image in state.images if has_unstored_edits(state, image)]


def has_unstored_edits(state: WindowState, image: str) -> bool:
    """Return whether an image has manual edits that no project contains."""
    if state.project is not None and state.project.has(image):
        return False
    analysis, atoms = state.analysis(image), state.atoms.of(image)
    return bool(
        state.sessions.get(image)
        or (atoms is not None and (atoms.marks or atoms.support_added or atoms.support_removed))
        or (analysis is not None and analysis.regions)
        or (analysis is not None and (analysis.table["label_corrected"] != "").any())
        or any(isinstance(edit, ReplaceClusters) for edit in state.history.edits_of(image))
    )
