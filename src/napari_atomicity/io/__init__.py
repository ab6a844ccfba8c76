"""Read images and tables; write tables."""
