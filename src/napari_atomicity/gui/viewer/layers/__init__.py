"""Layers of an image: what napari shows, and how it is drawn."""
