"""Detection, grouping and counting of single atoms."""
