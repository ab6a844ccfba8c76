"""Structures, image formation, and fields with ground truth."""
