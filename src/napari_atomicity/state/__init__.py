"""The state of one window: images, edits and undo, selection, review queue."""
