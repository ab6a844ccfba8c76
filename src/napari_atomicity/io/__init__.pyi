from .images import find_images as find_images, load as load
from .readers.arrays import micrograph_of as micrograph_of
from .tables import (
    read_clusters as read_clusters,
    read_reference as read_reference,
    read_table as read_table,
    write_clusters as write_clusters,
    write_ratios as write_ratios,
    write_table as write_table,
)
