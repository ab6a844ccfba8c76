"""From files to tables: images, batches, watched folders, adaptation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
