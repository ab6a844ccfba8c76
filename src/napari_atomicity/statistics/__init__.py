"""Statistics: class ratios, agreement, scores against ground truth, and point patterns."""
