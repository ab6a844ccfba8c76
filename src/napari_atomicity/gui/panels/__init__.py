"""Building blocks shared by several docks."""
