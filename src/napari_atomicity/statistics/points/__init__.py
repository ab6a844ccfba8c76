"""Statistics of point patterns: neighbours, groups and dispersion of single atoms."""
