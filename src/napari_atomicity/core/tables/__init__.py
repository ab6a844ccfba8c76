"""Columns of tables, and the cluster table."""
