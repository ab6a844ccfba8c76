"""From micrographs with the positions of atoms to a model that finds atoms.

``python tools/make_atom_model.py --data DIR… --out MODEL`` makes the shipped model again.

The networks of a fold are not trained on the images of that fold. Their predictions on these
images calibrate the model and give its scores. The networks of the model itself are then trained
on all images.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
