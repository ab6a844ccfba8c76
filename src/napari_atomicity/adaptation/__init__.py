"""Adaptation: a model learns the conditions of the images at hand."""
