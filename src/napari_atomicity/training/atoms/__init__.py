"""From micrographs with the positions of atoms to a model that finds atoms.

``python -m napari_atomicity.training.atoms --data DIR… --out MODEL`` makes the shipped one again.

Networks of the folds never see the images of their fold; what they say of these calibrates the
model and is its score. The networks of the model itself then learn from all images.
"""

from .examples import (
    AtomTrainingSettings,
    TrainingExample,
    imaging_changes,
    make_example,
    simulated_field,
    target_map,
    turned,
)
from .fit import FIELD_PX, train_network
from .judging import (
    CALIBRATED_FROM,
    FoldScores,
    calibrated_on,
    calibrations,
    f1_of,
    folds_of,
    judge,
    threshold_of,
)
from .labelled import (
    CLEAR_CONTRAST,
    COORDINATES,
    MARKED_CONTRAST,
    SAME_FIELD,
    LabelledImage,
    contrast_at_marks,
    grouped_by_field,
    read_labelled,
    read_points,
    with_own_marks,
)
from .recipe import (
    LIMITS,
    MAX_NETWORKS,
    MIN_MARKS,
    AtomRecipe,
    fold_predictions,
    fold_scores,
    judged_by,
    train_atoms,
    train_on,
)
from .shipped import ABOUT, MOLECULAR_PIXEL_NM, SHIPPED_RECIPE, SOURCES, main, shared_images

__all__ = [
    "ABOUT",
    "CALIBRATED_FROM",
    "CLEAR_CONTRAST",
    "COORDINATES",
    "FIELD_PX",
    "LIMITS",
    "MARKED_CONTRAST",
    "MAX_NETWORKS",
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
    "calibrated_on",
    "calibrations",
    "contrast_at_marks",
    "f1_of",
    "fold_predictions",
    "fold_scores",
    "folds_of",
    "grouped_by_field",
    "imaging_changes",
    "judge",
    "judged_by",
    "main",
    "make_example",
    "read_labelled",
    "read_points",
    "shared_images",
    "simulated_field",
    "target_map",
    "threshold_of",
    "train_atoms",
    "train_network",
    "train_on",
    "turned",
    "with_own_marks",
]
