"""Train models from images, corrections or simulation.

Modules are loaded on first use: most of them need torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
