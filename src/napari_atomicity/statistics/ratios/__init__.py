"""Class ratios with their intervals."""
