"""The dock Adapt."""
