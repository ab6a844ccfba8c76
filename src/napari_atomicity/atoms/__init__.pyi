from .analysis import AtomAnalysis as AtomAnalysis, find_atoms as find_atoms
from .dispersion import (
    DispersionSettings as DispersionSettings,
    compute_dispersions as compute_dispersions,
)
from .finding.finder import load_atom_model as load_atom_model
from .marks import ImageAtoms as ImageAtoms
