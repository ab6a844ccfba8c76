"""
First analysis
==============

Detect the clusters of an image, classify them by their number of atoms, and show the fractions of
the classes.
"""

# %%
# Analyse an image
# ----------------
# ``analyse`` takes the path of an image, here that of the bundled example: a simulated field of
# platinum clusters. A file with a calibration needs nothing else.

import matplotlib.pyplot as plt

from napari_atomicity import analyse, load
from napari_atomicity.simulation.example_data import example_path

analysis = analyse(example_path(), device="cpu")
print(analysis)

# %%
# ``plot`` shows the image with the outline and the label of each cluster.

analysis.plot()
plt.show()

# %%
# The cluster table
# -----------------
# ``table`` is a pandas DataFrame with a row per cluster.

columns = ["cluster_id", "y_nm", "x_nm", "diameter_nm", "label", "confidence"]
print(analysis.table[columns].head())

# %%
# Class fractions
# ---------------
# ``ratios`` counts the classes. Intervals contain counting errors and classification errors.

print(analysis.ratios(scope="all")[["class", "count", "fraction", "fraction_low", "fraction_high"]])

analysis.plot_ratios()
plt.show()

# %%
# Arrays and signals
# ------------------
# Images in memory are analysed in the same way. An array needs its pixel size. HyperSpy signals and
# xarray objects have a calibration of their own.

pixels = load(example_path()).data
print(analyse(pixels, pixel_size_nm=0.036, device="cpu", umap=False))
