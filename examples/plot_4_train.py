"""
Train a model
=============

Train a model of your own on size-selected images, and use it.
"""

# %%
# Images of known clusters
# ------------------------
# A folder per class contains images of clusters of this class only, for example from a
# size-selected cluster source. Here they are simulated, and few, so that the example is fast.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from napari_atomicity import analyse, train
from napari_atomicity.simulation.example_data import make_size_selected

folder = Path(tempfile.mkdtemp())
data = make_size_selected(folder / "data", n_images=2)
for path in sorted(data.glob("*/*.tif")):
    print(path.relative_to(data))

# %%
# Train
# -----
# Training starts from the weights of the shipped model, which needs few images. One epoch is enough
# for this example; omit ``epochs`` for real data. The card of the model contains its scores.

card = train(data, folder / "my_model.safetensors", channels=["raw"], epochs=1, device="cpu")
print(card.name, card.classes)

# %%
# Use the model
# -------------

image = data / "Pt55" / "0.tif"
analysis = analyse(image, model=folder / "my_model.safetensors", device="cpu", umap=False)
analysis.plot()
plt.show()
