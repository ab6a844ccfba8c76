from .point_scores import evaluate_points as evaluate_points
from .ratios.ratios import class_ratios as class_ratios
from .ratios.reference import compare as compare
