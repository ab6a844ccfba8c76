"""Class ratios with intervals, and scores against a ground truth."""
