"""Clusters on the canvas: labels, edits and excluded regions."""
