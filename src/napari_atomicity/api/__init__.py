"""What a notebook or a script uses: analyses with plots, sessions, training, atoms, movies.

The public names are those of `napari_atomicity`. This folder is above the window, since
`ImageAnalysis.open_in` opens a viewer, and above `pipeline` and `reporting`, since analyses plot
and save themselves there. The data of an analysis stay in `models.analysis.Analysis`, which every
folder uses; `ImageAnalysis` adds methods and no data. Packages that are needed by one method only,
such as matplotlib, napari or hyperspy, are imported by this method.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
