"""
Class fractions with intervals
==============================

Compare the methods for class fractions, and write them as the table of a sample.
"""

# %%
# Three methods
# -------------
# The default counts labels. Two further methods adjust the fractions for errors of the model:
# ``confusion`` by the confusion matrix of held-out images, ``em`` by expectation-maximisation.

import matplotlib.pyplot as plt
import pandas as pd

from napari_atomicity import analyse
from napari_atomicity.simulation.example_data import example_path, example_truth_path

analysis = analyse(example_path(), device="cpu", umap=False)
methods = ["counted", "confusion", "em"]
fractions = {method: analysis.ratios(method=method, scope="all") for method in methods}

figure, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
for one, method in zip(axes, methods, strict=True):
    analysis.plot_ratios(one, method=method)
    one.set_title(method)
plt.show()

# %%
# Comparison with the truth
# -------------------------
# The true labels of the bundled example are known.

truth = pd.read_csv(example_truth_path())
whole = truth[~truth["touches_border"].astype(bool)]
expected = whole["label"].value_counts(normalize=True)
table = pd.DataFrame(
    {method: one.set_index("class")["fraction"] for method, one in fractions.items()}
)
print(table.assign(truth=expected).round(3))

# %%
# Table of a sample
# -----------------
# A row per class with the fraction and its 95 % interval in per cent.

counted = fractions["counted"]
counted = counted[counted["fraction"].notna()]
sample = pd.DataFrame(
    {
        "class": counted["class"],
        "clusters": counted["count"],
        "fraction / %": [
            f"{100 * f:.0f} ({100 * low:.0f} to {100 * high:.0f})"
            for f, low, high in zip(
                counted["fraction"], counted["fraction_low"], counted["fraction_high"], strict=True
            )
        ],
    }
)
print(sample.to_string(index=False))
