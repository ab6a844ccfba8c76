"""Detect, outline and measure clusters; cut patches.

Modules are loaded on first use, so that the settings need no SciPy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
