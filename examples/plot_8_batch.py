"""
Many images on dask
===================

Analyse a folder on several processes, or on a cluster. An interrupted run resumes.
"""

# %%
# ``analyse_batch`` writes its results to a folder while it runs, and keeps no image in memory. Its
# workers are new processes, therefore a script needs ``if __name__ == "__main__":``. The address
# of a dask scheduler, ``scheduler="tcp://…"``, replaces the processes of this computer.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from napari_atomicity import analyse_batch
from napari_atomicity.simulation.example_data import make_session

if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp())
    images = make_session(folder / "images")
    run = analyse_batch(images, folder / "results", device="cpu", workers=1, umap=False)
    for outcome in run.outcomes:
        print(outcome.image, outcome.status, outcome.clusters)

# %%
# A second run analyses new and changed images only.

if __name__ == "__main__":
    again = analyse_batch(images, folder / "results", device="cpu", workers=1, umap=False)
    print(sorted(path.name for path in again.files))

# %%
# The results are tables that any program reads.

if __name__ == "__main__":
    table = pd.read_parquet(folder / "results" / "clusters.parquet")
    table.plot.scatter("diameter_nm", "integrated_intensity")
    plt.show()
