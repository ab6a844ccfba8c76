from .adaptation.runs import adapt_files as adapt_files, adapt_images as adapt_images
from .adaptation.settings import AdaptRequest as AdaptRequest
from .analysis import classify_clusters as classify_clusters, detect_clusters as detect_clusters
from .atom_runs import find_atoms_in_images as find_atoms_in_images
from .measurements import measure_clusters as measure_clusters
from .run_request import AtomRequest as AtomRequest, RunRequest as RunRequest
from .runs.batch import run_batch as run_batch
from .runs.engine import analyse_images as analyse_images
from .session_labels import label_session as label_session
