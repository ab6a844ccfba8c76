"""Reading and writing of images, tables, units and records."""
