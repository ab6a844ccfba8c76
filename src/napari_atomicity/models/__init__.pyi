from .analysis import Analysis as Analysis
from .files import find_model as find_model, read_model as read_model, save_model as save_model
from .inference import Classifier as Classifier, load_classifier as load_classifier
from .threshold_classifier import ThresholdClassifier as ThresholdClassifier
