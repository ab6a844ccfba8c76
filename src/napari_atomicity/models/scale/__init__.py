"""Intensity of one atom: the scale of an image and of a session."""
