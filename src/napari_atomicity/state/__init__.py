"""The state of a window: images, edits, undo, review."""
