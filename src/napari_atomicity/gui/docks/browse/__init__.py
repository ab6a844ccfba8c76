"""The parts of the Browse dock."""
