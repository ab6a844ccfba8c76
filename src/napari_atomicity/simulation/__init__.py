"""Simulate structures, images and fields with ground truth."""
