"""Plots of tables: each draws into the axes of a figure."""
