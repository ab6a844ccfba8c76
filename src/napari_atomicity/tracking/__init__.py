"""Stacks over time: drift, tracks, events, dwell times.

Modules are loaded on first use, so that the tracks of a project need no SciPy statistics.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
