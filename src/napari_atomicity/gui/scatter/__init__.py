"""The map and the plots: drawn, picked, hovered over, saved."""
