"""
Correct and export
==================

Replace wrong labels by your own, and write tables and a report.
"""

# %%
# Find doubtful clusters
# ----------------------
# Clusters with a low confidence are worth a look.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from napari_atomicity import analyse
from napari_atomicity.simulation.example_data import example_path

analysis = analyse(example_path(), device="cpu")
doubtful = analysis.table.sort_values("confidence").head(3)
print(doubtful[["cluster_id", "label", "confidence", "diameter_nm"]])

# %%
# Look at one of them
# -------------------
# ``patches`` contains what the network sees of each cluster.

row = int(doubtful.index[0])
figure, axes = plt.subplots(1, len(analysis.patches), figsize=(6, 3))
for one, (channel, patches) in zip(axes, analysis.patches.items(), strict=True):
    one.imshow(patches[row], cmap="gray")
    one.set(title=channel, xticks=[], yticks=[])
plt.show()

# %%
# Correct labels
# --------------
# An analysis does not change: ``correct`` returns another one. The prediction stays in the column
# ``label_predicted``.

corrected = analysis.correct(int(doubtful["cluster_id"].iloc[0]), "Pt41")
columns = ["cluster_id", "label", "label_predicted", "label_corrected"]
print(corrected.table.loc[[row], columns])

# %%
# An empty label removes the correction.

print(corrected.correct(int(doubtful["cluster_id"].iloc[0]), "").table.loc[[row], columns])

# %%
# Write tables and report
# -----------------------
# ``save`` writes the files of the command ``atomicity analyse``.

folder = Path(tempfile.mkdtemp())
for path in corrected.save(folder):
    print(path.name)

# %%
# ``corrected.open_in(viewer)`` shows the analysis in napari, where labels are corrected by keys.
# ``corrected.to_hyperspy()`` returns a HyperSpy signal with a marker on each cluster.
