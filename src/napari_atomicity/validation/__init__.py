"""Comparison of methods on images of known classes: cross-validation, mixtures, new conditions.

`validate` does all of it, as the command ``atomicity validate``, and `measure_learning_curve` shows
how many training images are needed. `methods` holds the methods that
are compared, to which others can be added. `write_benchmark` writes public images with truth, and
`score_benchmark` scores any method on them, as ``atomicity benchmark``. Modules are loaded
on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
