"""Rows and view of the Table dock."""
