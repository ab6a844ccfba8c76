"""Class ratios with intervals, agreement, scores, point patterns."""
