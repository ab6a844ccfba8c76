"""Names of `Project` in version 0.1."""

RENAMED = {
    "describe": "image_files.update_metadata",
    "fail": "image_files.set_error",
    "set_pixel_size": "image_files.set_pixel_size",
    "name_at": "image_files.name_at",
    "missing": "image_files.missing",
    "find_moved": "image_files.find_moved",
    "relocate": "image_files.relocate",
    "add_model": "model_files.add",
    "models": "model_files.names",
    "model_file": "model_files.read",
    "format_blind": "blind_labels",
    "by_hand": "manual_edits",
    "places": "positions",
    "marks": "atoms.marks",
    "blind_marks": "atoms.blind_marks",
    "annotations": "atoms.annotations",
    "take_in_marks": "atoms.add_marks",
    "free_atom_ids": "atoms.free_ids",
    "mark_as_viewed": "atoms.mark_as_viewed",
}
"""Name in version 0.1 → where it is now."""
