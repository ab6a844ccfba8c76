"""The grid of patches in the Gallery dock."""
