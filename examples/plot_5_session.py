"""
A session with a known sample
=============================

Analyse images that were recorded alike together. A sample of known composition fixes the intensity
of one atom for all of them.
"""

# %%
# The images
# ----------
# Four images of one session: two mixtures, and two size-selected references.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from napari_atomicity import analyse
from napari_atomicity.simulation.example_data import make_session

folder = make_session(Path(tempfile.mkdtemp()) / "2026-11-20")
print(sorted(path.name for path in folder.iterdir()))

# %%
# Analyse the folder
# ------------------
# ``known`` names the composition of the references. The clusters of all images are labelled with
# one intensity per atom, from which each image deviates a little.

analyses = analyse(folder, known=["ref_1.tif=Pt55", "ref_2.tif=Pt19"], device="cpu", umap=False)
print(analyses)

for analysis in analyses:
    print(analysis)

# %%
# Sessions
# --------
# Images are grouped by folder, pixel size and settings of the instrument.

for name, session in analyses.sessions.items():
    print(name, session.images, session.known)
    print(session.intensity_per_atom)

# %%
# Joined tables and fractions
# ---------------------------

print(analyses.table.groupby(["image", "label"]).size().unstack(fill_value=0))

analyses.plot_ratios()
plt.show()

# %%
# A report of all images
# ----------------------

for path in analyses.save(folder / "results"):
    print(path.name)
