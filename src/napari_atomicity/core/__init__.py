"""Data structures and helpers that everything else uses."""
