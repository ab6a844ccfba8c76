"""Data structures and helpers of the whole package."""
