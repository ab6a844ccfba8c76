"""Data structures and helpers that everything else rests on."""
