"""Packs for annotators: made, filled in and read back."""
