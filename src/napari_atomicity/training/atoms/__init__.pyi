from .calibration import (
    MIN_CALIBRATION_SCORE as MIN_CALIBRATION_SCORE,
    fit_calibration as fit_calibration,
    fit_calibrations as fit_calibrations,
)
from .evaluation import (
    FoldScores as FoldScores,
    choose_threshold as choose_threshold,
    match_to_marks as match_to_marks,
    score_detections as score_detections,
)
from .examples import (
    TrainingExample as TrainingExample,
    make_example as make_example,
    make_target as make_target,
    rotate_and_scale as rotate_and_scale,
    simulate_field_of_atoms as simulate_field_of_atoms,
    vary_imaging as vary_imaging,
)
from .folds import (
    FIELD_PX as FIELD_PX,
    MAX_NETWORKS as MAX_NETWORKS,
    assign_folds as assign_folds,
    predict_folds as predict_folds,
    predict_held_out as predict_held_out,
    train_network as train_network,
)
from .labelled import (
    COORDINATES as COORDINATES,
    LabelledImage as LabelledImage,
    read_labelled as read_labelled,
    read_points as read_points,
)
from .run import (
    LIMITS as LIMITS,
    MIN_MARKS as MIN_MARKS,
    score_folds as score_folds,
    train_atoms as train_atoms,
    train_on_images as train_on_images,
)
from .settings import AtomRecipe as AtomRecipe, AtomTrainingSettings as AtomTrainingSettings
