"""
A movie
=======

Track the clusters of a stack of frames, and find when they change their size.
"""

# %%
# Analyse the frames
# ------------------
# A stack has the shape (T, Y, X). Its clusters are linked from frame to frame, after correction of
# the drift of the stage. The movie of this example is simulated.

import matplotlib.pyplot as plt

from napari_atomicity import analyse, analyse_movie
from napari_atomicity.simulation.example_data import make_movie

stack = make_movie()
analysis = analyse(stack, device="cpu", umap=False)
print(analysis)

# %%
# Tracks
# ------
# ``analyse_movie`` smooths the labels of each track by a hidden Markov model: a single wrong label
# is no event. It also takes the path of a file.

movie = analyse_movie(analysis)
print(movie.table[["track_id", "frame", "time_s", "label", "label_smoothed"]].head())

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for track, rows in movie.table.groupby("track_id"):
    axes.plot(rows["time_s"], rows["n_smoothed"], marker="o", markersize=3, label=f"{track}")
axes.set(xlabel="Time / s", ylabel="Atoms per cluster")
axes.legend(title="Track", ncols=2, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
plt.show()

# %%
# Events and rates
# ----------------

print(movie.events)
rate, low, high = movie.rate
print(f"{rate:.3f} ({low:.3f} to {high:.3f}) changes per cluster, in {movie.unit}")

# %%
# Drift of the stage
# ------------------

print(movie.drift.table(movie.image, movie.frame_time_s).head())
