"""Adaptation of a network to new conditions: pseudo-labels, fine-tuning, and whether it is kept."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
