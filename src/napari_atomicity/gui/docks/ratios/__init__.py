"""The parts of the Ratios dock."""
