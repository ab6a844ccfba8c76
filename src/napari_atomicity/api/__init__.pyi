from .analysing import analyse as analyse
from .image_analysis import ImageAnalysis as ImageAnalysis
from .session import Analyses as Analyses, Session as Session
from .tasks import (
    adapt as adapt,
    analyse_batch as analyse_batch,
    analyse_movie as analyse_movie,
    dispersion as dispersion,
    find_atoms as find_atoms,
    train as train,
)
