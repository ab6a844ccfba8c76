"""Readers that loop, fill the memory, or end their process; registered by tests of the limits.

They are in a module that the reader process can import.
"""

import os
import time

import numpy as np

from napari_atomicity.io.readers.raw_image import RawImage


def loop(path):
    """Loop without end, as a library does in a damaged file."""
    while True:
        pass


def sleep(path):
    """Wait in the system, as for a drive that does not answer."""
    time.sleep(3600)


def fill(path):
    """Fill the memory bit by bit."""
    return [np.ones(10_000_000) for _ in iter(int, 1)]


def declare(path):
    """Ask for more memory than there is at once."""
    return RawImage(np.zeros((1 << 20, 1 << 20)))


def crash(path):
    """End the process as an error in a C library does."""
    os.abort()


def print_much(path):
    """Print to the standard output like a careless library."""
    os.write(1, b"{}\n" * 100)
    return RawImage(np.arange(12.0).reshape(3, 4), metadata={"text": "ü\ud800"})
