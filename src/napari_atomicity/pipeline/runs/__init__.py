"""Analysis of many images: one after the other, on processes, or on a dask scheduler."""
