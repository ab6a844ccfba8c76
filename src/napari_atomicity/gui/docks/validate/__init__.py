"""The dock Validate."""
