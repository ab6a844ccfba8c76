from .result import Adaptation as Adaptation
from .runs import AdaptRun as AdaptRun, adapt_files as adapt_files, adapt_images as adapt_images
from .settings import AdaptRequest as AdaptRequest
