"""Largest simulations, far above what is of use: beyond, a wrong digit would fill the memory."""

MAX_SIZE_PX = 16384
"""Edge of an image; simulating it takes several arrays of 2 GB."""
MAX_NUMBER = 100_000
"""Images, or structures of a class."""
MAX_ATOMS = 10_000
"""Atoms of a cluster; relaxing the structure of a larger one takes many minutes."""
