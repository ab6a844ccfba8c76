"""
Single atoms and their dispersion
=================================

Find single atoms, and measure how they are distributed on the support, their groups, and the metal
loading.
"""

# %%
# Find atoms
# ----------

import matplotlib.pyplot as plt

from napari_atomicity import dispersion, find_atoms
from napari_atomicity.atoms.dispersion import DispersionSettings
from napari_atomicity.simulation.example_data import atom_example_path
from napari_atomicity.statistics.points.atom_groups import group_table
from napari_atomicity.statistics.points.loading_settings import LoadingSettings

atoms = find_atoms(atom_example_path(), device="cpu")
print(atoms)
print(atoms.table[["atom_id", "y_nm", "x_nm", "confidence", "nearest_neighbour_nm"]].head())

# %%
# The threshold of the probability decides which candidates are reported. ``expected`` estimates
# precision and recall at this threshold.

print(atoms.threshold, atoms.expected)

figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
size = atoms.pixel_size_nm
height, width = atoms.micrograph.shape_px
axes.imshow(atoms.micrograph.data, cmap="gray", extent=(0, width * size, height * size, 0))
axes.plot(atoms.table["x_nm"], atoms.table["y_nm"], "o", mfc="none", mec="tab:orange", ms=6)
axes.set(xlabel="x / nm", ylabel="y / nm")
plt.show()

# %%
# Dispersion
# ----------
# Density on the support, fraction of isolated atoms, and tests against a random pattern. More
# simulations give smaller p values.

found = dispersion(atoms, DispersionSettings(simulations=49))
row = found.rows().iloc[0]
print(f"{row['density_per_nm2']:.2f} atoms per nm² ", end="")
print(f"({row['density_low_per_nm2']:.2f} to {row['density_high_per_nm2']:.2f})")
print(f"isolated: {100 * row['share_isolated']:.0f} %")
print(f"Clark-Evans index: {row['clark_evans']:.2f} (p = {row['clark_evans_p']:.2f})")

# %%
# Groups and metal loading
# ------------------------
# Number of atoms and extent in nm of the largest groups. The loading in wt% is for a stated
# thickness and density of the support; 20 % is the uncertainty of the thickness.

groups = group_table(found.table)
print(groups.nlargest(5, "n_atoms")[["group_id", "kind", "n_atoms", "extent_nm"]])
support = LoadingSettings(
    "Pt",
    support_thickness_nm=3.0,
    support_density_g_cm3=2.0,
    support_thickness_uncertainty=0.2,
)
row = found.rows(support).iloc[0]
print(f"{row['loading_wt_percent']:.1f} wt% Pt ", end="")
print(f"({row['loading_wt_percent_low']:.1f} to {row['loading_wt_percent_high']:.1f})")
