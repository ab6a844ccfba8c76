"""Parts of the Live dock."""
