"""The viewer and the session: layers, keys and the mouse on one side, edits on the other."""
