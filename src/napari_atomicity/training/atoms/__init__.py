"""From micrographs with the positions of atoms to a model that finds atoms.

``python -m napari_atomicity.training.atoms --data DIR… --out MODEL`` makes the shipped model again.

The networks of a fold are not trained on the images of that fold. Their predictions on these
images calibrate the model and give its scores. The networks of the model itself are then trained
on all images.
"""

from .calibration import MIN_CALIBRATION_SCORE, fit_calibration, fit_calibrations
from .evaluation import FoldScores, choose_threshold, match_to_marks, score_detections
from .examples import (
    TrainingExample,
    make_example,
    make_target,
    rotate_and_scale,
    simulate_field_of_atoms,
    vary_imaging,
)
from .fit import FIELD_PX, train_network
from .folds import MAX_NETWORKS, assign_folds, predict_folds, predict_held_out
from .labelled import (
    CLEAR_CONTRAST,
    COORDINATES,
    MARKED_CONTRAST,
    SAME_FIELD,
    LabelledImage,
    contrast_at_marks,
    group_by_field,
    read_labelled,
    read_points,
    reassign_marks,
)
from .run import LIMITS, MIN_MARKS, score_folds, train_atoms, train_on_images
from .settings import AtomRecipe, AtomTrainingSettings
from .shipped import ABOUT, MOLECULAR_PIXEL_NM, SHIPPED_RECIPE, SOURCES, main, read_shared_images

__all__ = [
    "ABOUT",
    "CLEAR_CONTRAST",
    "COORDINATES",
    "FIELD_PX",
    "LIMITS",
    "MARKED_CONTRAST",
    "MAX_NETWORKS",
    "MIN_CALIBRATION_SCORE",
    "MIN_MARKS",
    "MOLECULAR_PIXEL_NM",
    "SAME_FIELD",
    "SHIPPED_RECIPE",
    "SOURCES",
    "AtomRecipe",
    "AtomTrainingSettings",
    "FoldScores",
    "LabelledImage",
    "TrainingExample",
    "assign_folds",
    "choose_threshold",
    "contrast_at_marks",
    "fit_calibration",
    "fit_calibrations",
    "group_by_field",
    "main",
    "make_example",
    "make_target",
    "match_to_marks",
    "predict_folds",
    "predict_held_out",
    "read_labelled",
    "read_points",
    "read_shared_images",
    "reassign_marks",
    "rotate_and_scale",
    "score_detections",
    "score_folds",
    "simulate_field_of_atoms",
    "train_atoms",
    "train_network",
    "train_on_images",
    "vary_imaging",
]
